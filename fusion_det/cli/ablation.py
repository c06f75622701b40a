"""``fusion-det ablation``: variants of a method, trained alike and compared (Table V, Fig. 13)."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fusion_det.cli.console import INTERRUPTED, RunDisplay, console
from fusion_det.errors import ConfigError

if TYPE_CHECKING:
    from fusion_det.ablation.plan import AblationPlan
    from fusion_det.ablation.results import AblationResults
    from fusion_det.ablation.settings import AblationSettings
    from fusion_det.pipeline.store import Store

_EXAMPLES = """Examples:

  fusion-det ablation --dry-run

  fusion-det ablation --steps 300 --crop 61 --batch 2         (under an hour on two cores: not yet good pictures)

  fusion-det ablation --variants no_perception,ours --minutes 60 --seeds 0,1,2

  fusion-det ablation -e mine.yaml --method-module mylab.py   (any method that learns)"""


def ablation(
    experiment: Annotated[
        str, typer.Option("--experiment", "-e", help="Settings: 'ablation' (Table V) or a YAML file.")
    ] = "ablation",
    variants: Annotated[
        str | None, typer.Option(metavar="NAMES", help="Only these of the file's variants, with commas.")
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option(metavar="DATASET[=SHARE]", help="Pairs to learn from: a name or folder (repeatable)."),
    ] = None,
    validation: Annotated[int | None, typer.Option(min=0, help="Pairs held out and measured.")] = None,
    preset: Annotated[str | None, typer.Option(help="How the method is trained: small, paper, …")] = None,
    steps: Annotated[int | None, typer.Option(help="Steps of every training.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Instead of --steps: passes over the pairs.")] = None,
    minutes: Annotated[
        float | None,
        typer.Option(help="Instead of --steps: minutes of every training; a slow variant gets fewer steps."),
    ] = None,
    crop: Annotated[int | None, typer.Option(help="Side of the square crops, in pixels.")] = None,
    batch: Annotated[int | None, typer.Option(help="Pairs at once.")] = None,
    classifier: Annotated[str | None, typer.Option(help="What the loss sees images through.")] = None,
    seeds: Annotated[str | None, typer.Option(metavar="N,N,…", help="One training for every variant and seed.")] = None,
    metrics: Annotated[str | None, typer.Option(help="Names with commas; see fusion-det quality.")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the report: it is written to REPORTS/NAME.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would run, and run nothing.")] = False,
    method_module: Annotated[
        list[str] | None,
        typer.Option(metavar="MODULE", help="Python module or .py file with more methods (repeatable)."),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, mps, cuda:N.")] = "auto",
    jobs: Annotated[int | None, typer.Option(help="Trainings at a time (default 1).")] = None,
    runs: Annotated[Path, typer.Option(help="Folder of cached work and results.")] = Path("runs"),
    reports: Annotated[Path, typer.Option(help="Folder of reports.")] = Path("reports"),
) -> None:
    """Train variants of a method alike, fuse pairs that none of them has seen, and compare the images.

    Each training has a process of its own: one that fails is a row that says so. Work is cached below --runs: the same command
    again does only what is missing, and a killed training goes on where it was. Exit code 1 if a variant has no figures.
    """
    from fusion_det.ablation.plan import plan_ablation
    from fusion_det.ablation.run import run_ablation
    from fusion_det.fusion import load_method_modules
    from fusion_det.pipeline.experiment import Places

    load_method_modules(method_module or [])
    training = {
        "data": tuple(data) if data else None,
        "validation": validation,
        "preset": preset,
        "steps": steps,
        "epochs": epochs,
        "minutes": minutes,
        "crop": crop,
        "batch": batch,
        "classifier": classifier,
    }
    settings = _settings(
        experiment, variants, {k: v for k, v in training.items() if v is not None}, seeds, metrics, name
    )
    places = Places(runs, reports)
    try:
        with RunDisplay() as display:
            bar = display.bar("dataset")
            plan = plan_ablation(settings, places, bar)
            bar.finish()
            if dry_run:
                display.stop()
                _print_plan(plan, places.store)
                return
            finished = run_ablation(plan, places, device=device, jobs=jobs, display=display)
    except KeyboardInterrupt:
        console(stderr=True).print("stopped; what is done is kept, run the same command again to continue")
        raise typer.Exit(INTERRUPTED) from None
    _print_table(finished.results)
    for failure in finished.failures:
        console(stderr=True).print(f"no figures for {failure}", style="red", markup=False, soft_wrap=True)
    done = f"{finished.ran} stages ran" if finished.ran else "nothing to do, all of it was cached"
    console().print(f"{done}. Report: {finished.page}", markup=False, soft_wrap=True)
    if finished.failures:
        raise typer.Exit(1)


ablation.__doc__ = f"{inspect.getdoc(ablation)}\n\n{_EXAMPLES}"


def _settings(
    experiment: str,
    variants: str | None,
    training: dict[str, Any],
    seeds: str | None,
    metrics: str | None,
    name: str | None,
) -> AblationSettings:
    """The file's settings with the options in their place, under a name of its own where its figures would be others."""
    from fusion_det.ablation.settings import AblationSettings
    from fusion_det.config import load_command_settings

    base = load_command_settings(AblationSettings, "ablation", experiment)
    changes: dict[str, Any] = {"training": dict(training)}
    if training.keys() & {"steps", "epochs", "minutes"}:
        changes["training"] = {"steps": None, "epochs": None, "minutes": None, **training}
    if seeds is not None:
        changes["seeds"] = _numbers(seeds)
    if metrics is not None:
        changes["metrics"] = tuple(part.strip() for part in metrics.split(",") if part.strip())
    if variants is not None:
        changes |= _chosen(base, [part.strip() for part in variants.split(",") if part.strip()])
    changes["name"] = name or "-".join([base.name, *_words(training, seeds, variants)])
    return base.with_changes(changes)


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise ConfigError(f"--seeds {text}: give whole numbers with commas between, as in 0,1,2") from None


