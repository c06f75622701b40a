"""From measured values to the figures of an ablation: means with intervals, and differences from the whole method."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fusion_det.ablation.results import AblationResults, Trial, VariantInfo
from fusion_det.quality.table import Metric, find_metrics
from fusion_det.report.statistics import mean_std, percentile_interval

logger = logging.getLogger(__name__)

REPLICATES = 2000
"""Of the bootstrap over pairs; the same ones for every variant and metric."""


@dataclass(frozen=True)
class Estimate:
    """A figure and its 95 % interval over resampled pairs; low and high are None with fewer than two of them."""

    value: float
    low: float | None
    high: float | None

    @property
    def sign(self) -> int:
        """Of a difference: 1 or -1 where its interval leaves out zero, else 0: undecided."""
        if self.low is None or self.high is None or self.low <= 0 <= self.high:
            return 0
        return 1 if self.value > 0 else -1


def value_of(estimate: Estimate | None) -> float | None:
    return None if estimate is None else estimate.value


@dataclass(frozen=True, eq=False)
class VariantFigures:
    """A row. Figures are None where a metric has no value, and all of them where ``reason`` says why.

    values: metric → (S,I) float64 of trainings and pairs, NaN where undefined. mean: over trainings and pairs. spread: standard
    deviation over trainings of their means. change: difference of the mean from the reference's, in percent of it, paired by
    pairs; None for the reference itself. printed_change: the same of the paper's figures.
    """

    info: VariantInfo
    trials: tuple[Trial, ...]
    values: Mapping[str, np.ndarray]
    mean: Mapping[str, Estimate | None]
    spread: Mapping[str, float | None]
    change: Mapping[str, Estimate | None]
    printed: Mapping[str, float]
    printed_change: Mapping[str, float]
    reason: str = ""


@dataclass(frozen=True, eq=False)
class AblationSummary:
    """counted: metric → pairs behind its means, the same for every variant. unavailable: metric → why it is not there.

    control: metric → mean of the plain mean of both sources over the same pairs; None where it has none.
    """

    results: AblationResults
    metrics: tuple[Metric, ...]
    stems: tuple[str, ...]
    variants: tuple[VariantFigures, ...]
    counted: Mapping[str, int]
    unavailable: Mapping[str, str]
    control: Mapping[str, float | None]

    @property
    def reference(self) -> VariantFigures:
        return next(v for v in self.variants if v.info.name == self.results.reference)

    @property
    def below_control(self) -> tuple[Metric, ...]:
        """Metrics by which the reference is worse than the plain mean of both sources."""
        found = []
        for metric in self.defined:
            ours, plain = value_of(self.reference.mean[metric.name]), self.control[metric.name]
            if ours is not None and plain is not None and (ours < plain) == metric.higher_is_better and ours != plain:
                found.append(metric)
        return tuple(found)

    @property
    def has_learnt(self) -> bool:
        """Whether the reference beats the plain mean by more than half of the metrics: else its variants tell nothing."""
        return 2 * len(self.below_control) < len(self.defined)

    @property
    def defined(self) -> tuple[Metric, ...]:
        """Metrics for which there are figures."""
        return tuple(metric for metric in self.metrics if self.counted[metric.name])

    @property
    def compared(self) -> tuple[Metric, ...]:
        """Those of them that the paper prints as well."""
        columns = () if self.results.published is None else self.results.published.columns
        return tuple(metric for metric in self.defined if metric.name in columns)


def summarise(results: AblationResults) -> AblationSummary:
    """Read the values of all trials and compare them; a file that is gone is a variant without figures."""
    metrics = find_metrics(results.metrics)
    stems = tuple(results.sources)
    loaded = {(t.variant, t.seed): _load(t.values, stems, metrics) for t in results.trials}
    unavailable = {name: why for document in loaded.values() if document for name, why in document[1].items()}
    values = {v.name: _values(v, results, loaded, metrics) for v in results.variants}
    there = [table for table in values.values() if table]
    complete = {
        m.name: np.logical_and.reduce([np.isfinite(table[m.name]).all(0) for table in there])
        if there
        else np.zeros(0, bool)
        for m in metrics
    }
    replicates = _replicates(values, complete)
    variants = tuple(_figures(v, results, values, complete, replicates) for v in results.variants)
    counted = {name: int(which.sum()) for name, which in complete.items()}
    plain = _load(results.control, stems, metrics)
    control = {name: _mean(plain[0][name][which]) if plain else None for name, which in complete.items()}
    return AblationSummary(results, metrics, stems, variants, counted, unavailable, control)


Loaded = tuple[dict[str, np.ndarray], dict[str, str]]


def _load(file: Path | None, stems: Sequence[str], metrics: Sequence[Metric]) -> Loaded | None:
    """Metric → (I,) values in the order of ``stems``, and metric → why it has none."""
    if file is None:
        return None
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        logger.warning("%s is no longer in the store; run the command again", file)
        return None
    order = [document["stems"].index(stem) for stem in stems]
    table = {m.name: np.array([document["values"][m.name][i] for i in order], dtype=np.float64) for m in metrics}
    return table, document["unavailable"]


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if len(values) and np.isfinite(values).all() else None


def _values(
    variant: VariantInfo,
    results: AblationResults,
    loaded: Mapping[tuple[str, int], Loaded | None],
    metrics: Sequence[Metric],
) -> dict[str, np.ndarray]:
    """Metric → (S,I); empty without any finished trial."""
    seeds = [t.seed for t in results.trials if t.variant == variant.name]
    tables = [found[0] for seed in seeds if (found := loaded[variant.name, seed]) is not None]
    return {m.name: np.stack([table[m.name] for table in tables]) for m in metrics} if tables else {}


def _replicates(
    values: Mapping[str, Mapping[str, np.ndarray]], complete: Mapping[str, np.ndarray]
) -> dict[tuple[str, str], np.ndarray]:
    """(variant, metric) → (B,) means of resampled pairs, averaged over trainings. Replicate i draws the same pairs for all."""
    found = {}
    for metric, which in complete.items():
        count = int(which.sum())
        if not count:
            continue
        drawn = np.random.Generator(np.random.PCG64(0)).integers(0, count, (REPLICATES, count))
        for name, table in values.items():
            if table:
                found[name, metric] = table[metric][:, which].mean(0)[drawn].mean(1)
    return found


def _figures(
    variant: VariantInfo,
    results: AblationResults,
    values: Mapping[str, Mapping[str, np.ndarray]],
    complete: Mapping[str, np.ndarray],
    replicates: Mapping[tuple[str, str], np.ndarray],
) -> VariantFigures:
    own, whole = values[variant.name], values[results.reference]
    mean: dict[str, Estimate | None] = dict.fromkeys(complete)
    change: dict[str, Estimate | None] = dict.fromkeys(complete)
    spread: dict[str, float | None] = dict.fromkeys(complete)
    for metric, which in complete.items():
        if not own or not which.any():
            continue
        by_training = own[metric][:, which].mean(1)
        value, spread[metric] = mean_std(by_training.tolist())
        drawn = replicates[variant.name, metric]
        mean[metric] = _estimate(value, drawn, int(which.sum()))
        if whole and variant.name != results.reference:
            beside = float(whole[metric][:, which].mean())
            ratio = replicates[results.reference, metric]
            relative = np.divide(drawn, ratio, out=np.full_like(drawn, np.nan), where=ratio != 0)
            change[metric] = (
                _estimate(100 * (value / beside - 1), 100 * (relative - 1), int(which.sum())) if beside else None
            )
    printed, printed_change = _printed(variant, results)
    trials = tuple(t for t in results.trials if t.variant == variant.name)
    reason = "; ".join(dict.fromkeys(t.reason for t in trials if t.reason))
    if not own and not reason:
        reason = "its values are no longer in the store; run the command again"
    return VariantFigures(variant, trials, own, mean, spread, change, printed, printed_change, reason)


def _estimate(value: float, replicates: np.ndarray, pairs: int) -> Estimate:
    interval = percentile_interval(replicates) if pairs > 1 else None
    return Estimate(value, *(interval or (None, None)))


def _printed(variant: VariantInfo, results: AblationResults) -> tuple[dict[str, float], dict[str, float]]:
    """The paper's figures of a variant, and their differences from its whole method in percent."""
    published = results.published
    whole = next((v.paper_row for v in results.variants if v.name == results.reference), "")
    if published is None or variant.paper_row not in published.rows:
        return {}, {}
    figures = dict(zip(published.columns, published.rows[variant.paper_row], strict=True))
    if whole not in published.rows or variant.name == results.reference:
        return figures, {}
    beside = dict(zip(published.columns, published.rows[whole], strict=True))
    return figures, {name: 100 * (figures[name] / beside[name] - 1) for name in figures}


@dataclass(frozen=True)
class Agreement:
    """How the paper's differences fare here, in numbers of (variant, metric). undecided: ours may be of either sign."""

    agree: int
    contradict: int
    undecided: int

    @property
    def total(self) -> int:
        return self.agree + self.contradict + self.undecided


def agreement(summary: AblationSummary) -> Agreement:
    """Of all variants and metrics that both tables have, the reference left out. A printed difference of zero counts nowhere."""
    pairs = [
        (int(np.sign(v.printed_change[metric.name])), ours.sign)
        for v in summary.variants
        for metric in summary.compared
        if metric.name in v.printed_change and (ours := v.change[metric.name]) is not None
    ]
    signs = [(theirs, ours) for theirs, ours in pairs if theirs]
    return Agreement(
        agree=sum(ours == theirs for theirs, ours in signs),
        contradict=sum(ours == -theirs for theirs, ours in signs),
        undecided=sum(ours == 0 for _, ours in signs),
    )
