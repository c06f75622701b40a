"""``fusion-det quality``: fused images measured as fusion papers do, in tables, figures and pictures."""

from __future__ import annotations

import inspect
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fusion_det.cli.console import INTERRUPTED, RunDisplay, console
from fusion_det.cli.options import TaskName
from fusion_det.errors import ConfigError
from fusion_det.tasks import IVIF, find_task

if TYPE_CHECKING:
    from fusion_det.assessment.settings import QualitySettings
    from fusion_det.pipeline.experiment import Places
    from fusion_det.pipeline.quality_results import QualityResults
    from fusion_det.pipeline.quality_run import PlannedSet

_EXAMPLES = """Examples:

  fusion-det quality --ir pairs/ir --vi pairs/vi --fused fused

  fusion-det quality --ir pairs/ir --vi pairs/vi --fused ours=fused/ours --fused theirs=/data/theirs

  fusion-det quality --data m3fd_fusion --methods all --fused ours=/data/ours --metrics SF,AG,VIF,Qabf

  fusion-det quality --data tno --methods all --paper-table III

  fusion-det quality --task multi-focus --data lytro --methods all --pictures 3

  fusion-det quality -e general                         (four tasks, for the datasets in place)

  fusion-det quality -e quality --as-published          (Tables I to IV of the S4Fusion paper, for the datasets in place)"""


def quality(
    ir: Annotated[
        Path | None, typer.Option("--ir", "--first", help="Folder of infrared (or the task's first) images.")
    ] = None,
    vi: Annotated[
        Path | None,
        typer.Option("--vi", "--second", help="Folder of visible (or second) images, with the same stems as --ir."),
    ] = None,
    task: TaskName = IVIF,
    fused: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[NAME=]DIR", help="Folder of fused images (8-bit, same stems and sizes); repeat for several."
        ),
    ] = None,
    data: Annotated[
        str | None, typer.Option("--data", "-d", help="Instead of --ir and --vi: a dataset's name or folder.")
    ] = None,
    methods: Annotated[
        list[str] | None,
        typer.Option(
            "--methods",
            "-m",
            help="Fuse with these and measure: names, globs, 'all'; NAME@official, @shipped or @FILE for certain weights; commas "
            "or repeated.",
        ),
    ] = None,
    experiment: Annotated[
        str | None,
        typer.Option(
            "--experiment", "-e", help="Settings: 'quality' (Tables I to IV), 'general' (four tasks) or a YAML file."
        ),
    ] = None,
    metrics: Annotated[
        str | None,
        typer.Option(help="Names with commas; 'all' is the fourteen that need no network. MUSIQ, TOPIQ too."),
    ] = None,
    profile: Annotated[str | None, typer.Option(help="Conventions: paper, cddfuse, zoo or standard.")] = None,
    paper_table: Annotated[
        str | None,
        typer.Option(
            metavar="I|II|III|IV|SMC-Mamba",
            help="Set the rows of this table of the S4Fusion paper, or those printed for SMC-Mamba, beside ours.",
        ),
    ] = None,
    as_published: Annotated[
        bool | None,
        typer.Option(
            "--as-published/--lossless",
            help="For the comparison with the paper's rows save our images as its were (JPEG 75 on RoadScene). Methods are "
            "always compared on losslessly saved images.",
        ),
    ] = None,
    color: Annotated[str | None, typer.Option(help="How --methods fuse: gray (what metrics look at) or ycbcr.")] = None,
    weights: Annotated[
        list[str] | None, typer.Option("--weights", help="METHOD=FILE: a fusion checkpoint outside its usual place.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first N pairs; stamped into every table.")] = None,
    pictures: Annotated[int, typer.Option(min=0, help="Show so many pairs as every method fuses them.")] = 0,
    name: Annotated[str | None, typer.Option(help="Name of the report: it is written to REPORTS/NAME.")] = None,
    method_module: Annotated[
        list[str] | None, typer.Option(help="Python module that registers further methods.")
    ] = None,
    device: Annotated[str, typer.Option(help="Where methods fuse: auto, cpu, mps, cuda:N.")] = "auto",
    jobs: Annotated[
        int | None, typer.Option(help="Methods at a time (default 1: each measures with all cores).")
    ] = None,
    runs: Annotated[Path, typer.Option(help="Folder of cached work and results.")] = Path("runs"),
    reports: Annotated[Path, typer.Option(help="Folder of reports.")] = Path("reports"),
) -> None:
    """Measure fused images: means, ranks and single values of fourteen metrics, with the worst and best images.

    Every table names its conventions (profile). Work is cached below --runs: the same command again measures only what is
    missing or changed, and a killed one continues where it was. The exit code is 1 if a method that was named has no figures.
    """
    from fusion_det.fusion import load_method_modules
    from fusion_det.pipeline.experiment import Places
    from fusion_det.pipeline.quality_run import measure_sets

    load_method_modules(method_module or [])
    direct: dict[str, Any] = {
        "metrics": None if metrics is None else tuple(part.strip() for part in metrics.split(",") if part.strip()),
        "profile": profile,
    }
    wanted = _wanted_set(
        ir, vi, data, experiment, task, {"paper_table": paper_table, "limit": limit, "pictures": pictures}
    )
    settings = _settings(experiment, wanted, _methods(methods, fused), direct, color, weights, as_published, name)
    places = Places(runs, reports)
    try:
        with RunDisplay() as display:
            planned, missing = _plan(settings, ir, vi, limit, places, display)
            measured = measure_sets(settings, planned, missing, places, device=device, jobs=jobs, display=display)
    except KeyboardInterrupt:
        console(stderr=True).print("stopped; what is measured is kept, run the same command again to continue")
        raise typer.Exit(INTERRUPTED) from None
    _print_tables(measured.results)
    for method, why in measured.waiting.items():
        console(stderr=True).print(f"no figures for {method}: {why}", style="yellow", markup=False, soft_wrap=True)
    for failure in measured.failures:
        console(stderr=True).print(f"no figures for {failure}", style="red", markup=False, soft_wrap=True)
    for dataset, why in missing.items():
        console(stderr=True).print(f"left out: {dataset}: {why}", style="yellow", markup=False, soft_wrap=True)
    idle = "nothing was measured" if measured.failures else "nothing to do, all of it was cached"
    done = f"{measured.ran} {'stage' if measured.ran == 1 else 'stages'} ran" if measured.ran else idle
    console().print(f"{done}. Report: {measured.page}", markup=False, soft_wrap=True)
    if measured.failures or any(not s.quality.values for s in measured.results.sets):
        raise typer.Exit(1)


