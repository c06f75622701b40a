"""An experiment from its description to its report."""

from __future__ import annotations

import json
import logging
import platform
import shlex
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fusion_det import __version__
from fusion_det.config import DataConfig, Experiment, SplitConfig
from fusion_det.data import PairDataset, Split, make_split, open_dataset
from fusion_det.data.locate import find_dataset
from fusion_det.detection.pretrained import resolve_weights
from fusion_det.errors import ConfigError
from fusion_det.files import digest_json, write_json
from fusion_det.fusion import resolve_device
from fusion_det.machine import available_cores
from fusion_det.pipeline.engine import Display, make_slots, run_plan
from fusion_det.pipeline.fusion_training import is_trained_here, training_mixture
from fusion_det.pipeline.plan import Plan, PlannedStage, build_plan, check_disk, collect_results, rows_of, survey
from fusion_det.pipeline.quality_results import QualityResults
from fusion_det.pipeline.results import ExperimentResults
from fusion_det.pipeline.stage import Outcome, Slot
from fusion_det.pipeline.store import Store, read_manifest
from fusion_det.pipeline.versions import code_digest, commit, library_versions
from fusion_det.progress import NoProgress, Progress
from fusion_det.tasks import IVIF

logger = logging.getLogger(__name__)

DEMO = "demo"
REPORT_MARK = ".report.json"


@dataclass(frozen=True)
class Places:
    """Where a run keeps its things. runs: store, datasets made by code, results. reports: what people read."""

    runs: Path = Path("runs")
    reports: Path = Path("reports")

    @property
    def store(self) -> Store:
        return Store(self.runs.resolve() / "store")

    def results(self, experiment: str) -> Path:
        return self.runs.resolve() / "experiments" / experiment / "results.json"

    def report(self, experiment: str) -> Path:
        return self.reports.resolve() / experiment


@dataclass(frozen=True)
class Finished:
    """What a run came to."""

    results: ExperimentResults
    results_file: Path
    page: Path
    ran: int
    """Stages that had to run; 0 when everything was there."""
    failures: tuple[str, ...]
    """"METHOD seed N: reason", one for every row without a figure, those of ``waiting`` left out."""
    waiting: Mapping[str, str]
    """Method → why it has no weights, for those that nobody named: one of "all" that is not ready is no failure."""


def default_experiment(data: str | None) -> str:
    """What ``--methods all`` alone means: Table VI where a dataset is (named, or M3FD in its place), else the demo."""
    return "table_vi" if data not in (None, DEMO) or (data is None and find_dataset("m3fd")) else DEMO


def open_data(config: DataConfig, places: Places, progress: Progress | None = None, task: str = IVIF) -> PairDataset:
    """Open (and check) the experiment's dataset; the demo is drawn first if it is not there.

    Raises:
        DatasetError: with every problem found.
    """
    progress = progress or NoProgress()
    cache = places.runs.resolve() / "cache"
    if config.source != DEMO:
        return open_dataset(
            config.source, reader=config.reader, limit=config.limit, cache_dir=cache, progress=progress, task=task
        )
    from fusion_det.data.demo import write_demo

    folder = places.runs.resolve() / "data" / f"demo-{config.demo_scenes}-seed{config.demo_seed}"
    write_demo(folder, scenes=config.demo_scenes, seed=config.demo_seed, progress=progress)
    return open_dataset(folder, reader=DEMO, limit=config.limit, cache_dir=cache, progress=progress)


def choose_split(dataset: PairDataset, config: SplitConfig) -> Split:
    """The experiment's split, checked against the dataset."""
    if config.file is not None:
        return Split.load(config.file, dataset)
    return make_split(dataset, config.name, config.seed)


def prepare(
    experiment: Experiment, places: Places, progress: Progress | None = None, *, download: bool = True
) -> tuple[Plan, list[PlannedStage]]:
    """Check everything that can be checked before any work, and lay out the work.

    download: False leaves the detector's weights where they are (``--dry-run``).
    """
    for folder in (places.runs, places.reports):
        _check_writable(folder)
    specs = rows_of(experiment)  # a misspelt name is told before a dataset is read
    dataset = open_data(experiment.data, places, progress)
    split = choose_split(dataset, experiment.split)
    mixture = None
    if any(is_trained_here(spec, experiment.fusion_training) for spec in specs):

        def opened(name: str, task: str) -> PairDataset:
            cache = places.runs.resolve() / "cache"
            return open_dataset(name, task=task, cache_dir=cache, progress=progress or NoProgress())

        mixture = training_mixture(experiment.fusion_training, dataset, split, opened)
    weights = resolve_weights(experiment.detector.weights, experiment.detector.model, download=download)
    plan = build_plan(experiment, dataset, split, weights, mixture)
    return plan, survey(plan, places.store)


