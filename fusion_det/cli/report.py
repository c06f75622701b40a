"""``fusion-det report``: make a report again from what an experiment left behind, or compare two."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fusion_det.cli.console import RichProgress, console
from fusion_det.errors import ConfigError

if TYPE_CHECKING:
    from fusion_det.pipeline.results import ExperimentResults

_EXAMPLES = """Examples:

  fusion-det report table_vi

  fusion-det report table_vi --out /tmp/for-the-group --open

  fusion-det report --compare table_vi table_vi-80-epochs > comparison.md"""


def report(
    experiment: Annotated[
        str | None,
        typer.Argument(help="Name of the experiment, or a results.json. Left out: the only one there is."),
    ] = None,
    runs: Annotated[Path, typer.Option(metavar="DIR", help="Where experiments are kept.")] = Path("runs"),
    reports: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder of reports; this one is written to DIR/EXPERIMENT.")
    ] = Path("reports"),
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write the report to exactly this folder.", show_default="REPORTS/EXPERIMENT"),
    ] = None,
    compare: Annotated[
        tuple[str, str] | None,
        typer.Option(metavar="A B", help="Print the difference of two experiments on the same data and split instead."),
    ] = None,
    open_page: Annotated[bool, typer.Option("--open/--no-open", help="Open the page in a browser.")] = False,
) -> None:
    """Make the report of an experiment again from its results, or compare two experiments."""
    if compare is not None:
        _compare(compare, experiment, runs, out)
        return
    from fusion_det.pipeline.experiment import write_report

    results = load_results(experiment, runs)
    folder = out if out is not None else reports / results.experiment
    with RichProgress() as progress:
        # Asked for by name, so always built; marked as run marks it, so that the next run does not build it again.
        index = write_report(results, folder, progress, force=True)
    console().print(f"The report is at {index.resolve()}", markup=False, soft_wrap=True)
    if open_page:
        typer.launch(index.resolve().as_uri())


report.__doc__ = f"{report.__doc__}\n\n{_EXAMPLES}"


def load_results(experiment: str | None, runs: Path) -> ExperimentResults:
    """The results of an experiment by name (below ``runs/experiments``), or by the path of a file or its folder.

    Raises:
        ConfigError: there is no such experiment (the message lists those there are), or its results cannot be read.
    """
    path = _results_path(experiment, runs)
    from pydantic import ValidationError

    from fusion_det.pipeline.results import SCHEMA_VERSION, ExperimentResults

    try:
        results = ExperimentResults.load(path)
    except (ValidationError, UnicodeDecodeError) as error:
        first = str(error).splitlines()[0]
        raise ConfigError(
            f"{path} is not results that this version of fusion_det reads ({first}). Run the experiment again with this "
            "version (finished stages are kept), or use the version that wrote it."
        ) from error
    if results.schema_version != SCHEMA_VERSION:
        raise ConfigError(
            f"{path} has results of schema {results.schema_version}; this version of fusion_det reads schema "
            f"{SCHEMA_VERSION}. Run the experiment again with this version (finished stages are kept)."
        )
    return results


def _results_path(experiment: str | None, runs: Path) -> Path:
    if experiment is not None:
        given = Path(experiment)
        for path in (given, given / "results.json", runs / "experiments" / experiment / "results.json"):
            if path.is_file():
                return path
    known = sorted(p.parent.name for p in (runs / "experiments").glob("*/results.json"))
    if experiment is None and len(known) == 1:
        return runs / "experiments" / known[0] / "results.json"
    there = f"Experiments in {runs}: {', '.join(known)}." if known else f"There are no experiments in {runs} yet."
    cure = "Name one of them." if known else "Run one (fusion-det run), or name another folder with --runs."
    if experiment is None:
        raise ConfigError(f"Which experiment? {there} {cure}")
    unfinished = (runs / "experiments" / experiment).is_dir()
    missing = "has not finished yet (no results.json)" if unfinished else "is not there"
    raise ConfigError(f"Experiment {experiment!r} {missing}. {there} {cure}")


def _compare(names: tuple[str, str], experiment: str | None, runs: Path, out: Path | None) -> None:
    if experiment is not None:
        raise ConfigError(f"--compare takes two experiments and no other; leave out {experiment!r}.")
    from fusion_det.files import write_text
    from fusion_det.report import compare_reports

    first, second = (load_results(name, runs) for name in names)
    text = compare_reports(first, second)
    if out is None:
        typer.echo(text, nl=False)
        return
    path = out / "compare.md"
    write_text(path, text)
    console().print(f"The comparison is at {path.resolve()}", markup=False, soft_wrap=True)