def _chosen(base: AblationSettings, names: list[str]) -> dict[str, Any]:
    """The variants of these names, in the file's order; what is compared with a variant left out is compared with the last."""
    known = [variant.name for variant in base.variants]
    if unknown := [name for name in names if name not in known]:
        raise ConfigError(f"--variants {', '.join(unknown)}: the file has {', '.join(known)}")
    changes: dict[str, Any] = {"variants": tuple(v.model_dump() for v in base.variants if v.name in names)}
    if base.compared_with not in names:
        changes["reference"] = ""
    if base.entropy is not None:
        shown = tuple(name for name in base.entropy.variants if name in names)
        changes["entropy"] = base.entropy.model_dump() | {"variants": shown} if shown else None
    return changes


def _words(training: dict[str, Any], seeds: str | None, variants: str | None) -> list[str]:
    """What tells the results of these options from those of the file alone: ["steps_60", "crop_61"]."""
    from fusion_det.data.locate import normal_name

    given = training | {key: value for key, value in (("seeds", seeds), ("variants", variants)) if value is not None}
    words = []
    for key, value in given.items():
        parts = (
            [Path(str(part)).name for part in value]
            if isinstance(value, tuple)
            else [f"{value:g}" if isinstance(value, float) else str(value)]
        )
        words.append(f"{key}_{'_'.join(normal_name(part.replace(',', '_').replace('/', '_')) for part in parts)}")
    return words


def _print_plan(plan: AblationPlan, store: Store) -> None:
    from rich.table import Table

    from fusion_det.ablation.plan import budget_facts
    from fusion_det.ablation.results import Budget
    from fusion_det.ablation.tables import budget_text

    table = Table(title=f"Plan of {plan.settings.name}: {len(plan.stages)} stages", title_justify="left")
    for column in ("stage", "what", "state"):
        table.add_column(column, overflow="fold")
    missing = [stage for stage in plan.stages if store.find(stage) is None]
    for stage in plan.stages:
        table.add_row(
            stage.kind, stage.label, f"[yellow]runs[/]: {store.why_stale(stage)}" if stage in missing else "cached"
        )
    out = console()
    out.print(table)
    hours = sum(stage.estimate.seconds for stage in missing) / 3600
    out.print(
        f"Every variant {budget_text(Budget(**budget_facts(plan)))}; measured on {len(plan.pairs.records)} pairs of "
        f"{plan.pairs.name}. {len(missing)} of {len(plan.stages)} stages to run: roughly {hours:.1f} h on two CPU cores (a GPU "
        "is much faster).",
        markup=False,
        soft_wrap=True,
    )


def _print_table(results: AblationResults) -> None:
    from rich.markup import escape
    from rich.table import Table as RichTable

    from fusion_det.ablation.summary import summarise
    from fusion_det.ablation.tables import ablation_table

    styles = {"best": "[bold]{}[/]", "second": "[underline]{}[/]", "": "{}"}
    table = ablation_table(summarise(results))
    shown = RichTable(title=escape(" · ".join((*table.stamps, table.caption))), title_justify="left")
    for i, head in enumerate(table.head):
        shown.add_column(escape(head), justify="right" if i else "left")
    for row in table.rows:
        shown.add_row(*(styles[cell.mark].format(escape(cell.text)) for cell in row))
    console().print(shown)