quality.__doc__ = f"{inspect.getdoc(quality)}\n\n{_EXAMPLES}"


def _wanted_set(
    ir: Path | None,
    vi: Path | None,
    data: str | None,
    experiment: str | None,
    task: str,
    options: dict[str, Any],
) -> dict[str, Any] | None:
    """The one set that the options name, None where the experiment names some."""
    first, second = find_task(task).options
    folders = ir is not None or vi is not None
    if folders and (ir is None or vi is None):
        raise ConfigError(f"{first} and {second} go together; or give --data DATASET")
    if sum((folders, data is not None, experiment is not None)) != 1:
        raise ConfigError(f"say what to measure on: {first} DIR and {second} DIR, or --data DATASET, or -e quality")
    if experiment is not None:
        if task != IVIF or any(options.values()):
            raise ConfigError("-e names its sets itself; leave out --task, --paper-table, --limit and --pictures")
        return None
    # For two folders the source is never opened: it stands for what the table is about.
    named = {"source": data or _both(ir, vi), "limit": options.pop("limit")}
    return {"data": named, "task": task, **options}


def _methods(methods: list[str] | None, fused: list[str] | None) -> tuple[str, ...] | None:
    """--methods and --fused as one list; a bare folder is called after itself."""
    from fusion_det.fusion.spec import is_safe_name

    folders = []
    for item in fused or []:
        given, equals, path = item.partition("=")
        folder = Path(path if equals else item).expanduser()
        called = given if equals else folder.resolve().name
        if not folder.is_dir():
            raise ConfigError(f"--fused {item}: there is no folder {folder}")
        if not is_safe_name(called):
            raise ConfigError(f"--fused {item}: {called!r} cannot name a method; write NAME={folder}")
        if "," in str(folder):
            raise ConfigError(f"--fused {item}: a path with a comma cannot be told from two; use another, or a link")
        folders.append(f"{called}={folder}")
    chosen = (*(methods or ()), *folders)
    return chosen or None


