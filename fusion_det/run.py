"""``python -m fusion_det.run``: the main job. The same as ``fusion-det run``."""

from __future__ import annotations

from typing import Any

from fusion_det.cli import main


def _app() -> Any:
    import typer

    from fusion_det.cli.run import run

    app = typer.Typer(
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
        add_completion=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.command()(run)
    return app


if __name__ == "__main__":
    main(app=_app)
