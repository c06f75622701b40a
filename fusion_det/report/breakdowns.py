"""The tables beside the main one: per class, per condition, per size of object."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fusion_det.pipeline.results import ExperimentResults
from fusion_det.report.formatting import MISSING, marks, percent
from fusion_det.report.summary import Summary, metric, stamps
from fusion_det.report.table_vi import common_columns, flagged
from fusion_det.report.tables import Cell, Table

TIDY_COLUMNS = (
    "experiment", "dataset", "dataset_digest", "split", "split_digest", "demo", "limit", "detector",
    "method", "contaminated", "seed", "group", "boxes", "images", "AP50", "AP50_95", "coco_AP50", "precision", "recall",
)  # fmt: skip


@dataclass(frozen=True)
class Breakdown:
    """slug: file name. key: of ``MethodRun.metrics``. figure: the key printed. total: the column for everything."""

    slug: str
    key: str
    figure: str
    title: str
    note: str


BREAKDOWNS = (
    Breakdown("per_class", "per_class", "AP50", "AP@50 (%) per class", ""),
    Breakdown(
        "per_condition",
        "per_condition",
        "mAP50",
        "mAP@50 (%) per condition",
        "Each condition alone: its own test images, averaged over the classes that occur in them. "
        "Few boxes make a figure that is mostly chance.",
    ),
    Breakdown(
        "per_size",
        "per_size",
        "AP50",
        "AP@50 (%) per size of object",
        "Sizes as in COCO, by area of the box: small below 32² px, medium below 96² px, large above.",
    ),
)


def groups(results: ExperimentResults, breakdown: Breakdown) -> list[str]:
    """Names of the groups, in the order of the data set's classes or as they first occur."""
    found = dict.fromkeys(g for run in results.runs for g in run.metrics.get(breakdown.key, {}))
    order: Sequence[str] = results.dataset.classes if breakdown.key == "per_class" else ("small", "medium", "large")
    return [g for g in order if g in found] + [g for g in found if g not in order]


def breakdown_table(results: ExperimentResults, summary: Summary, breakdown: Breakdown) -> Table | None:
    """Methods as rows, groups as columns, means over seeds; None if no run has such figures."""
    names = groups(results, breakdown)
    if not names:
        return None
    columns: list[list[Cell]] = []
    for keys in [("mAP50",), *((breakdown.key, name, breakdown.figure) for name in names)]:
        values = [m.mean_of(*keys) for m in summary.methods]
        columns.append([Cell(percent(v), k, v) for v, k in zip(values, marks(values), strict=True)])
    rows = [(Cell(flagged(m, m.info.label)), *(column[i] for column in columns)) for i, m in enumerate(summary.methods)]
    counts = [_total(results), *(_count(results, breakdown, name) for name in names)]
    rows.insert(0, (Cell("boxes in test"), *(Cell(c) for c in counts)))
    note = f"Means over seeds; best bold, second best underlined in each column; {MISSING} where there is no figure."
    return Table(
        slug=breakdown.slug,
        caption=f"{breakdown.title} on the test images of {results.dataset.name}.",
        head=("", "mAP50", *names),
        rows=tuple(rows),
        notes=tuple(filter(None, [note, breakdown.note])),
        stamps=stamps(results),
    )


def breakdown_rows(results: ExperimentResults, breakdown: Breakdown) -> list[dict[str, Any]]:
    """Tidy rows, one a (method, seed, group); figures are fractions."""
    rows = []
    contaminated = {m.name: m.contaminated for m in results.methods}
    for run in results.runs:
        for name, figures in run.metrics.get(breakdown.key, {}).items():
            row = common_columns(results) | {
                "method": run.method,
                "contaminated": contaminated.get(run.method),
                "seed": run.seed,
                "group": name,
            }
            rows.append(row | figures | {"AP50": figures.get(breakdown.figure)})
    return rows


def _total(results: ExperimentResults) -> str:
    totals = [count for run in results.runs if (count := metric(run, "boxes")) is not None]
    return f"{totals[0]:.0f}" if totals else MISSING


def _count(results: ExperimentResults, breakdown: Breakdown, group: str) -> str:
    for run in results.runs:
        if (count := metric(run, breakdown.key, group, "boxes")) is not None:
            return f"{count:.0f}"
    return MISSING
