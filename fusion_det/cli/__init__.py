"""The ``fusion-det`` command: one small module a verb, imported when it is used."""

from __future__ import annotations

import errno
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any, NoReturn

from fusion_det.errors import FusionDetError

_CANNOT_WRITE = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ENOTDIR, errno.EEXIST}
"""What a folder given for output can be blamed for; any other failure of the system is told in full."""


def _app() -> Any:
    import typer

    from fusion_det.cli import (
        ablation,
        data,
        doctor,
        efficiency,
        explain,
        fuse,
        methods,
        quality,
        report,
        run,
        splits,
        status,
        train_fusion,
        weights,
    )

    app = typer.Typer(
        name="fusion-det",
        help="Which infrared/visible image fusion helps an object detector most, by how much, and is the difference real?",
        epilog="Example: fusion-det run --methods all (the demo, if no dataset is in place), then open the page it names.",
        no_args_is_help=True,
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.command("run")(run.run)
    app.command("methods")(methods.methods)
    app.add_typer(weights.app, name="weights")
    app.add_typer(data.app, name="data")
    app.add_typer(splits.app, name="splits")
    app.command("fuse")(fuse.fuse)
    app.command("train-fusion")(train_fusion.train_fusion)
    app.command("explain")(explain.explain)
    app.command("efficiency")(efficiency.efficiency)
    app.command("quality")(quality.quality)
    app.command("ablation")(ablation.ablation)
    app.command("report")(report.report)
    app.command("status")(status.status)
    app.command("doctor")(doctor.doctor)
    return app


def main(arguments: Sequence[str] | None = None, app: Callable[[], Any] = _app) -> NoReturn:
    """Run the command line. Errors a user can mend are printed without a traceback and end with exit code 2."""
    from fusion_det.cli.console import console

    # Before torch is imported: OpenMP threads that spin while they wait starve the threads that read and write images.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    # A polite kill (a batch system's, say) ends like Ctrl-C: subprocesses stopped, whole results kept.
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        app()(args=list(sys.argv[1:] if arguments is None else arguments), standalone_mode=True)
    except FusionDetError as error:
        console(stderr=True).print(f"[bold red]error:[/] {_escaped(str(error))}", soft_wrap=True)
        sys.exit(2)
    except OSError as error:
        if error.filename is None or error.errno not in _CANNOT_WRITE:
            raise
        console(stderr=True).print(
            f"[bold red]error:[/] {_escaped(str(error.filename))}: {error.strerror}; choose another folder, or make room there",
            soft_wrap=True,
        )
        sys.exit(2)
    sys.exit(0)


def _interrupt(signum: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _escaped(text: str) -> str:
    from rich.markup import escape

    return escape(text)
