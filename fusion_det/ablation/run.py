"""Runs an ablation: what is missing of its stages, then the results document and the report."""

from __future__ import annotations

import logging
import platform
import shlex
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fusion_det import __version__
from fusion_det.ablation.paper import NOISE, TABLE_V
from fusion_det.ablation.plan import ENTROPIES, AblationPlan, PlannedTrial, budget_facts, training_facts
from fusion_det.ablation.results import AblationResults, Budget, Trial, VariantInfo
from fusion_det.ablation.settings import Variant
from fusion_det.assessment.published import COLUMNS
from fusion_det.data.splits import ranked_by_hash
from fusion_det.errors import FusionDetError
from fusion_det.files import digest_json
from fusion_det.fusion import FusionMethod, build_method, resolve_device
from fusion_det.machine import available_cores
from fusion_det.pipeline.engine import Display, make_slots, run_plan
from fusion_det.pipeline.experiment import Places, cuda_devices
from fusion_det.pipeline.fusion_training import WEIGHTS
from fusion_det.pipeline.quality_results import PublishedFigures
from fusion_det.pipeline.quality_stage import VALUES
from fusion_det.pipeline.stage import Outcome, Slot, Stage
from fusion_det.pipeline.store import read_manifest
from fusion_det.pipeline.versions import commit, library_versions
from fusion_det.progress import NoProgress

log = logging.getLogger(__name__)

RESULTS = "ablation.json"


@dataclass(frozen=True)
class Finished:
    """What an ablation came to. ran: stages that had to run. failures: "VARIANT: reason"."""

    results: AblationResults
    page: Path
    ran: int
    failures: tuple[str, ...]


def run_ablation(
    plan: AblationPlan,
    places: Places,
    *,
    device: str = "auto",
    jobs: int | None = None,
    display: Display | None = None,
) -> Finished:
    """Run what is missing, write the results and the report. A variant that fails is a row that says so.

    Args:
        jobs: stages at a time, 1 by default: a training uses every core.
    """
    from fusion_det.ablation.report import build_ablation_report

    started = time.time()
    outcomes = run_plan(plan.stages, places.store, _slots(plan, places, device, jobs), display)
    results = _collect(plan, outcomes, started)
    results.save(places.results(plan.settings.name).with_name(RESULTS))
    progress = display.bar("report") if display else NoProgress()
    page = build_ablation_report(results, places.report(plan.settings.name), progress)
    failures = [f"{t.variant} seed {t.seed}: {why}" for t in results.trials if (why := t.reason or t.entropy_reason)]
    sources = {name: outcomes[stage.digest] for name, stage in plan.sources.items()}
    failures += [f"{name} images: {end.reason}" for name, end in sources.items() if end.folder is None]
    if results.control is None:
        failures.append(f"the plain mean: {outcomes[plan.control[1].digest].reason}")
    return Finished(results, page, sum(o.state == "done" for o in outcomes.values()), tuple(failures))


def _slots(plan: AblationPlan, places: Places, device: str, jobs: int | None) -> tuple[Slot, ...]:
    if all(places.store.find(stage) is not None for stage in plan.stages):
        return ()
    slots = make_slots(device, jobs or 1, available_cores(), cuda_devices)
    for name in {slot.device for slot in slots}:
        resolve_device(name)
    return slots


def _collect(plan: AblationPlan, outcomes: Mapping[str, Outcome], started: float) -> AblationResults:
    settings, mixture, pairs = plan.settings, plan.pairs.mixture, plan.pairs
    count = len(pairs.records)
    asked = f" ({len(pairs.absent)} more were asked for and are not there)" if pairs.absent else ""
    held_out = " held out" if settings.measured is None else ""
    budget = Budget(**budget_facts(plan))
    published = plan.card.name == "s4fusion" and any(variant.paper_row for variant in settings.variants)
    return AblationResults(
        experiment=settings.name,
        title=settings.title or f"{plan.card.label}: what each part does",
        method=plan.card.label,
        variants=tuple(_info(plan, variant) for variant in settings.variants),
        reference=settings.compared_with,
        trials=tuple(_trial(trial, outcomes) for trial in plan.trials),
        budget=budget,
        learnt_from=f"{len(mixture.train)} pairs of {', '.join(str(origin['name']) for origin in mixture.origins)}",
        measured_on=f"{count} pairs of {pairs.name}{held_out}{asked}",
        synthetic=pairs.synthetic,
        data_digest=digest_json([mixture.digest, [[r.stem, r.content] for r in pairs.records]]),
        metrics=settings.metrics,
        profile=settings.profile,
        color=settings.fusion.color,
        sources={record.stem: (record.ir, record.vi) for record in pairs.records},
        shown=_shown(plan),
        control=_file(plan.control[1], outcomes, VALUES),
        published=_published() if published else None,
        entropy_of=settings.entropy.variants if settings.entropy is not None else (),
        source_entropies={name: file for name, s in plan.sources.items() if (file := _file(s, outcomes, ENTROPIES))},
        classifier=plan.classifier,
        provenance=_provenance(plan, outcomes, started),
    )


