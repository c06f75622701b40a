"""``fusion-det quality`` from its settings to its report: sets of pairs, stages for every method, one document, one page."""

from __future__ import annotations

import logging
import platform
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fusion_det import __version__
from fusion_det.assessment.measure import Protocol
from fusion_det.assessment.published import TABLES
from fusion_det.assessment.settings import MeasuredSet, QualitySettings
from fusion_det.config import DataConfig
from fusion_det.data import PairDataset
from fusion_det.data.cards import cards_dir
from fusion_det.data.locate import find_dataset
from fusion_det.data.pair import PairRecord
from fusion_det.errors import ConfigError
from fusion_det.fusion import (
    MethodSpec,
    expand_methods,
    found_weights,
    get_card,
    how_to_get_weights,
    resolve_device,
    weights_status,
    with_files,
)
from fusion_det.machine import available_cores
from fusion_det.pipeline.engine import Display, make_slots, run_plan
from fusion_det.pipeline.experiment import DEMO, Places, cuda_devices, open_data, write_report
from fusion_det.pipeline.plan import method_info
from fusion_det.pipeline.quality_pictures import side_by_side, spread
from fusion_det.pipeline.quality_results import PublishedFigures, QualityResults, QualitySet
from fusion_det.pipeline.quality_stage import VALUES, quality_stage
from fusion_det.pipeline.results import DatasetInfo, QualityRows
from fusion_det.pipeline.stage import Outcome, Slot, Stage
from fusion_det.pipeline.stages import fuse_stage
from fusion_det.pipeline.store import Store
from fusion_det.pipeline.versions import commit, library_versions
from fusion_det.progress import NoProgress, Progress
from fusion_det.tasks import IVIF

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PlannedSet:
    """The stages of one set. absent: ids that were asked for and are not there. unready: method → why it cannot fuse."""

    dataset: PairDataset
    records: tuple[PairRecord, ...]
    absent: tuple[str, ...]
    wanted: MeasuredSet | None
    methods: tuple[MethodSpec, ...]
    unready: Mapping[str, str]
    fuse: Mapping[str, Stage]
    quality: Mapping[str, Stage]
    as_published: Mapping[str, Stage]

    @property
    def stages(self) -> list[Stage]:
        return [*self.fuse.values(), *self.quality.values(), *self.as_published.values()]


@dataclass(frozen=True)
class Measured:
    """What a run came to.

    failures: "DATASET METHOD: reason", those of ``waiting`` left out. waiting: method → why it cannot fuse, if nobody named it.
    """

    results: QualityResults
    page: Path
    ran: int
    failures: tuple[str, ...]
    waiting: Mapping[str, str]


def open_sets(
    settings: QualitySettings, places: Places, progress: Progress | None = None
) -> tuple[list[tuple[MeasuredSet, PairDataset]], dict[str, str]]:
    """The datasets that are in place, and dataset → what to do for those that are not.

    Raises:
        ConfigError: none of several is in place. DatasetError: the only one is not, or one is damaged.
    """
    opened: list[tuple[MeasuredSet, PairDataset]] = []
    missing: dict[str, str] = {}
    for wanted in settings.sets:
        source = wanted.data.source
        there = source == DEMO or find_dataset(source) is not None or Path(source).expanduser().exists()
        if there or len(settings.sets) == 1:
            opened.append((wanted, open_data(wanted.data, places, progress, wanted.task)))
        else:
            card = cards_dir() / f"{source}.md"
            cure = f"{card} says how to get it" if card.is_file() else "check its name or path"
            missing[source] = f"not in place; {cure}"
    if not opened:
        listed = "".join(f"\n  - {name}: {text}" for name, text in missing.items())
        raise ConfigError(
            f"none of the datasets of {settings.name} is in place:{listed}\nOr measure your own: --data FOLDER."
        )
    return opened, missing


def choose_pairs(dataset: PairDataset, wanted: MeasuredSet | None) -> tuple[list[PairRecord], list[str]]:
    """The pairs to measure, and the ids that the dataset does not have.

    Raises:
        ConfigError: it has none of them.
    """
    if wanted is None or not wanted.ids:
        return list(dataset.records), []
    there = dataset.by_stem()
    found: dict[str, PairRecord] = {}
    absent = []
    for stem in wanted.ids:
        others = [new + stem.removeprefix(old) for old, new in wanted.synonyms.items() if stem.startswith(old)]
        match = next((name for name in (stem, *others) if name in there), None)
        if match is None:
            absent.append(stem)
        else:
            found[match] = there[match]
    if not found:
        raise ConfigError(
            f"{dataset.root} has none of the {len(wanted.ids)} ids asked for ({wanted.ids[0]}, …); leave out ids"
        )
    return [found[stem] for stem in sorted(found)], absent


