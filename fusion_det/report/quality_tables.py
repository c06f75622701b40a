"""Tables of quality: every method by every metric, their ranks, and our figures beside printed ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fusion_det.pipeline.quality_results import PublishedFigures
from fusion_det.quality.table import Metric, find_metric
from fusion_det.report.cautions import published_procedures
from fusion_det.report.formatting import MISSING, join_words, marks_of_printed, number
from fusion_det.report.provenance import weights_notes
from fusion_det.report.quality_summary import MethodQuality, QualitySummary, decimals, printed
from fusion_det.report.table_vi import flagged
from fusion_det.report.tables import Cell, Table

JSON_SCHEMA = "fusion_det/quality"
JSON_SCHEMA_VERSION = 1
SAVED_AS = {"lossless": "losslessly", "jpeg-75": "as JPEG of quality 75 (4:2:0)"}


@dataclass(frozen=True)
class Setting:
    """Where figures are from, for captions and rows. common: columns of every CSV row. slug: first part of file names."""

    dataset: str
    stamps: tuple[str, ...]
    common: Mapping[str, Any]
    slug: str = "quality"


def quality_table(summary: QualitySummary, setting: Setting) -> Table:
    """Methods as rows, metrics as columns: mean ± standard deviation over images; best bold, second best underlined."""
    mean_ranks = [m.mean_rank for m in summary.methods]
    placed = [None if r is None else round(r, 2) for r in mean_ranks]
    marks = marks_of_printed(placed, higher_is_better=False)
    columns = [[Cell(number(r, 2), mark, r) for r, mark in zip(mean_ranks, marks, strict=True)]]
    columns += [_column(summary, metric) for metric in summary.metrics]
    return Table(
        slug=setting.slug,
        caption=f"Quality of the fused images of {setting.dataset}, profile “{summary.rows.profile}”: "
        "mean ± standard deviation over images.",
        head=("Method", "mean rank ↓", *(f"{m.name} {m.arrow}" for m in summary.metrics)),
        rows=tuple(_rows(summary, columns)),
        notes=tuple(quality_notes(summary)),
        stamps=setting.stamps,
    )


def rank_table(summary: QualitySummary, setting: Setting) -> Table:
    """The ranks behind the mean rank, controls left out."""
    fusions = [i for i, m in enumerate(summary.methods) if m.rank]
    rows = []
    for i in fusions:
        method = summary.methods[i]
        cells = [_rank_cell(method.rank.get(metric.name)) for metric in summary.metrics]
        mean = Cell(number(method.mean_rank, 2), value=method.mean_rank)
        rows.append((Cell(flagged(method.method, method.method.info.label)), mean, *cells))
    return Table(
        slug=f"{setting.slug}_ranks",
        caption=f"Ranks of {len(fusions)} fusions on {setting.dataset} by each metric, profile “{summary.rows.profile}”; "
        "1 is best.",
        head=("Method", "mean rank", *(m.name for m in summary.metrics)),
        rows=tuple(rows),
        notes=("Figures that print alike share the mean of their ranks. The mean rank weighs all metrics alike.",),
        stamps=setting.stamps,
    )


def quality_notes(summary: QualitySummary) -> list[str]:
    """What a reader must know to read the table."""
    rows = summary.rows
    measured = {
        "ycbcr": "the luma of the saved 8-bit colour image",
        "gray": "the saved 8-bit grey image",
        "": "the saved 8-bit image (the luma of a colour one)",
    }[rows.color]
    notes = [
        f"Measured on {rows.images or f'{len(summary.stems)} images'}: {measured}, saved {SAVED_AS[rows.saving]}, read back. "
        f"Conventions: profile “{rows.profile}”; figures of another profile are not comparable.",
    ]
    if controls := [m.method.info.label for m in summary.methods if m.method.is_control]:
        verb = "are no fusions and are" if len(controls) > 1 else "is no fusion and is"
        notes.append(
            f"{join_words(controls)} alone {verb} not ranked: an image equal to one source is praised by metrics that count "
            "what is kept of it."
        )
    notes.append("Best bold, second best underlined among the fusions, as printed. " + _directions(summary.metrics))
    total = len(summary.stems)
    short = [f"{n} ({c} of {total})" for n, c in summary.counted.items() if c < total and n not in summary.unavailable]
    if short and total:
        notes.append(
            f"Not every image could be measured by {join_words(short)}: too small for the metric, or without a finite value."
        )
    notes += weights_notes([m.method.info for m in summary.methods if m.values], total)
    if text := published_procedures([m.method.info for m in summary.methods if m.values]):
        notes.append(text)
    notes += [f"{name}: n/a. {why}" for name, why in summary.unavailable.items()]
    notes += [f"{m.method.info.label}: no figures; {m.reason}" for m in summary.methods if m.reason]
    return notes


def published_table(published: PublishedFigures, summary: QualitySummary, setting: Setting) -> Table:
    """The printed rows, and under each of those that were measured here our own with the difference in percent."""
    metrics = [find_metric(name) for name in published.columns]
    ours: dict[str, list[MethodQuality]] = {}
    for m in summary.methods:
        for name in _names(m) if m.values else ():
            ours.setdefault(name, []).append(m)
    marks = [
        marks_of_printed([row[i] for row in published.rows.values()], higher_is_better=metric.higher_is_better)
        for i, metric in enumerate(metrics)
    ]
    rows = []
    for place, (label, figures) in enumerate(published.rows.items()):
        year = published.years.get(label)
        cells = [
            Cell(number(v, decimals(k, summary.rows.profile)), column[place], v)
            for v, k, column in zip(figures, metrics, marks, strict=True)
        ]
        rows.append((Cell(f"{label}, printed"), Cell(str(year or MISSING)), *cells))
        for method in ours.get(_plain(label), []):
            cells = [
                _beside(method.mean.get(k.name), v, k, summary.rows.profile)
                for v, k in zip(figures, metrics, strict=True)
            ]
            name = method.method.info.label if method.method.info.weights_source not in ("", "official") else label
            rows.append((Cell(flagged(method.method, f"{name}, ours")), Cell(""), *cells))
    known = {_plain(label) for label in published.rows}
    for method in summary.fusions:
        if not known & _names(method):
            cells = [_beside(method.mean.get(k.name), None, k, summary.rows.profile) for k in metrics]
            rows.append((Cell(flagged(method.method, f"{method.method.info.label}, ours")), Cell(""), *cells))
    own = (
        f"Ours: {summary.rows.images or f'{len(summary.stems)} images'}, fused images saved {SAVED_AS[summary.rows.saving]} "
        f"before measuring, profile “{summary.rows.profile}”; beside it the difference to the printed figure in percent. Best "
        "and second best are marked among the printed rows, as in the paper."
    )
    return Table(
        slug=f"{setting.slug}_published",
        caption=f"{published.name}, and ours on {setting.dataset}.",
        head=("Method", "year", *(f"{k.name} {k.arrow}" for k in metrics)),
        rows=tuple(rows),
        notes=(own, *published.notes),
        stamps=setting.stamps,
    )


TIDY_COLUMNS = (
    "dataset", "dataset_digest", "demo", "limit", "method", "label", "family", "contaminated", "images_trained_on",
    "weights", "weights_source", "profile", "saving", "color", "metric", "higher_is_better", "images", "mean", "std",
    "rank", "reason",
)  # fmt: skip


def tidy_rows(summary: QualitySummary, setting: Setting) -> Iterator[dict[str, Any]]:
    """One row a (method, metric)."""
    for m in summary.methods:
        for metric in summary.metrics:
            yield {
                **_common(summary, setting, m),
                "metric": metric.name,
                "higher_is_better": metric.higher_is_better,
                "images": summary.counted[metric.name] if m.values else 0,
                "mean": m.mean.get(metric.name),
                "std": m.std.get(metric.name),
                "rank": m.rank.get(metric.name),
                "reason": m.reason or summary.unavailable.get(metric.name, ""),
            }


def image_columns(summary: QualitySummary) -> tuple[str, ...]:
    """Columns of the CSV of single images."""
    kept = ("dataset", "dataset_digest", "demo", "limit", "method", "profile", "saving", "color", "stem")
    return (*kept, *(metric.name for metric in summary.metrics))


def image_rows(summary: QualitySummary, setting: Setting) -> Iterator[dict[str, Any]]:
    """One row a (method, image)."""
    for m in summary.methods:
        for i, stem in enumerate(summary.stems if m.values else ()):
            values = {name: float(array[i]) if np.isfinite(array[i]) else None for name, array in m.values.items()}
            yield {**_common(summary, setting, m), "stem": stem, **values}


def json_document(summary: QualitySummary, setting: Setting) -> dict[str, Any]:
    """Everything in the table, under a schema version."""
    return {
        "schema": JSON_SCHEMA,
        "schema_version": JSON_SCHEMA_VERSION,
        **setting.common,
        "stamps": list(setting.stamps),
        "profile": summary.rows.profile,
        "saving": summary.rows.saving,
        "color": summary.rows.color,
        "images": len(summary.stems),
        "metrics": [
            {
                "name": k.name,
                "title": k.title,
                "higher_is_better": k.higher_is_better,
                "images": summary.counted[k.name],
            }
            for k in summary.metrics
        ],
        "unavailable": dict(summary.unavailable),
        "notes": quality_notes(summary),
        "methods": [
            {
                "method": m.method.info.name,
                "label": m.method.info.label,
                "control": m.method.is_control,
                "weights": m.method.info.weights,
                "weights_source": m.method.info.weights_source,
                "contaminated": m.method.info.contaminated,
                "images_trained_on": m.method.info.images_trained_on,
                "reason": m.reason,
                "mean": dict(m.mean),
                "std": dict(m.std),
                "rank": dict(m.rank),
                "mean_rank": m.mean_rank,
            }
            for m in summary.methods
        ],
    }


def _column(summary: QualitySummary, metric: Metric) -> list[Cell]:
    profile = summary.rows.profile
    digits = decimals(metric, profile)
    figures = [m.mean.get(metric.name) for m in summary.methods]
    ranked = [
        printed(v, metric, profile) if not m.method.is_control else None
        for m, v in zip(summary.methods, figures, strict=True)
    ]
    marks = marks_of_printed(ranked, higher_is_better=metric.higher_is_better)
    cells = []
    for m, value, mark in zip(summary.methods, figures, marks, strict=True):
        spread = m.std.get(metric.name)
        note = f"± {number(spread, digits)}" if spread is not None else ""
        text = "n/a" if value is None and metric.name in summary.unavailable else number(value, digits)
        cells.append(Cell(text, mark, value, note))
    return cells


def _rows(summary: QualitySummary, columns: Sequence[Sequence[Cell]]) -> Iterator[tuple[Cell, ...]]:
    for i, m in enumerate(summary.methods):
        name = Cell(flagged(m.method, m.method.info.label), value=float(i))
        yield (name, *(column[i] for column in columns))


def _rank_cell(rank: float | None) -> Cell:
    if rank is None:
        return Cell(MISSING)
    return Cell(f"{rank:g}", "best" if rank == 1 else "second" if rank == 2 else "", rank)


def _beside(value: float | None, reference: float | None, metric: Metric, profile: str) -> Cell:
    """Our figure, with its difference to a printed one."""
    if value is None:
        return Cell("n/a" if metric.learned else MISSING)
    note = f"{100 * (value / reference - 1):+.1f} %".replace("-", "−") if reference else ""
    return Cell(number(value, decimals(metric, profile)), value=value, note=note)


def _directions(metrics: Sequence[Metric]) -> str:
    falling = [m.name for m in metrics if not m.higher_is_better]
    if not falling:
        return "Higher is better in every column."
    return f"Higher is better, except by {join_words(falling)}."


def _common(summary: QualitySummary, setting: Setting, m: MethodQuality) -> dict[str, Any]:
    info = m.method.info
    return {
        **setting.common,
        "method": info.name,
        "label": info.label,
        "family": info.family,
        "contaminated": info.contaminated,
        "weights": info.weights,
        "weights_source": info.weights_source,
        "images_trained_on": info.images_trained_on,
        "profile": summary.rows.profile,
        "saving": summary.rows.saving,
        "color": summary.rows.color,
    }


def _names(method: MethodQuality) -> set[str]:
    """What a row may be called where it was printed; rows that differ in their weights are one method there."""
    info = method.method.info
    return {_plain(name) for name in (info.label, info.name, info.method) if name}


def _plain(name: str) -> str:
    """Letters and digits alone, in lower case: how a printed name and ours are recognised as one."""
    return "".join(c for c in name.casefold() if c.isalnum())
