"""``fusion-det status``: which experiments there are, what is interrupted, how much disk the store holds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def status(
    runs: Annotated[Path, typer.Option(help="Folder of cached work and results.")] = Path("runs"),
    reports: Annotated[Path, typer.Option(help="Folder of reports.")] = Path("reports"),
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable.")] = False,
) -> None:
    """Show experiments with their reports, interrupted work, and the disk the store takes.

    Example: fusion-det status --runs /scratch/runs
    """
    import json

    from rich.table import Table

    from fusion_det.cli.console import console
    from fusion_det.pipeline.experiment import Places
    from fusion_det.pipeline.results import ExperimentResults

    places = Places(runs, reports)
    experiments = []
    for file in sorted((places.runs.resolve() / "experiments").glob("*/results.json")):
        results = ExperimentResults.load(file)
        page = places.report(results.experiment) / "index.html"
        experiments.append(
            {
                "experiment": results.experiment,
                "dataset": results.dataset.name,
                "rows": sum(r.status == "ok" for r in results.runs),
                "failed": sum(r.status == "failed" for r in results.runs),
                "finished": results.provenance.get("finished", ""),
                "report": str(page) if page.is_file() else "",
            }
        )
    usage = places.store.usage()
    interrupted = sorted(str(p.relative_to(places.store.root)) for p in places.store.root.glob("*/*.partial"))
    if as_json:
        document = {"experiments": experiments, "store_bytes": usage, "interrupted": interrupted}
        typer.echo(json.dumps(document, indent=2))
        return
    out = console()
    table = Table(title=f"Experiments below {places.runs.resolve()}", title_justify="left")
    for column in ("experiment", "dataset", "rows", "failed", "finished", "report"):
        table.add_column(column, overflow="fold")
    for e in experiments:
        table.add_row(*(str(v) for v in e.values()))
    out.print(
        table if experiments else "no experiment has finished here; python -m fusion_det.run --methods all starts one"
    )
    for kind, size in usage.items():
        out.print(f"  {kind:10} {size / 1e6:10.1f} MB")
    for name in interrupted:
        out.print(f"[yellow]interrupted[/] {name} (the next run of its experiment continues it)")
