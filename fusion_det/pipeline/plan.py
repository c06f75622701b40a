"""From an experiment to its stages, and from its finished stages to the results document."""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fusion_det.assessment.measure import Protocol
from fusion_det.config import Experiment
from fusion_det.data import PairDataset, Split, leakage
from fusion_det.errors import ConfigError
from fusion_det.files import digest_file
from fusion_det.fusion import (
    MethodSpec,
    expand_methods,
    found_weights,
    get_card,
    how_to_get_weights,
    weights_status,
    with_files,
)
from fusion_det.fusion.contamination import exposure
from fusion_det.fusion.training.mixture import Mixture
from fusion_det.fusion.weights import FoundWeights
from fusion_det.pipeline.fusion_training import WEIGHTS, is_trained_here, train_fusion_stage
from fusion_det.pipeline.quality_stage import VALUES, quality_stage
from fusion_det.pipeline.results import (
    DatasetInfo,
    ExperimentResults,
    MethodInfo,
    MethodRun,
    QualityRows,
    SplitInfo,
)
from fusion_det.pipeline.stage import Outcome, Stage
from fusion_det.pipeline.stages import (
    detect_stage,
    evaluate_stage,
    export_stage,
    fuse_stage,
    stems_of,
    train_stage,
    truth_stage,
)
from fusion_det.pipeline.store import Store, read_manifest


@dataclass(frozen=True)
class Row:
    """The stages of one (method, seed)."""

    method: str
    seed: int
    fuse: Stage
    train: Stage
    detect: Stage
    evaluate: Stage


@dataclass(frozen=True)
class Plan:
    """Everything an experiment needs run.

    unready: row → why it cannot fuse (no weights); such rows have no stages. quality: row → its ``quality`` stage.
    training: row → the ``train-fusion`` stage of its network, for those that are trained here.
    """

    experiment: Experiment
    dataset: PairDataset
    split: Split
    methods: tuple[MethodSpec, ...]
    unready: Mapping[str, str]
    truth: Stage
    rows: tuple[Row, ...]
    quality: Mapping[str, Stage]
    training: Mapping[str, Stage]
    stages: tuple[Stage, ...]
    detector_weights: Path | None


def rows_of(experiment: Experiment) -> list[MethodSpec]:
    """The rows of an experiment's table, in its order. MethodError for unknown methods."""
    for name in experiment.fusion_training.methods:
        get_card(name)
    specs = with_files(expand_methods(experiment.methods), experiment.fusion.weights)
    return sorted(specs, key=lambda spec: (get_card(spec).order, spec.name))


def build_plan(
    experiment: Experiment,
    dataset: PairDataset,
    split: Split,
    detector_weights: Path | None,
    mixture: Mixture | None = None,
) -> Plan:
    """Lay out the stages; computes digests, runs nothing.

    Args:
        mixture: what networks that are trained here learn from; None if there are none of them.

    Raises:
        ConfigError: a dataset without boxes. MethodError: unknown methods.
    """
    if not dataset.classes or not dataset.labelled():
        raise ConfigError(f"{dataset.name} has no boxes, so no detector can be trained on it; use fusion-det fuse")
    methods = rows_of(experiment)
    extra = overlay_parts(experiment, split)
    truth = truth_stage(dataset, split, tuple(extra))
    stages: list[Stage] = []
    rows: list[Row] = []
    unready = {}
    quality: dict[str, Stage] = {}
    training: dict[str, Stage] = {}
    measured = measured_stems(experiment, split)
    protocol = Protocol(experiment.quality.metrics, experiment.quality.profile)
    for spec in methods:
        if mixture is not None and is_trained_here(spec, experiment.fusion_training):
            training[spec.name] = train_fusion_stage(spec.method, experiment.fusion_training, mixture)
        elif why := _unready(spec):
            unready[spec.name] = why
            continue
        fuse = fuse_stage(spec, dataset.select(stems_of(split)), experiment.fusion, training.get(spec.name))
        export = export_stage(spec, dataset, split, fuse)
        stages += [fuse, export]
        if measured:
            quality[spec.name] = quality_stage(spec.name, dataset.select(measured), protocol, fuse)
        images = len(split.ids["train"]) + len(split.ids["val"])
        for seed in experiment.seeds:
            train = train_stage(spec, experiment.detector, detector_weights, seed, export, images)
            detect = detect_stage(spec, experiment.detector, seed, train, export, extra)
            evaluate = evaluate_stage(spec, seed, detect, truth)
            stages += [train, detect, evaluate]
            rows.append(Row(spec.name, seed, fuse, train, detect, evaluate))
    # Measuring last: trainings take longest, so they begin first.
    ordered = {stage.digest: stage for stage in (truth, *training.values(), *stages, *quality.values())}
    return Plan(
        experiment=experiment,
        dataset=dataset,
        split=split,
        methods=tuple(methods),
        unready=unready,
        truth=truth,
        rows=tuple(rows),
        quality=quality,
        training=training,
        stages=tuple(ordered.values()),
        detector_weights=detector_weights,
    )