def _both(ir: Path | None, vi: Path | None) -> str:
    """What two folders are called together: as the nearest folder that holds both, or, if that is the root, as the first."""
    if ir is None or vi is None:
        return "folders"
    common = Path(os.path.commonpath((ir.expanduser().resolve(), vi.expanduser().resolve())))
    return common.name or ir.name


def _settings(
    experiment: str | None,
    wanted: dict[str, Any] | None,
    methods: tuple[str, ...] | None,
    quality: dict[str, Any],
    color: str | None,
    weights: list[str] | None,
    as_published: bool | None,
    name: str | None,
) -> QualitySettings:
    from fusion_det.assessment.settings import QualitySettings
    from fusion_det.config import load_command_settings
    from fusion_det.data.locate import normal_name
    from fusion_det.fusion import list_cards, parse_weights

    base = QualitySettings()
    if experiment is not None:
        base = load_command_settings(QualitySettings, "quality", experiment)
    if methods is None and experiment is None:
        raise ConfigError(
            "say what to measure: --fused DIR (or NAME=DIR) for images that are there, --methods NAMES to fuse"
        )
    changes: dict[str, Any] = {"methods": methods or base.methods}
    changes["quality"] = base.quality.model_dump() | {k: v for k, v in quality.items() if v is not None}
    changes["fusion"] = base.fusion.model_dump() | ({"color": color} if color is not None else {})
    if weights:
        changes["fusion"]["weights"] = parse_weights(weights, [card.name for card in list_cards()])
    if as_published is not None:
        changes["as_published"] = as_published
    if wanted is not None:
        changes["sets"] = (wanted,)
        source = Path(wanted["data"]["source"])
        changes["name"] = f"quality-{normal_name(source.resolve().name if source.exists() else source.name)}"
    if name is not None:
        changes["name"] = name
    return base.with_changes(changes)


def _plan(
    settings: QualitySettings, ir: Path | None, vi: Path | None, limit: int | None, places: Places, display: RunDisplay
) -> tuple[list[PlannedSet], dict[str, str]]:
    from fusion_det.data import open_folders
    from fusion_det.fusion import expand_methods
    from fusion_det.pipeline.quality_run import open_sets, plan_set

    expand_methods(settings.methods)  # a misspelt name is told before a dataset is read
    bar = display.bar("dataset")
    if ir is not None and vi is not None:
        cache, task = places.runs.resolve() / "cache", settings.sets[0].task
        dataset = open_folders(ir, vi, limit=limit, cache_dir=cache, progress=bar, task=task)
        opened = [(settings.sets[0], dataset)]
        missing: dict[str, str] = {}
    else:
        opened, missing = open_sets(settings, places, bar)
    bar.finish()
    return [plan_set(dataset, wanted, settings) for wanted, dataset in opened], missing


def _print_tables(results: QualityResults) -> None:
    """Metrics as rows, for a terminal is narrow; the files have the papers' layout."""
    from rich.markup import escape
    from rich.table import Table as RichTable

    from fusion_det.report.quality_report import printed_tables

    styles = {"best": "[bold]{}[/]", "second": "[underline]{}[/]", "": "{}"}
    for table in printed_tables(results):
        shown = RichTable(title=escape(" · ".join((*table.stamps, table.caption))), title_justify="left")
        shown.add_column("")
        for row in table.rows:
            shown.add_column(escape(row[0].text), justify="right")
        for i, head in list(enumerate(table.head))[1:]:
            shown.add_row(head, *(styles[row[i].mark].format(row[i].text) for row in table.rows))
        console().print(shown)