def plan_set(dataset: PairDataset, wanted: MeasuredSet | None, settings: QualitySettings) -> PlannedSet:
    """Lay out the stages of one set; runs nothing.

    Raises:
        MethodError: unknown methods, or none of them can fuse. ConfigError: none of the ids is there.
    """
    records, absent = choose_pairs(dataset, wanted)
    specs = with_files(expand_methods(settings.methods), settings.fusion.weights)
    specs = [spec for spec in specs if dataset.task == IVIF or spec.named or get_card(spec).family != "control"]
    methods = sorted(specs, key=lambda m: (get_card(m).order, m.name))
    protocol = Protocol(settings.quality.metrics, settings.quality.profile)
    table = TABLES[wanted.paper_table] if wanted is not None and wanted.paper_table else None
    habit = table.saving if table is not None and settings.as_published and table.saving != "lossless" else None
    unready: dict[str, str] = {}
    fuse: dict[str, Stage] = {}
    quality: dict[str, Stage] = {}
    as_published: dict[str, Stage] = {}
    for spec in methods:
        ready, text = weights_status(spec)
        if not ready:
            unready[spec.name] = f"{text}; {how_to_get_weights(get_card(spec))}"
            continue
        images: Stage | Path
        if spec.folder is not None:
            images = spec.folder
        else:
            images = fuse[spec.name] = fuse_stage(spec, records, settings.fusion)
        quality[spec.name] = quality_stage(spec.name, records, protocol, images)
        if habit is not None:
            saved = Protocol(protocol.metrics, protocol.profile, habit)
            as_published[spec.name] = quality_stage(spec.name, records, saved, images)
    return PlannedSet(
        dataset, tuple(records), tuple(absent), wanted, tuple(methods), unready, fuse, quality, as_published
    )


def measure_sets(
    settings: QualitySettings,
    planned: Sequence[PlannedSet],
    missing: Mapping[str, str],
    places: Places,
    *,
    device: str = "auto",
    jobs: int | None = None,
    display: Display | None = None,
) -> Measured:
    """Run what is missing, write the results and the report."""
    started = time.time()
    stages = list({stage.digest: stage for p in planned for stage in p.stages}.values())
    store = places.store
    slots = _slots(stages, store, device, jobs)
    outcomes = run_plan(stages, store, slots, display)
    document = places.results(settings.name).with_name("quality.json")
    sets = tuple(_measured_set(p, settings, outcomes, document.parent / "pictures") for p in planned)
    results = QualityResults(
        experiment=settings.name,
        title=settings.title or f"Quality of fused images on {', '.join(s.dataset.name for s in sets)}",
        sets=sets,
        missing=dict(missing),
        provenance=_provenance(settings, outcomes, started),
    )
    results.save(document)
    progress = display.bar("report") if display else NoProgress()
    page = write_report(results, places.report(settings.name), progress)
    named = {spec.name for p in planned for spec in p.methods if spec.named}
    waiting = {name: why for p in planned for name, why in p.unready.items() if name not in named}
    failures = tuple(
        f"{s.dataset.name} {name}: {why}"
        for s in sets
        for rows in (s.quality, s.as_published)
        if rows is not None
        for name, why in rows.failures.items()
        if name not in waiting
    )
    return Measured(results, page, sum(o.state == "done" for o in outcomes.values()), failures, waiting)


def _slots(stages: Sequence[Stage], store: Store, device: str, jobs: int | None) -> tuple[Slot, ...]:
    """One stage at a time with all cores, unless asked otherwise: it measures several images at once itself."""
    if all(store.find(stage) is not None for stage in stages):
        return ()
    slots = make_slots(device, jobs or 1, available_cores(), cuda_devices)
    for name in {slot.device for slot in slots}:
        resolve_device(name)
    return slots


