"""From results to the few figures a reader wants: one :class:`MethodSummary` a method, and the stamps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from fusion_det.pipeline.quality_results import QualitySet
from fusion_det.pipeline.results import ExperimentResults, MethodInfo, MethodRun
from fusion_det.report.statistics import (
    ALPHA,
    average_over_seeds,
    holm,
    mean_std,
    paired_difference,
    percentile_interval,
)

Verdict = Literal["yes", "one seed", "seeds disagree", "no", "untested"]
"""Is a difference real? "yes": Holm-adjusted p < 0.05 over test images, and every one of at least two training seeds
agrees on the sign. "one seed" / "seeds disagree": the images say yes, but training noise is unmeasured / is as large.
"no": the images do not say so. "untested": a control, or nothing to pair with."""


FEW_GROUPS = 20
"""With fewer resampling groups percentile intervals cover less than they claim (Cameron, Gelbach & Miller 2008)."""


@dataclass(frozen=True)
class Difference:
    """A method's mAP50 minus a reference's, fractions. ``p_holm`` is None outside the tested family."""

    reference: str
    value: float
    low: float | None
    high: float | None
    p: float | None
    p_holm: float | None
    seeds_agreeing: int
    """Common seeds in which the difference has the sign of ``value``."""
    seeds_common: int
    verdict: Verdict

    @property
    def excludes_zero(self) -> bool | None:
        return None if self.low is None or self.high is None else self.low > 0 or self.high < 0


@dataclass(frozen=True)
class MethodSummary:
    """One method over its seeds; fractions in [0, 1]; everything None where no run gave a figure."""

    info: MethodInfo
    ok: tuple[MethodRun, ...]
    failed: tuple[MethodRun, ...]
    values: dict[int, float]
    """Seed → mAP50."""
    mean: float | None
    std: float | None
    low: float | None
    high: float | None
    difference: Difference | None = None
    replicates: np.ndarray | None = None

    @property
    def is_control(self) -> bool:
        return self.info.family == "control"

    @property
    def without_figure(self) -> str:
        """What stands in the place of a figure: "no weights", or "failed"."""
        states = {run.status for run in self.failed}
        return "no weights" if states == {"no weights"} else "failed"

    @property
    def reasons(self) -> tuple[str, ...]:
        """Distinct reasons of the runs without a figure, in order."""
        return tuple(dict.fromkeys(run.reason or "no reason was recorded; see the run's log" for run in self.failed))

    def mean_of(self, *keys: str) -> float | None:
        """Mean over seeds of ``metrics[keys[0]][keys[1]]…``; None if no run defines it."""
        values = [value for run in self.ok if (value := metric(run, *keys)) is not None]
        return mean_std(values)[0] if values else None


@dataclass(frozen=True)
class Summary:
    """All methods in table order, and the control that differences refer to (None if no control has a figure)."""

    methods: tuple[MethodSummary, ...]
    reference: MethodSummary | None
    seeds: tuple[int, ...]
    family: int
    """Number of differences tested together (Holm)."""
    replicates: int
    """Bootstrap replicates behind each interval."""
    unit: str
    """What the bootstrap resamples: "image"; "run" (whole capture runs, whose frames are not independent); or "run or image"
    (the runs that are known, every other image alone)."""
    groups: int | None
    """How many of these units there are to draw from; None if the results do not say."""

    @property
    def few_groups(self) -> bool:
        """Whether percentile intervals are too narrow because they are drawn from too little."""
        return self.groups is not None and self.groups < FEW_GROUPS

    @property
    def ranked(self) -> tuple[MethodSummary, ...]:
        """Methods with a figure, best first (ties in table order)."""
        return tuple(sorted((m for m in self.methods if m.mean is not None), key=lambda m: -(m.mean or 0.0)))

    @property
    def fusions(self) -> tuple[MethodSummary, ...]:
        return tuple(m for m in self.ranked if not m.is_control)

    @property
    def failures(self) -> tuple[MethodSummary, ...]:
        return tuple(m for m in self.methods if m.failed or not m.ok)


def metric(run: MethodRun, *keys: str) -> float | None:
    """``run.metrics[keys[0]][keys[1]]…`` as a finite float, or None."""
    value: object = run.metrics
    for key in keys:
        if not isinstance(value, dict) or key not in value:
            return None
        value = value[key]
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        return None
    return float(value)


def summarise(results: ExperimentResults) -> Summary:
    """The summary of an experiment."""
    methods = [_method(info, [r for r in results.runs if r.method == info.name]) for info in results.methods]
    controls = [m for m in methods if m.is_control and m.mean is not None]
    reference = max(controls, key=lambda m: m.mean or 0.0) if controls else None
    if reference is not None:
        methods = _with_differences(methods, reference)
    return Summary(
        methods=tuple(methods),
        reference=reference,
        seeds=tuple(sorted({run.seed for run in results.runs})),
        family=sum(m.difference is not None and m.difference.p_holm is not None for m in methods),
        replicates=max((len(m.replicates) for m in methods if m.replicates is not None), default=0),
        unit=next((str(u) for r in results.runs if (u := r.metrics.get("bootstrap", {}).get("unit"))), "image"),
        groups=next((int(g) for r in results.runs if (g := r.metrics.get("bootstrap", {}).get("groups"))), None),
    )


def difference_between(a: MethodSummary, b: MethodSummary) -> Difference:
    """``a`` minus ``b``, unadjusted. Both must have a figure."""
    if a.mean is None or b.mean is None:
        raise ValueError(f"{a.info.name} and {b.info.name} must both have a figure")
    value = a.mean - b.mean
    common = sorted(a.values.keys() & b.values.keys())
    paired = None
    if a.replicates is not None and b.replicates is not None and resampling(a.ok) == resampling(b.ok):
        paired = paired_difference(a.replicates, b.replicates)
    return Difference(
        reference=b.info.name,
        value=value,
        low=paired.low if paired else None,
        high=paired.high if paired else None,
        p=paired.p if paired else None,
        p_holm=None,
        seeds_agreeing=sum((a.values[s] - b.values[s]) * value > 0 for s in common),
        seeds_common=len(common),
        verdict="untested",
    )


def resampling(runs: Sequence[MethodRun]) -> set[tuple[object, ...]]:
    """How the bootstrap of these runs drew: only where that is the same, replicate i is of the same images."""
    drawn = [run.metrics.get("bootstrap", {}) for run in runs]
    return {tuple(b.get(key) for key in ("seed", "unit", "groups")) for b in drawn}


def stamps(results: ExperimentResults | QualitySet) -> tuple[str, ...]:
    """What must stand on every table, figure and page so that it never passes for the real table."""
    out = []
    if results.dataset.synthetic:
        out.append("DEMO: synthetic scenes drawn by code, not a benchmark")
    if results.dataset.limit is not None:
        out.append(f"LIMIT {results.dataset.limit}: only {results.dataset.limit} pairs were used, not the real table")
    return tuple(out)


def short_stamp(results: ExperimentResults | QualitySet) -> str:
    """The stamps in a word or two ("DEMO · LIMIT 50"), or ""."""
    return " · ".join(text.split(":")[0] for text in stamps(results))


def shows_paper_figures(results: ExperimentResults) -> bool:
    """The paper's figures belong beside results on the whole of M3FD and nowhere else."""
    return results.dataset.name == "m3fd" and results.dataset.limit is None and not results.dataset.synthetic