def run_experiment(
    plan: Plan,
    planned: Sequence[PlannedStage],
    places: Places,
    *,
    device: str = "auto",
    jobs: int | None = None,
    display: Display | None = None,
) -> Finished:
    """Run what is missing of a plan, write its results and its report.

    Raises:
        ConfigError: an impossible device, or too little disk.
    """
    started = time.time()
    file = places.results(plan.experiment.name)
    _check_same_data(plan, file)
    found = {p.stage.digest for p in planned if p.cached}
    check_disk(planned, places.store.root)
    slots: tuple[Slot, ...] = ()
    if len(found) < len(planned):
        slots = make_slots(device, jobs, available_cores(), cuda_devices)
        for name in {slot.device for slot in slots}:
            resolve_device(name)  # one that is not there is told now, not by every stage
    outcomes = run_plan(plan.stages, places.store, slots, display, found=found)
    provenance = _provenance(plan, outcomes, slots, started)
    results = collect_results(plan, outcomes, provenance)
    if not _unchanged(results, file):
        results.save(file)
    else:
        results = ExperimentResults.load(file)
    page = write_report(results, places.report(results.experiment), display.bar("report") if display else None)
    named = {spec.name for spec in plan.methods if spec.named}
    waiting = {name: why for name, why in plan.unready.items() if name not in named}
    failures = tuple(
        f"{r.method} seed {r.seed}: {r.reason}" for r in results.runs if r.status != "ok" and r.method not in waiting
    )
    ran = sum(o.state == "done" for o in outcomes.values())
    return Finished(results, file, page, ran, failures, waiting)


def write_report(
    results: ExperimentResults | QualityResults, out: Path, progress: Progress | None = None, *, force: bool = False
) -> Path:
    """Build the report, unless the one there was made from the same results by the same code."""
    package = Path(__file__).resolve().parents[1] / "report"
    modules = sorted(f"fusion_det.report.{m.stem}" for m in package.glob("*.py"))
    templates = [p.read_text(encoding="utf-8") for p in sorted((package / "templates").rglob("*")) if p.is_file()]
    mark = {
        "results": digest_json(results.model_dump(mode="json")),
        "code": digest_json([code_digest(*modules), templates]),
    }
    mark_file, page = out / REPORT_MARK, out / "index.html"
    if not force and page.is_file() and mark_file.is_file():
        try:
            if json.loads(mark_file.read_text(encoding="utf-8")) == mark:
                return page
        except json.JSONDecodeError:
            logger.debug("%s is damaged; the report is built again", mark_file)
    from fusion_det.report import build_quality_report, build_report

    if isinstance(results, QualityResults):
        page = build_quality_report(results, out, progress or NoProgress())
    else:
        page = build_report(results, out, progress or NoProgress())
    write_json(mark_file, mark)
    return page


def _check_writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return
    except OSError as error:
        raise ConfigError(
            f"{folder} cannot be written to ({error.strerror}); give --runs and --reports other folders"
        ) from error


def _check_same_data(plan: Plan, file: Path) -> None:
    """One name, one dataset: two folders called "pairs" must not take turns in one table's place."""
    if not file.is_file():
        return
    before, now = ExperimentResults.load(file).dataset, plan.dataset
    if before.content_digest != now.content_digest and before.root.resolve() != now.root.resolve():
        raise ConfigError(
            f"{file} holds the results of {before.root}; give this run of {now.root} a name of its own (--name …)"
        )


def _unchanged(results: ExperimentResults, file: Path) -> bool:
    """Whether ``file`` holds the same results; when and by which command they were asked for does not count."""
    if not file.is_file():
        return False
    try:
        previous = json.loads(file.read_text(encoding="utf-8"))
    except json.JSONDecodeError:
        return False
    current = json.loads(results.model_dump_json())
    return {**previous, "provenance": None} == {**current, "provenance": None}


def _provenance(plan: Plan, outcomes: Mapping[str, Outcome], slots: Sequence[Slot], started: float) -> dict[str, Any]:
    seconds: dict[str, float] = {}
    for stage in plan.stages:
        folder = outcomes[stage.digest].folder
        manifest = read_manifest(folder) if folder else None
        seconds[stage.kind] = round(seconds.get(stage.kind, 0.0) + (manifest or {}).get("seconds", 0.0), 1)
    clock: Callable[[float], str] = lambda t: time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(t))  # noqa: E731
    return {
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "started": clock(started),
        "finished": clock(time.time()),
        "commit": commit(),
        "versions": {
            "fusion_det": __version__,
            "python": platform.python_version(),
            **library_versions("torch", "torchvision", "ultralytics", "numpy", "opencv", "faster-coco-eval"),
        },
        "hostname": socket.gethostname(),
        "device": ", ".join(dict.fromkeys(s.device for s in slots)) or "none needed (all cached)",
        "cores": available_cores(),
        "jobs": len(slots),
        "seconds": seconds,
        "seeds": {"split": plan.split.seed, "detector": list(plan.experiment.seeds)}
        | ({"fusion": plan.experiment.fusion_training.seed} if plan.training else {}),
        "split_file": str(plan.experiment.split.file) if plan.experiment.split.file else None,
        "experiment": plan.experiment.model_dump(mode="json"),
    }


def cuda_devices() -> int:
    """How many CUDA devices this machine has; imports torch."""
    import torch

    return torch.cuda.device_count()