def _unready(spec: MethodSpec) -> str:
    """Why a row cannot fuse and what helps; "" if it can."""
    ready, text = weights_status(spec)
    if ready:
        return ""
    card = get_card(spec)
    return f"{text}; {how_to_get_weights(card)}, or have it trained in the experiment ({card.name}@trained)"


def measured_stems(experiment: Experiment, split: Split) -> list[str]:
    """The images whose quality is measured; of the test part in its own order, so that they can be paired with mAP."""
    which = experiment.quality.images
    return [] if which == "none" else list(split.ids["test"]) if which == "test" else stems_of(split)


def overlay_parts(experiment: Experiment, split: Split) -> dict[str, str]:
    """Part of the split of every picture asked for that lies outside the test part."""
    part_of = {stem: part for part in ("train", "val") for stem in split.ids[part]}
    return {stem: part_of[stem] for stem in experiment.report.overlay_ids if stem in part_of}


@dataclass(frozen=True)
class PlannedStage:
    """A line of ``--dry-run``."""

    stage: Stage
    cached: bool
    why: str


def survey(plan: Plan, store: Store) -> list[PlannedStage]:
    """Which stages are there already, and why the others have to run."""
    surveyed: list[PlannedStage] = []
    stale: set[str] = set()
    for stage in plan.stages:
        if store.find(stage) is not None:
            surveyed.append(PlannedStage(stage, True, ""))
            continue
        why = store.why_stale(stage)
        if why.startswith("new ") and any(s.digest in stale for s in stage.inputs.values()):
            why = "its input runs again"
        stale.add(stage.digest)
        surveyed.append(PlannedStage(stage, False, why))
    return surveyed


def check_disk(planned: Sequence[PlannedStage], root: Path) -> None:
    """Refuse to start what cannot end.

    Raises:
        ConfigError: less space free than the stages to run are estimated to write.
    """
    need = sum(p.stage.estimate.bytes for p in planned if not p.cached)
    root.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(root).free
    if need > free:
        raise ConfigError(
            f"about {need / 1e9:.1f} GB are needed below {root} and {free / 1e9:.1f} GB are free; make room, or give --runs "
            "a folder on another disk"
        )


def collect_results(plan: Plan, outcomes: Mapping[str, Outcome], provenance: Mapping[str, Any]) -> ExperimentResults:
    """The results document of a run plan."""
    truth = outcomes[plan.truth.digest].folder
    if truth is None:
        raise ConfigError(f"the ground truth could not be written: {outcomes[plan.truth.digest].reason}")
    experiment, dataset = plan.experiment, plan.dataset
    test = set(plan.split.ids["test"])
    return ExperimentResults(
        experiment=experiment.name,
        title=experiment.title or _title(plan),
        dataset=DatasetInfo(
            name=dataset.name,
            root=dataset.root,
            synthetic=dataset.synthetic,
            classes=dataset.classes,
            pairs=len(dataset),
            labelled=len(dataset.labelled()),
            content_digest=dataset.content_digest,
            limit=dataset.limit,
            conditions={r.stem: r.condition for r in dataset if r.stem in test and r.condition},
        ),
        split=SplitInfo(
            name=plan.split.name,
            seed=plan.split.seed,
            digest=plan.split.digest,
            counts=plan.split.counts(),
            boxes={part: dataset.class_counts(ids) for part, ids in plan.split.ids.items()},
            leakage=leakage(dataset, plan.split),
            note=plan.split.note,
        ),
        ground_truth={part: truth / f"{part}.json" for part in _parts(truth)},
        methods=tuple(_method_info(plan, spec, outcomes) for spec in plan.methods),
        runs=tuple(_method_run(row, outcomes, plan.split.digest) for row in plan.rows)
        + tuple(
            MethodRun(method=name, seed=seed, status="no weights", reason=why)
            for name, why in plan.unready.items()
            for seed in experiment.seeds
        ),
        quality=_quality_rows(plan, outcomes) if experiment.quality.images != "none" else None,
        detector=_detector_facts(plan, outcomes),
        report=experiment.report.model_dump(mode="json") | {"overlay_parts": overlay_parts(experiment, plan.split)},
        provenance=dict(provenance),
    )


def _title(plan: Plan) -> str:
    model = plan.experiment.detector.model.replace("yolo", "YOLO")
    return f"mAP@50 of {model} on {plan.dataset.name} by fusion method"