def _method(info: MethodInfo, runs: Sequence[MethodRun]) -> MethodSummary:
    ok = tuple(run for run in runs if run.status == "ok")
    values = {run.seed: value for run in ok if (value := metric(run, "mAP50")) is not None}
    mean, std = mean_std(list(values.values())) if values else (None, None)
    replicates = _replicates(ok)
    interval = percentile_interval(replicates) if replicates is not None else None
    low, high = interval if interval is not None else (None, None)
    return MethodSummary(
        info=info,
        ok=ok,
        failed=tuple(run for run in runs if run.status != "ok"),
        values=values,
        mean=mean,
        std=std,
        low=low,
        high=high,
        replicates=replicates,
    )


def _replicates(runs: Sequence[MethodRun]) -> np.ndarray | None:
    rows = [run.metrics.get("bootstrap", {}).get("mAP50") for run in runs]
    # Only replicates of the same images may be averaged.
    if not rows or not all(rows) or len(resampling(runs)) != 1 or len({len(row) for row in rows}) != 1:
        return None
    return average_over_seeds(rows)


def _with_differences(methods: Sequence[MethodSummary], reference: MethodSummary) -> list[MethodSummary]:
    """Attach differences to ``reference``. Only fusions are tested: the other control is no hypothesis of the experiment."""
    differences = {
        m.info.name: difference_between(m, reference)
        for m in methods
        if m.mean is not None and m.info.name != reference.info.name
    }
    family = [m.info.name for m in methods if not m.is_control and m.info.name in differences]
    family = [name for name in family if differences[name].p is not None]
    adjusted = holm([differences[name].p or 0.0 for name in family])
    for name, p_holm in zip(family, adjusted, strict=True):
        found = replace(differences[name], p_holm=p_holm)
        differences[name] = replace(found, verdict=_verdict(found))
    return [replace(m, difference=differences.get(m.info.name)) for m in methods]


def _verdict(difference: Difference) -> Verdict:
    if difference.p_holm is None:
        return "untested"
    if difference.p_holm >= ALPHA or not difference.excludes_zero:
        return "no"
    if difference.seeds_common < 2:
        return "one seed"
    return "yes" if difference.seeds_agreeing == difference.seeds_common else "seeds disagree"