def _measured_set(
    planned: PlannedSet, settings: QualitySettings, outcomes: Mapping[str, Outcome], pictures: Path
) -> QualitySet:
    dataset, measured = planned.dataset, [record.stem for record in planned.records]
    quality = _rows(planned.quality, planned, settings, outcomes, "lossless")
    wanted = planned.wanted or MeasuredSet(data=DataConfig())
    table = TABLES[wanted.paper_table] if wanted.paper_table else None
    folders = {spec.name: _images(planned, spec, outcomes)[1] for spec in planned.methods}
    fused = {name: folder for name, folder in folders.items() if folder is not None}
    shown = spread(planned.records, wanted.pictures)
    return QualitySet(
        dataset=DatasetInfo(
            name=dataset.name,
            root=dataset.root,
            synthetic=dataset.synthetic,
            classes=dataset.classes,
            pairs=len(dataset),
            labelled=len(dataset.labelled()),
            content_digest=dataset.content_digest,
            limit=dataset.limit,
        ),
        title=wanted.title or (table.title if table is not None else dataset.name),
        methods=tuple(
            method_info(spec, dataset, measured, found_weights(spec), *_images(planned, spec, outcomes))
            for spec in planned.methods
        ),
        quality=quality,
        sources={r.stem: (r.ir, r.vi) for r in planned.records},
        published=_published(planned, settings) if table is not None else None,
        as_published=_rows(planned.as_published, planned, settings, outcomes, table.saving)
        if table is not None and planned.as_published
        else None,
        task=dataset.task,
        shown={record.stem: side_by_side(record, fused, pictures / dataset.name) for record in shown},
    )


def _images(planned: PlannedSet, spec: MethodSpec, outcomes: Mapping[str, Outcome]) -> tuple[Path | None, Path | None]:
    """Folder of the finished fuse stage, and folder of its images."""
    if spec.folder is not None:
        return None, spec.folder
    stage = planned.fuse.get(spec.name)
    folder = outcomes[stage.digest].folder if stage is not None else None
    return folder, folder / "images" if folder is not None else None


def _rows(
    stages: Mapping[str, Stage],
    planned: PlannedSet,
    settings: QualitySettings,
    outcomes: Mapping[str, Outcome],
    saving: str,
) -> QualityRows:
    ends = {name: outcomes[stage.digest] for name, stage in stages.items()}
    count = len(planned.records)
    asked = len(planned.records) + len(planned.absent)
    outside = all(spec.folder is not None for spec in planned.methods)
    return QualityRows(
        profile=settings.quality.profile,
        metrics=settings.quality.metrics,
        saving=saving,
        images=f"{count} pairs" if not planned.absent else f"{count} of {asked} pairs asked for",
        color="" if outside else settings.fusion.color,
        values={name: end.folder / VALUES for name, end in ends.items() if end.folder is not None},
        failures={name: end.reason for name, end in ends.items() if end.folder is None} | dict(planned.unready),
    )


def _published(planned: PlannedSet, settings: QualitySettings) -> PublishedFigures | None:
    if planned.wanted is None or planned.wanted.paper_table is None:
        return None
    table = TABLES[planned.wanted.paper_table]
    notes = [f"The printed figures are of {table.images}."]
    if planned.absent:
        some = ", ".join(planned.absent[:5]) + (" …" if len(planned.absent) > 5 else "")
        notes.append(
            f"{len(planned.absent)} of these pairs are not in {planned.dataset.root} ({some}): not the same images."
        )
    if table.saving != "lossless":
        habit = "The paper's fused images carry the traces of JPEG (quality 75), by recomputation"
        done = (
            "ours were saved alike for this comparison alone"
            if settings.as_published
            else "ours do not (--as-published)"
        )
        notes.append(f"{habit}; {done}. Methods are compared on losslessly saved images only.")
    if table.conventions:
        notes.append(table.conventions)
    elif settings.quality.profile != "paper":
        notes.append(
            f"The printed figures follow the profile “paper”, ours “{settings.quality.profile}”: not comparable."
        )
    if table.unclear:
        entries = ", ".join(f"{label} {column}" for label, column in table.unclear)
        notes.append(f"Decimal point restored, for the paper's text shows none: {entries}.")
    return PublishedFigures(
        name=table.name,
        columns=table.columns,
        rows={row.label: row.values for row in table.rows},
        years={row.label: row.year for row in table.rows},
        notes=tuple(notes),
    )


def _provenance(settings: QualitySettings, outcomes: Mapping[str, Outcome], started: float) -> dict[str, Any]:
    def clock(t: float) -> str:
        return time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(t))

    seconds = sum(o.seconds for o in outcomes.values())
    return {
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "started": clock(started),
        "finished": clock(time.time()),
        "commit": commit(),
        "versions": {
            "fusion_det": __version__,
            "python": platform.python_version(),
            **library_versions("torch", "numpy", "pillow", "pyiqa"),
        },
        "seconds": round(seconds, 1),
        "settings": settings.model_dump(mode="json", exclude={"sets"}),
    }
