"""``fusion-det efficiency``: what each fusion method costs (Table VII)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fusion_det.cli.console import RichProgress, console

if TYPE_CHECKING:
    from fusion_det.report.tables import Table

_EXAMPLES = """Examples:

  fusion-det efficiency

  fusion-det efficiency --methods s4fusion,gff --size 768x1024 --repeats 50

  fusion-det efficiency --methods s4fusion --all-configs --device cuda --dtype bfloat16

  fusion-det efficiency --count-only          (parameters and operations; times nothing)"""


def efficiency(
    methods: Annotated[
        list[str] | None,
        typer.Option("--methods", "-m", help="Names, globs ('g*') or 'all'; comma separated or repeated."),
    ] = None,
    experiment: Annotated[
        str, typer.Option("--experiment", "-e", help="Settings: a name in pipelines/ or a YAML file.")
    ] = "efficiency",
    size: Annotated[
        str | None, typer.Option(metavar="HEIGHTxWIDTH", help="Of the pair, before padding. The paper's is 480x640.")
    ] = None,
    config: Annotated[
        list[str] | None,
        typer.Option(metavar="METHOD=NAME", help="Variant of a method that has some (repeatable)."),
    ] = None,
    all_configs: Annotated[
        bool, typer.Option("--all-configs", help="A row for every variant of the methods that have some.")
    ] = False,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:N, mps, or auto.")] = None,
    dtype: Annotated[
        str | None, typer.Option(help="What networks compute in: float32, bfloat16 or float16.", metavar="DTYPE")
    ] = None,
    threads: Annotated[int | None, typer.Option(help="CPU threads (default: one a core).")] = None,
    warmup: Annotated[int | None, typer.Option(help="Calls before those that are timed.")] = None,
    repeats: Annotated[int | None, typer.Option(help="Calls that are timed.")] = None,
    seconds: Annotated[
        float | None, typer.Option(help="No further call of a method is timed after so many seconds.")
    ] = None,
    count_only: Annotated[
        bool, typer.Option("--count-only", help="Parameters and operations only: nothing is timed.")
    ] = False,
    out: Annotated[Path, typer.Option(help="Folder for table_vii.{md,csv,tex,json}.")] = Path("reports/efficiency"),
    method_module: Annotated[
        list[str] | None,
        typer.Option(metavar="MODULE", help="Python module or .py file with more methods (repeatable)."),
    ] = None,
) -> None:
    """Count each method's parameters and operations, and measure its time and memory here.

    Each method is timed in a process of its own, with its weights if they are there and untrained otherwise. Close other
    programs first. Exit code 1 if any row has no figures.
    """
    from fusion_det.config import load_command_settings
    from fusion_det.efficiency.settings import EfficiencySettings
    from fusion_det.fusion import expand_methods, load_method_modules
    from fusion_det.fusion.spec import parse_assignments

    modules = method_module or []
    load_method_modules(modules)
    given: dict[str, Any] = {
        "methods": tuple(methods) if methods else None,
        "size": size,
        "all_configs": all_configs or None,
        "device": device,
        "dtype": dtype,
        "threads": threads,
        "warmup": warmup,
        "repeats": repeats,
        "seconds": seconds,
        "measure": False if count_only else None,
    }
    base = load_command_settings(EfficiencySettings, "efficiency", experiment)
    settings = base.with_changes({k: v for k, v in given.items() if v is not None})
    specs = expand_methods(settings.methods)
    if config:
        chosen = dict(parse_assignments("--config", "NAME", config, [spec.method for spec in specs]))
        settings = settings.with_changes({"configs": chosen})

    from fusion_det.efficiency.assessment import assess, rows_of
    from fusion_det.report.table_vii import write_table_vii

    rows = rows_of(specs, settings)
    with RichProgress() as progress:
        costs = assess(rows, settings, modules, progress)
    table = write_table_vii(costs, settings, _provenance(), out)
    _show(table)
    untrained = [cost.card.name for cost in costs if cost.measurement is not None and not cost.measurement.trained]
    if untrained:
        names = ", ".join(dict.fromkeys(untrained))
        console().print(f"Timed with untrained weights, on which time does not depend: {names}", soft_wrap=True)
    for cost in costs:
        if cost.problem:
            console(stderr=True).print(f"{cost.card.name}: {cost.problem}", style="red", markup=False, soft_wrap=True)
    console().print(
        f"What is counted and how, and the paper's figures explained: {out}/{table.slug}.md (and .csv, .tex, .json)",
        markup=False,
        soft_wrap=True,
    )
    if any(cost.problem for cost in costs):
        raise typer.Exit(1)


efficiency.__doc__ = f"{efficiency.__doc__}\n\n{_EXAMPLES}"


def _provenance() -> dict[str, Any]:
    import platform

    from fusion_det import __version__
    from fusion_det.pipeline.versions import commit, library_versions

    versions = {"fusion_det": __version__, "python": platform.python_version(), **library_versions("torch", "numba")}
    return {"commit": commit(), "versions": versions, "platform": platform.platform()}


_DETAILS = ("used [M]", "layers [G]", "by torch [G]", "scans [G]")
"""Columns that a terminal has no room for."""


def _show(table: Table) -> None:
    from rich import box
    from rich.table import Table as Grid
    from rich.text import Text

    shown = [i for i, column in enumerate(table.head) if column not in _DETAILS]
    grid = Grid(box=box.SIMPLE_HEAD, pad_edge=False, title=table.caption, title_justify="left")
    for i in shown:
        grid.add_column(Text(table.head[i] or "method"), justify="right" if i else "left", no_wrap=i == 0)
    for row in table.rows:
        grid.add_row(*(Text(row[i].text) for i in shown))
    console().print(grid)
