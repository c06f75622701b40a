"""``fusion-det run`` (and ``python -m fusion_det.run``): parse, plan, execute, say where the report is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from fusion_det.config import Experiment
    from fusion_det.pipeline.experiment import Finished
    from fusion_det.pipeline.plan import Plan, PlannedStage
    from fusion_det.pipeline.results import ExperimentResults

EXAMPLES = """
[bold]Examples[/]

  python -m fusion_det.run --methods all\n
  python -m fusion_det.run --methods all --seeds 0,1,2 --device cuda:0,cuda:1\n
  python -m fusion_det.run --methods vi,gff,ours=/data/my_fused_images\n
  python -m fusion_det.run --methods s4fusion@official,s4fusion@shipped,s4fusion@trained,s4fusion@own.safetensors\n
  python -m fusion_det.run -e small --data ../roadscene --methods all\n
  python -m fusion_det.run --methods all --dry-run
"""


def run(
    methods: Annotated[
        list[str] | None,
        typer.Option(
            "--methods",
            "-m",
            help="Names, globs, 'all'; NAME@official, @shipped, @trained or @FILE for certain weights; NAME=FOLDER of fused "
            "images; commas or repeated.",
        ),
    ] = None,
    experiment: Annotated[
        str | None,
        typer.Option("--experiment", "-e", help="Name in pipelines/ (table_vi, demo) or a YAML file."),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option("--data", "-d", help="Dataset id, a folder, or 'demo'. Default: m3fd if it is in place."),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of this experiment's results and report.")] = None,
    seeds: Annotated[str | None, typer.Option(help="Detector seeds, one training each: 0,1,2.")] = None,
    split: Annotated[str | None, typer.Option(help="random-712, scene-712 or official.")] = None,
    split_seed: Annotated[int | None, typer.Option(help="Seed of the split (not of the detector).")] = None,
    split_file: Annotated[Path | None, typer.Option(help="Ids of a split somebody else made.")] = None,
    color: Annotated[str | None, typer.Option(help="ycbcr (visible chroma) or gray.")] = None,
    detector_weights: Annotated[
        str | None, typer.Option(help="auto (COCO-pretrained), scratch, demo, or a .safetensors/.pt file.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Training epochs.")] = None,
    limit: Annotated[
        int | None, typer.Option(help="Only the first N labelled pairs; stamped into every result.")
    ] = None,
    weights: Annotated[
        list[str] | None, typer.Option("--weights", help="METHOD=FILE: a fusion checkpoint outside its usual place.")
    ] = None,
    method_module: Annotated[
        list[str] | None, typer.Option(help="Python module that registers further methods.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="Any other setting of the experiment: detector.imgsz=416 (YAML value)."),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, mps, or a list of GPUs: cuda:0,cuda:1.")] = "auto",
    jobs: Annotated[
        int | None,
        typer.Option(help="Trainings at a time per device (default: 1; on a CPU one per core, at most 4)."),
    ] = None,
    runs: Annotated[Path, typer.Option(help="Folder of cached work and results.")] = Path("runs"),
    reports: Annotated[Path, typer.Option(help="Folder of reports.")] = Path("reports"),
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and stop.")] = False,
) -> None:
    """Fuse a dataset with every method, train a detector on each, and leave the mAP@50 table and a report.

    Work is cached below --runs: running the same command again does only what is missing or changed, and continues what
    was killed. The exit code is 1 if any row of the table has no figure, methods without weights that were not named but are
    among "all" left aside.
    """
    from fusion_det.cli.console import INTERRUPTED, RunDisplay, console
    from fusion_det.fusion import load_method_modules
    from fusion_det.pipeline.engine import make_slots
    from fusion_det.pipeline.experiment import Places, prepare, run_experiment

    load_method_modules(method_module or [])
    direct = {
        "data.source": data,
        "data.limit": limit,
        "split.name": split,
        "split.seed": split_seed,
        "split.file": split_file,
        "fusion.color": color,
        "detector.weights": detector_weights,
        "detector.epochs": epochs,
    }
    changes = {setting: value for setting, value in direct.items() if value is not None}
    changes |= _parsed_changes(methods, seeds, weights, set_)
    chosen = _experiment(experiment, data, name, changes)
    places = Places(runs, reports)
    make_slots(device, jobs, 1, lambda: 1)  # a misspelt device is told before a dataset is read
    try:
        with RunDisplay() as display:
            _announce(chosen)
            plan, planned = prepare(chosen, places, display.bar("dataset"), download=not dry_run)
            if dry_run:
                display.stop()
                _print_plan(plan, planned)
                return
            finished = run_experiment(plan, planned, places, device=device, jobs=jobs, display=display)
    except KeyboardInterrupt:
        console(stderr=True).print("stopped; what is finished is kept, run the same command again to continue")
        raise typer.Exit(INTERRUPTED) from None
    _print_table(finished.results)
    for method, why in finished.waiting.items():
        console(stderr=True).print(
            f"[yellow]no figure for[/] {method}: {why} (fusion-det methods says more)", soft_wrap=True
        )
    for failure in finished.failures:
        console(stderr=True).print(f"[red]no figure for[/] {failure}", soft_wrap=True)
    _print_end(finished)
    if finished.failures:
        raise typer.Exit(1)


run.__doc__ = (run.__doc__ or "") + EXAMPLES


def _parsed_changes(
    methods: list[str] | None, seeds: str | None, weights: list[str] | None, settings: list[str] | None
) -> dict[str, Any]:
    """The options that are text for something else, as dotted settings of the experiment."""
    import yaml

    from fusion_det.errors import ConfigError
    from fusion_det.fusion import list_cards, parse_weights

    changes: dict[str, Any] = {}
    if methods:
        changes["methods"] = tuple(methods)
    if seeds is not None:
        try:
            changes["seeds"] = tuple(int(s) for s in seeds.split(","))
        except ValueError:
            raise ConfigError(f"--seeds {seeds}: give whole numbers with commas between, as in 0,1,2") from None
    if weights:
        changes["fusion.weights"] = parse_weights(weights, [card.name for card in list_cards()])
    for item in settings or []:
        setting, equals, value = item.partition("=")
        if not equals:
            raise ConfigError(f"--set {item}: give SETTING=VALUE, as in detector.imgsz=416")
        try:
            changes[setting] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ConfigError(
                f"--set {item}: not valid YAML ({str(error).splitlines()[0]}); quote the value"
            ) from error
    return changes


NOT_IN_NAMES = ("methods", "seeds", "data.source", "title", "name", "detector.workers", "detector.cache")
"""Settings under which results may stay in one place: more rows of the same table, or the same figures."""


def _experiment(experiment: str | None, data: str | None, name: str | None, changes: dict[str, Any]) -> Experiment:
    """The experiment to run, under a name of its own if its figures are not those of the file it comes from."""
    from fusion_det.config import load_experiment
    from fusion_det.data.locate import normal_name
    from fusion_det.files import digest_json
    from fusion_det.pipeline.experiment import default_experiment

    base = load_experiment(experiment or default_experiment(data))
    chosen = base.with_changes(changes)
    parts = [base.name]
    if chosen.data.source != base.data.source:
        parts.append(normal_name(Path(chosen.data.source).expanduser().resolve().name) or "data")
        chosen = chosen.with_changes({"title": ""})
    for setting in sorted(changes.keys() - NOT_IN_NAMES):
        if not setting.startswith(("report.", "quality.")) and _setting(base, setting) != _setting(chosen, setting):
            value = str(changes[setting])
            shown = normal_name(Path(value).stem if "/" in value else value)
            parts.append(f"{setting.rpartition('.')[2]}_{shown if len(shown) <= 24 else digest_json(value)[:8]}")
    return chosen.with_changes({"name": name or "-".join(parts)})


def _setting(experiment: Experiment, dotted: str) -> object:
    value: object = experiment
    for key in dotted.split("."):
        value = value.get(key) if isinstance(value, dict) else getattr(value, key)
    return value


def _announce(experiment: Experiment) -> None:
    from rich.panel import Panel

    from fusion_det.cli.console import console

    out = console(stderr=True)
    if experiment.data.source == "demo":
        out.print(
            Panel(
                "These scenes are DRAWN BY CODE: the figures show that the program works, and nothing about real images.\n"
                "For the real table put M3FD into datasets/m3fd (datasets/m3fd.md says how), or give --data FOLDER.",
                title="DEMO",
                border_style="yellow",
            )
        )
    if experiment.data.limit is not None:
        out.print(f"[yellow]--limit {experiment.data.limit}: not the real table; every result is stamped so[/]")


def _print_plan(plan: Plan, planned: list[PlannedStage]) -> None:
    from rich.table import Table

    from fusion_det.cli.console import console

    table = Table(title=f"Plan of {plan.experiment.name}: {len(planned)} stages", title_justify="left")
    for column in ("stage", "what", "state"):
        table.add_column(column, overflow="fold")
    for p in planned:
        table.add_row(p.stage.kind, p.stage.label, "cached" if p.cached else f"[yellow]runs[/]: {p.why}")
    out = console()
    out.print(table)
    for method, why in plan.unready.items():
        out.print(f"[red]{method}[/] cannot fuse: {why}")
    missing = [p.stage.estimate for p in planned if not p.cached]
    out.print(
        f"{len(missing)} of {len(planned)} stages to run: roughly {_duration(sum(e.seconds for e in missing))} on two "
        f"CPU cores (a GPU is much faster) and {sum(e.bytes for e in missing) / 1e9:.1f} GB. "
        f"Split {plan.split.name}, {plan.split.digest[:12]}."
    )
    if plan.detector_weights is not None and not plan.detector_weights.is_file():
        out.print(f"{plan.detector_weights} is not there: it would be downloaded")


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _print_table(results: ExperimentResults) -> None:
    import statistics

    from rich.table import Table

    from fusion_det.cli.console import console

    stamp = " · DEMO, synthetic" if results.dataset.synthetic else ""
    stamp += f" · first {results.dataset.limit} pairs only" if results.dataset.limit else ""
    table = Table(title=f"{results.title}{stamp}", title_justify="left", caption_justify="left")
    for column in ("method", "mAP@50 [%]", "mAP@50:95 [%]", "seeds"):
        table.add_column(column, justify="left" if column == "method" else "right")
    values = {
        m.name: [r.metrics for r in results.runs if r.method == m.name and r.status == "ok"] for m in results.methods
    }
    for method in results.methods:
        rows = values[method.name]
        cells = []
        for key in ("mAP50", "mAP50_95"):
            numbers = [100 * r[key] for r in rows if r[key] is not None]
            spread = f" ± {statistics.stdev(numbers):.1f}" if len(numbers) > 1 else ""
            cells.append(f"{statistics.mean(numbers):.1f}{spread}" if numbers else "–")
        table.add_row(method.label, *cells, str(len(rows)))
    console().print(table)


def _print_end(finished: Finished) -> None:
    from fusion_det.cli.console import console

    out = console()
    done = (
        f"{finished.ran} stage{'s' * (finished.ran != 1)} ran"
        if finished.ran
        else "nothing to do, all of it was cached"
    )
    out.print(f"{done}. Report: {finished.page}", soft_wrap=True)
    out.print(f"Tables: {finished.page.parent}/table_vi.{{md,csv,tex,json}}", soft_wrap=True)
