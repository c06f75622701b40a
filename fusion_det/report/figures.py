"""Which figures a report has: the charts of :mod:`fusion_det.report.charts` filled from results."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fusion_det.pipeline.results import ExperimentResults
from fusion_det.report.charts import interval_chart, mean_curve, pr_chart, training_chart
from fusion_det.report.palette import looks
from fusion_det.report.summary import MethodSummary, Summary, short_stamp, shows_paper_figures
from fusion_det.report.svg import Chart

Curve = list[tuple[float, float]]


@dataclass(frozen=True)
class Figures:
    """intervals: (wide, narrow). precision_recall: the mean over classes first. training: one a method that has curves."""

    intervals: tuple[Chart, Chart]
    precision_recall: tuple[Chart, ...]
    training: tuple[Chart, ...]


def make_figures(results: ExperimentResults, summary: Summary) -> Figures:
    """All charts of a report."""
    stamp, paper = short_stamp(results), shows_paper_figures(results)
    return Figures(
        intervals=(
            interval_chart(summary, width=860, stamp=stamp, paper=paper),
            interval_chart(summary, width=352, stamp=stamp, paper=paper),
        ),
        precision_recall=tuple(_precision_recall(results, summary, stamp)),
        training=tuple(_training(summary, stamp)),
    )


def _precision_recall(results: ExperimentResults, summary: Summary, stamp: str) -> list[Chart]:
    all_looks = looks(summary.methods)
    charts = []
    for name in (None, *results.dataset.classes):
        curves, recall = {}, []
        for i, method in enumerate(summary.methods):
            found = [curve for run in method.ok if (curve := _pr_curve(run.metrics.get("pr_curve", {}), name))]
            if found:
                curves[i] = [sum(column) / len(column) for column in zip(*found, strict=False)]
                recall = next(run.metrics["pr_curve"]["recall"] for run in method.ok if "pr_curve" in run.metrics)
        if curves:
            charts.append(pr_chart(name or "mean over classes", curves, recall, all_looks, stamp))
    return charts


def _pr_curve(document: dict[str, object], name: str | None) -> list[float] | None:
    per_class = document.get("per_class")
    curve = document.get("mean") if name is None else per_class.get(name) if isinstance(per_class, dict) else None
    # A class that does not occur has no curve; one point without a value leaves nothing to draw.
    if not isinstance(curve, list) or not all(isinstance(v, int | float) and math.isfinite(v) for v in curve):
        return None
    return curve


def _training(summary: Summary, stamp: str) -> list[Chart]:
    curves: dict[int, list[Curve]] = {}
    best: dict[int, Curve] = {}
    for i, method in enumerate(summary.methods):
        for run in method.ok:
            curve = read_curve(run.training_curve) if run.training_curve is not None else []
            if curve:
                curves.setdefault(i, []).append(curve)
                chosen = [point for point in curve if point[0] == run.best_epoch]
                best.setdefault(i, []).extend(chosen)
    if not curves:
        return []
    points = [p for found in curves.values() for curve in found for p in curve]
    limits = (max(p[0] for p in points), max(0.05, *(p[1] for p in points)))
    means = {i: mean_curve(found) for i, found in curves.items()}
    return [
        training_chart(
            _title(summary.methods[i], found), i, found, [m for j, m in means.items() if j != i], limits, best[i], stamp
        )
        for i, found in curves.items()
    ]


def _title(method: MethodSummary, curves: Sequence[Curve]) -> str:
    return f"{method.info.label}" if len(curves) == len(method.ok) else f"{method.info.label} ({len(curves)} seeds)"


def read_curve(path: Path) -> Curve:
    """(epoch, mAP50) of a training-curve CSV; rows without a finite figure are left out; [] if there is no file."""
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as handle:
        rows = [(row.get("epoch"), row.get("mAP50")) for row in csv.DictReader(handle, skipinitialspace=True)]
    points = [(float(e), float(v)) for e, v in rows if e and v]
    return [(e, v) for e, v in points if math.isfinite(v)]