def _quality_rows(plan: Plan, outcomes: Mapping[str, Outcome]) -> QualityRows:
    config, count = plan.experiment.quality, len(measured_stems(plan.experiment, plan.split))
    ends = {name: outcomes[stage.digest] for name, stage in plan.quality.items()}
    return QualityRows(
        profile=config.profile,
        metrics=config.metrics,
        images=f"the {count} {'test images' if config.images == 'test' else 'images of the split'}",
        color=plan.experiment.fusion.color,
        values={name: end.folder / VALUES for name, end in ends.items() if end.folder is not None},
        failures={name: end.reason for name, end in ends.items() if end.folder is None} | dict(plan.unready),
    )


def _method_info(plan: Plan, spec: MethodSpec, outcomes: Mapping[str, Outcome]) -> MethodInfo:
    fused = next((outcomes[r.fuse.digest].folder for r in plan.rows if r.method == spec.name), None)
    images = fused / "images" if fused else None
    found = found_weights(spec)
    if spec.name in plan.training:
        trained = outcomes[plan.training[spec.name].digest].folder
        found = FoundWeights(trained / WEIGHTS, "trained") if trained is not None else None
    return method_info(spec, plan.dataset, plan.split.ids["test"], found, fused, images)


def method_info(
    spec: MethodSpec,
    dataset: PairDataset,
    judged: Collection[str],
    found: FoundWeights | None,
    fused: Path | None,
    images: Path | None,
) -> MethodInfo:
    """What results say of a method.

    Args:
        judged: stems of the images that it is judged by. found: the weights in use. fused: its finished ``fuse`` stage, images:
            the folder of its images, where there is one.
    """
    card = get_card(spec)
    facts = (read_manifest(fused) or {}).get("facts", {}) if fused else {}
    source = found.source if found is not None else ""
    qualifier = spec.qualifier(source)
    seen = exposure(card, found, dataset, judged)
    protocol = facts.get("protocol", "common")
    return MethodInfo(
        name=spec.name,
        method=spec.method,
        label=f"{card.label} ({qualifier})" if qualifier else card.label,
        abbreviation=f"{card.abbreviation} {qualifier}" if qualifier else card.abbreviation,
        title=card.title,
        authors=card.authors,
        venue=card.venue,
        year=card.year,
        family=card.family,
        color=card.fuses,
        weights=weights_status(spec)[1] if found is None else found.text(card),
        weights_source=source,  # type: ignore[arg-type]
        trained_on=seen.datasets or (),
        trained_on_known=seen.datasets is not None,
        contaminated=seen.contaminated,
        images_trained_on=seen.seen,
        table_vi=None if qualifier else card.table_vi,
        order=card.order,
        notes=card.notes if protocol == "common" else f"Fused by the published procedure: {card.official}",
        protocol=protocol,
        seconds_per_pair=facts.get("seconds_per_pair"),
        images=images,
    )


def _method_run(row: Row, outcomes: Mapping[str, Outcome], split_digest: str) -> MethodRun:
    end = outcomes[row.evaluate.digest]
    if end.folder is None:
        return MethodRun(method=row.method, seed=row.seed, status="failed", reason=end.reason)
    trained, detected = outcomes[row.train.digest].folder, outcomes[row.detect.digest].folder
    if trained is None or detected is None:
        raise ConfigError(
            f"{row.method} seed {row.seed} was evaluated without its inputs; remove {end.folder} and rerun"
        )
    summary = json.loads((trained / "summary.json").read_text(encoding="utf-8"))
    facts = (read_manifest(trained) or {}).get("facts", {})
    metrics = json.loads((end.folder / "metrics.json").read_text(encoding="utf-8"))
    return MethodRun(
        method=row.method,
        seed=row.seed,
        status="ok",
        detections={part: detected / f"{part}.json" for part in _parts(detected)},
        metrics={**metrics, "method": row.method, "seed": row.seed, "split_digest": split_digest},
        training_curve=trained / "curve.csv",
        best_epoch=summary["best_epoch"],
        device=facts.get("device", ""),
        precision=facts.get("precision", ""),
        seconds={
            name: (read_manifest(folder) or {}).get("seconds", 0.0)
            for name, folder in (("train", trained), ("detect", detected))
        },
    )


def _parts(folder: Path) -> list[str]:
    return [part for part in ("val", "test", "extra") if (folder / f"{part}.json").is_file()]


def _detector_facts(plan: Plan, outcomes: Mapping[str, Outcome]) -> dict[str, Any]:
    config = plan.experiment.detector
    weights = plan.detector_weights
    facts: dict[str, Any] = config.model_dump(mode="json") | {
        "built": f"{config.model}u",
        "weights_file": str(weights) if weights else "none (from scratch)",
        "weights_sha256": digest_file(weights) if weights else None,
    }
    trained = next((f for row in plan.rows if (f := outcomes[row.train.digest].folder)), None)
    if trained is not None:
        summary = json.loads((trained / "summary.json").read_text(encoding="utf-8"))
        facts |= {"parameters": summary["parameters"], "tensors_taken": summary["tensors_taken"]}
    return facts