def _trial(trial: PlannedTrial, outcomes: Mapping[str, Outcome]) -> Trial:
    weights = _file(trial.train, outcomes, WEIGHTS)
    facts = {} if weights is None else training_facts(weights)
    manifest = {} if weights is None else read_manifest(weights.parent) or {}
    failed = next((end for s in (trial.train, trial.fuse, trial.quality) if (end := outcomes[s.digest]).reason), None)
    entropy = None if trial.entropy is None else outcomes[trial.entropy.digest]
    return Trial(
        variant=trial.variant.name,
        seed=trial.seed,
        steps=facts.get("step"),
        seconds=manifest.get("seconds"),
        device=facts.get("device", ""),
        commit=facts.get("commit", ""),
        weights=weights,
        images=_file(trial.fuse, outcomes, "images"),
        values=_file(trial.quality, outcomes, VALUES),
        entropies=None if trial.entropy is None else _file(trial.entropy, outcomes, ENTROPIES),
        reason=failed.reason if failed is not None else "",
        entropy_reason=entropy.reason if entropy is not None else "",
    )


def _file(stage: Stage, outcomes: Mapping[str, Outcome], name: str) -> Path | None:
    folder = outcomes[stage.digest].folder
    return None if folder is None else folder / name


def _info(plan: AblationPlan, variant: Variant) -> VariantInfo:
    parameters = used = None
    try:
        from fusion_det.efficiency.parameters import count_parameters

        method = build_method(plan.card.name, weights=None, config=variant.config)
        if isinstance(method, FusionMethod):
            counted = count_parameters(method)
            parameters, used = counted.total, counted.used
    except (
        FusionDetError,
        RuntimeError,
        TypeError,
    ) as error:  # a stranger's network; the row has its figures all the same
        log.info("the parameters of %s cannot be counted (%s)", variant.name, error)
    return VariantInfo(
        name=variant.name,
        label=variant.text,
        config=variant.config or next(iter(plan.card.configs), None),
        changes=variant.settings,
        paper_row=variant.paper_row,
        parameters=parameters,
        parameters_used=used,
    )


def _shown(plan: AblationPlan) -> tuple[str, ...]:
    """The pairs that pictures are shown of: those that are named, and others, the same ones every time."""
    stems = [record.stem for record in plan.pairs.records]
    named = plan.settings.picture_ids
    others = [stem for stem in ranked_by_hash(stems, "fusion_det/ablation-pictures/") if stem not in named]
    return (*named, *sorted(others[: max(0, plan.settings.pictures - len(named))]))


def _published() -> PublishedFigures:
    unclear = ", ".join(f"{label} {column}" for label, column in TABLE_V.unclear)
    return PublishedFigures(
        name=TABLE_V.name,
        columns=COLUMNS,
        rows={row.label: row.values for row in TABLE_V.rows},
        notes=(
            f"The printed figures are of {TABLE_V.images}.",
            NOISE,
            f"Decimal point restored, for the paper's text shows none: {unclear}.",
        ),
    )


def _provenance(plan: AblationPlan, outcomes: Mapping[str, Outcome], started: float) -> dict[str, Any]:
    def clock(t: float) -> str:
        return time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(t))

    seconds: dict[str, float] = {}
    for stage in plan.stages:
        folder = outcomes[stage.digest].folder
        manifest = read_manifest(folder) if folder is not None else None
        seconds[stage.kind] = round(seconds.get(stage.kind, 0.0) + (manifest or {}).get("seconds", 0.0), 1)
    return {
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "started": clock(started),
        "finished": clock(time.time()),
        "commit": commit(),
        "versions": {
            "fusion_det": __version__,
            "python": platform.python_version(),
            **library_versions("torch", "lightning", "numpy", "numba", "pillow"),
        },
        "seconds": seconds,
        "settings": plan.settings.model_dump(mode="json", exclude={"variants"}),
    }
