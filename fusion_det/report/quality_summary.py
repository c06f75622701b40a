"""From measured quality to the figures a reader wants: means, spreads and ranks of every method by every metric."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fusion_det.pipeline.results import QualityRows
from fusion_det.quality.table import Metric, find_metrics
from fusion_det.report.statistics import mean_std, midranks
from fusion_det.report.summary import MethodSummary

logger = logging.getLogger(__name__)

_DECIMALS = {"MSE": 1, "SD": 2, "PSNR": 2}
_DECIMALS_IN: dict[tuple[str, str], int] = {("MSE", "zoo"): 4}
"""Where a profile has another scale: MSE of images in 0..1, of which one decimal would print nothing but zeros."""


def decimals(metric: Metric, profile: str) -> int:
    """Digits after the point in print: three, as in the papers' tables, fewer where the figures are large."""
    return _DECIMALS_IN.get((metric.name, profile), _DECIMALS.get(metric.name, 3))


@dataclass(frozen=True, eq=False)
class MethodQuality:
    """One method. Figures are None where a metric is not defined on the images, everything is where ``reason`` says why.

    values: metric → (I,) float64, NaN on an image where it is undefined. mean, std: over the images every fusion has a value
    for. rank: among the fusions, 1 is best, ties share the mean of their places; None for the controls, which fuse nothing.
    """

    method: MethodSummary
    values: Mapping[str, np.ndarray]
    mean: Mapping[str, float | None]
    std: Mapping[str, float | None]
    rank: Mapping[str, float | None]
    reason: str = ""

    @property
    def mean_rank(self) -> float | None:
        """Over all metrics that have a rank; None without any."""
        ranks = [rank for rank in self.rank.values() if rank is not None]
        return sum(ranks) / len(ranks) if ranks else None


@dataclass(frozen=True, eq=False)
class QualitySummary:
    """Quality of the same images by every method, in table order.

    counted: metric → number of images behind its means. unavailable: metric → why no method has a value.
    """

    rows: QualityRows
    metrics: tuple[Metric, ...]
    stems: tuple[str, ...]
    methods: tuple[MethodQuality, ...]
    counted: Mapping[str, int]
    unavailable: Mapping[str, str]

    @property
    def fusions(self) -> tuple[MethodQuality, ...]:
        """Methods with figures that are no controls."""
        return tuple(m for m in self.methods if m.values and not m.method.is_control)

    @property
    def defined(self) -> tuple[Metric, ...]:
        """Metrics for which there are figures."""
        return tuple(metric for metric in self.metrics if self.counted[metric.name])


def summarise_quality(rows: QualityRows, methods: Sequence[MethodSummary]) -> QualitySummary:
    """The summary of one set of images; ``methods`` in table order, every one of the results."""
    metrics = find_metrics(rows.metrics)
    loaded = {m.info.name: _load(rows, m.info.name) for m in methods}
    stems = next((tuple(d["stems"]) for d in loaded.values() if d), ())
    values = {
        name: {m.name: np.array([np.nan if v is None else v for v in d["values"][m.name]]) for m in metrics}
        for name, d in loaded.items()
        if d and tuple(d["stems"]) == stems
    }
    judged = [m.info.name for m in methods if m.info.name in values and not m.is_control] or list(values)
    complete = {
        m.name: np.logical_and.reduce([np.isfinite(values[name][m.name]) for name in judged])
        if judged
        else np.zeros(0, bool)
        for m in metrics
    }
    found = tuple(_method(m, values.get(m.info.name, {}), complete, rows) for m in methods)
    return QualitySummary(
        rows=rows,
        metrics=metrics,
        stems=stems,
        methods=_with_ranks(found, metrics, rows.profile),
        counted={name: int(which.sum()) for name, which in complete.items()},
        unavailable={k: v for d in loaded.values() if d for k, v in d["unavailable"].items()},
    )


def printed(value: float | None, metric: Metric, profile: str) -> float | None:
    """A figure rounded as it is printed."""
    return None if value is None else round(value, decimals(metric, profile))


def _load(rows: QualityRows, name: str) -> dict[str, Any] | None:
    file = rows.values.get(name)
    if file is None:
        return None
    try:
        document: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        logger.warning("%s is no longer in the store; run the experiment again to have the quality of %s", file, name)
        return None
    return document


def _method(
    method: MethodSummary, values: Mapping[str, np.ndarray], complete: Mapping[str, np.ndarray], rows: QualityRows
) -> MethodQuality:
    mean: dict[str, float | None] = {}
    std: dict[str, float | None] = {}
    for name, array in values.items():
        chosen = array[complete[name] & np.isfinite(array)]
        mean[name], std[name] = mean_std(chosen.tolist()) if len(chosen) else (None, None)
    reason = "" if values else rows.failures.get(method.info.name, "its values are no longer in the store")
    return MethodQuality(method, values, mean, std, {}, reason)


def _with_ranks(methods: Sequence[MethodQuality], metrics: Sequence[Metric], profile: str) -> tuple[MethodQuality, ...]:
    """Ranks of the figures as printed, so that what reads alike ranks alike."""
    ranks: list[dict[str, float | None]] = [{} for _ in methods]
    for metric in metrics:
        figures = [None if m.method.is_control else printed(m.mean.get(metric.name), metric, profile) for m in methods]
        known = [i for i, figure in enumerate(figures) if figure is not None]
        sign = -1 if metric.higher_is_better else 1
        places = midranks(np.array([sign * (figures[i] or 0.0) for i in known]))
        for i, place in zip(known, places.tolist(), strict=True):
            ranks[i][metric.name] = place
    return tuple(replace(m, rank=rank) for m, rank in zip(methods, ranks, strict=True))
