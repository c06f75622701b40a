"""Do quality metrics predict detection? Rank correlation of mAP@50 with each metric over the fusion methods.

Two questions are kept apart. The *interval* is over test images: the same resampled images give every method's mAP and
quality, so it tells how far the correlation among **these** methods and detectors depends on which images were drawn. The
*p* is over methods: were quality unrelated to detection, every order of the methods would be equally likely, and p is the
share of orders that correlate at least as strongly. Only p speaks of other methods, and few methods cannot give a small one.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fusion_det.detection.resampling import bootstrap_groups, bootstrap_weights
from fusion_det.quality.table import Metric
from fusion_det.report.formatting import MISSING, join_words, p_value
from fusion_det.report.quality_summary import MethodQuality, QualitySummary
from fusion_det.report.quality_tables import Setting
from fusion_det.report.statistics import (
    ALPHA,
    LEVEL,
    holm,
    kendall,
    percentile_interval,
    permutation_p,
    smallest_permutation_p,
    spearman,
)
from fusion_det.report.summary import MethodSummary, Summary, resampling
from fusion_det.report.tables import Cell, Table


@dataclass(frozen=True)
class Association:
    """One metric against mAP@50 over the fusions; correlations are positive where better by the metric is better detected.

    rho: Spearman; None where all methods have the same figure. low, high: its interval over test images, None where the
    resamplings cannot be paired. tau: Kendall's tau-b. p: exact permutation over methods; p_holm: adjusted for the metrics.
    """

    metric: Metric
    rho: float | None
    low: float | None
    high: float | None
    tau: float | None
    p: float
    p_holm: float

    @property
    def shown(self) -> bool:
        """Whether it can be told from chance."""
        return self.p_holm < ALPHA and self.low is not None and self.high is not None and self.low * self.high > 0


@dataclass(frozen=True)
class Associations:
    """methods: number of fusions that have both figures. items: strongest correlation first. replicates: behind intervals."""

    methods: int
    items: tuple[Association, ...]
    replicates: int

    @property
    def smallest_p(self) -> float:
        """The smallest p, before adjustment, that a metric could have had with so many methods."""
        return smallest_permutation_p(self.methods)

    @property
    def too_few(self) -> bool:
        """Whether no single correlation, however perfect, could be told from chance."""
        return self.smallest_p * len(self.items) >= ALPHA


Pair = tuple[MethodSummary, MethodQuality]


def associate(summary: Summary, quality: QualitySummary, truth: Path | None) -> Associations | None:
    """All metrics; None where fewer than three fusions have both figures.

    truth: COCO ground truth of the test images, which tells what the bootstrap of mAP drew together.
    """
    pairs = [(m, q) for m in summary.methods for q in quality.fusions if q.method.info.name == m.info.name]
    pairs = [(m, q) for m, q in pairs if m.mean is not None]
    if len(pairs) < 3 or not quality.defined:
        return None
    detected = np.array([m.mean for m, _ in pairs], dtype=np.float64)
    weights = _weights([m for m, _ in pairs], quality, truth)
    raw = []
    for metric in quality.defined:
        sign = 1.0 if metric.higher_is_better else -1.0
        means = np.array([q.mean[metric.name] for _, q in pairs], dtype=np.float64)
        rho = float(spearman(sign * means, detected))
        interval = None if weights is None else _interval(pairs, quality, metric.name, sign, weights)
        low, high = interval if interval is not None else (None, None)
        tau = kendall(sign * means, detected)
        raw.append((metric, _defined(rho), low, high, _defined(tau), permutation_p(means, detected)))
    adjusted = holm([row[-1] for row in raw])
    items = [Association(*row, p_holm=p) for row, p in zip(raw, adjusted, strict=True)]
    items.sort(key=lambda a: -abs(a.rho) if a.rho is not None else 1.0)
    return Associations(len(pairs), tuple(items), 0 if weights is None else len(weights))


def answer(found: Associations | None) -> str:
    """Do the quality metrics predict detection? One or two sentences, no stronger than the figures."""
    if found is None:
        return "Fewer than three fusions have both figures: nothing can be said about how quality and detection go together."
    n = found.methods
    if found.too_few:
        return (
            f"With {n} fusions this cannot be answered: even a metric that ranked them exactly as mAP@50 does would have p = "
            f"{p_value(found.smallest_p)} before correction for {len(found.items)} metrics. The correlations below describe "
            "these methods and no others."
        )
    shown = [a for a in found.items if a.shown]
    if not shown:
        least = p_value(min(a.p_holm for a in found.items))
        return (
            f"Over {n} fusions no metric's ranking is shown to go with mAP@50 (the smallest adjusted p is {least}, and an "
            "interval that includes zero shows nothing either). That is no proof that none does."
        )
    with_it = [a.metric.name for a in shown if (a.rho or 0.0) > 0]
    against = [a.metric.name for a in shown if (a.rho or 0.0) < 0]
    parts = [f"{_verb(with_it)} {n} fusions as mAP@50 does"] if with_it else []
    parts += [f"{_verb(against)} {'them' if with_it else f'{n} fusions'} the other way round"] if against else []
    return f"{join_words(parts)}, more than chance explains; the other metrics are not shown to go with it."


def _verb(names: Sequence[str]) -> str:
    return f"{join_words(names)} {'ranks' if len(names) == 1 else 'rank'}"


def association_table(found: Associations, quality: QualitySummary, setting: Setting) -> Table:
    """A row a metric, strongest correlation first."""
    rows = tuple(
        (
            Cell(f"{a.metric.name} {a.metric.arrow}"),
            Cell(_signed(a.rho), value=a.rho),
            Cell(MISSING if a.low is None else f"{_signed(a.low)} to {_signed(a.high)}", value=a.low),
            Cell(_signed(a.tau), value=a.tau),
            Cell(p_value(a.p), value=a.p),
            Cell(p_value(a.p_holm), value=a.p_holm),
            Cell("too few" if found.too_few else "yes" if a.shown else "no"),
        )
        for a in found.items
    )
    orders = "all orders of the methods" if found.methods <= 8 else "random orders of the methods"
    notes = [
        f"Spearman's ρ and Kendall's τ between mAP@50 (mean over seeds) and the metric's mean over {quality.rows.images}, over "
        f"{found.methods} fusions (controls left out); positive: better by the metric is better detected. Profile "
        f"“{quality.rows.profile}”.",
        f"{100 * LEVEL:.0f} % over images: bootstrap of the test images, the same ones for mAP and quality of every method "
        f"({found.replicates} replicates). It speaks of other images for these methods, not of other methods."
        if found.replicates
        else "No interval over images: mAP has no bootstrap replicates that could be paired with the images measured.",
        f"p: two-sided, from {orders}; Holm's correction for {len(found.items)} metrics. It speaks of other methods as far as "
        "these are a fair sample of them.",
    ]
    if found.too_few:
        notes.append(
            f"Too few methods to conclude: the smallest p possible with {found.methods} is {p_value(found.smallest_p)}, before "
            f"correction for {len(found.items)} metrics."
        )
    return Table(
        slug=f"{setting.slug}_and_map",
        caption=f"Rank correlation of mAP@50 with each quality metric on {setting.dataset}.",
        head=("Metric", "ρ", f"{100 * LEVEL:.0f} % over images", "τ", "p", "p (Holm)", "shown?"),
        rows=rows,
        notes=tuple(notes),
        stamps=setting.stamps,
    )


TIDY_COLUMNS = (
    "dataset", "dataset_digest", "demo", "limit", "profile", "metric", "methods",
    "spearman", "spearman_low", "spearman_high", "kendall", "p", "p_holm", "shown", "too_few",
)  # fmt: skip


def tidy_rows(found: Associations, quality: QualitySummary, setting: Setting) -> list[dict[str, Any]]:
    """One row a metric."""
    return [
        {
            **setting.common,
            "profile": quality.rows.profile,
            "metric": a.metric.name,
            "methods": found.methods,
            "spearman": a.rho,
            "spearman_low": a.low,
            "spearman_high": a.high,
            "kendall": a.tau,
            "p": a.p,
            "p_holm": a.p_holm,
            "shown": a.shown,
            "too_few": found.too_few,
        }
        for a in found.items
    ]


def _weights(methods: Sequence[MethodSummary], quality: QualitySummary, truth: Path | None) -> np.ndarray | None:
    """(B, I) how often each measured image counts in each replicate of mAP; None where that is not known.

    Nor where quality is of other images than mAP: an interval over the ones would not belong to a correlation over the others.
    """
    if truth is None or not truth.is_file() or any(m.replicates is None for m in methods):
        return None
    drawn = set.union(*(resampling(m.ok) for m in methods))
    images = json.loads(truth.read_text(encoding="utf-8"))["images"]
    stems = [str(image["id"]) for image in images]
    if len(drawn) != 1 or set(stems) != set(quality.stems):
        return None
    groups, unit = bootstrap_groups(images)
    ((seed, drawn_unit, count),) = drawn
    if (drawn_unit, count) != (unit, len(set(groups))) or not isinstance(seed, int):
        return None
    replicates = min(len(m.replicates) for m in methods if m.replicates is not None)
    place = {stem: i for i, stem in enumerate(quality.stems)}
    weights = np.zeros((replicates, len(quality.stems)))
    weights[:, [place[stem] for stem in stems]] = list(bootstrap_weights(groups, replicates, seed))
    return weights


def _interval(
    pairs: Sequence[Pair], quality: QualitySummary, metric: str, sign: float, weights: np.ndarray
) -> tuple[float, float] | None:
    values = np.stack([q.values[metric] for _, q in pairs])
    complete = np.isfinite([q.values[metric] for q in quality.fusions]).all(axis=0)  # the images behind the means
    counted = weights[:, complete].sum(axis=1)
    usable = counted > 0
    means = weights[usable][:, complete] @ values[:, complete].T / counted[usable, None]
    detected = np.stack([m.replicates for m, _ in pairs if m.replicates is not None], axis=1)[: len(weights)][usable]
    return percentile_interval(spearman(sign * means, detected))


def _defined(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _signed(value: float | None) -> str:
    if value is None:
        return MISSING
    rounded = round(value, 2) + 0.0
    return f"{rounded:+.2f}".replace("-", "−") if rounded else "0.00"
