"""What a page and a folder show of the quality of one set of images: tables, figures and their files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fusion_det.files import write_json, write_text
from fusion_det.pipeline.results import ExperimentResults
from fusion_det.report.association import TIDY_COLUMNS as ASSOCIATION_COLUMNS
from fusion_det.report.association import Associations, answer, associate, association_table
from fusion_det.report.association import tidy_rows as association_rows
from fusion_det.report.palette import looks
from fusion_det.report.quality_charts import association_charts, parallel_chart
from fusion_det.report.quality_summary import QualitySummary, summarise_quality
from fusion_det.report.quality_tables import (
    TIDY_COLUMNS,
    Setting,
    image_columns,
    image_rows,
    json_document,
    quality_table,
    rank_table,
    tidy_rows,
)
from fusion_det.report.summary import MethodSummary, Summary, short_stamp, stamps
from fusion_det.report.svg import Chart, grid
from fusion_det.report.table_vi import common_columns
from fusion_det.report.tables import Table, to_csv, to_latex, to_markdown


@dataclass(frozen=True)
class QualityView:
    """charts: parallel coordinates (wide, narrow), empty with fewer than two fusions."""

    summary: QualitySummary
    setting: Setting
    table: Table
    ranks: Table
    charts: tuple[Chart, ...]

    @property
    def slug(self) -> str:
        return self.setting.slug


@dataclass(frozen=True)
class AssociationView:
    """mAP@50 against quality. table, found: None where too few methods have both figures."""

    answer: str
    found: Associations | None
    table: Table | None
    charts: tuple[Chart, ...]


def quality_view(
    summary: QualitySummary, methods: Sequence[MethodSummary], setting: Setting, stamp: str
) -> QualityView:
    """``methods``: all of the results in table order; their place decides their colour."""
    drawn = [parallel_chart(summary, looks(methods), width=width, stamp=stamp) for width in (860, 352)]
    return QualityView(
        summary,
        setting,
        quality_table(summary, setting),
        rank_table(summary, setting),
        tuple(chart for chart in drawn if chart is not None),
    )


def of_experiment(results: ExperimentResults, summary: Summary) -> tuple[QualityView, AssociationView] | None:
    """Quality in the mAP report; None where it was not measured."""
    if results.quality is None:
        return None
    setting = Setting(results.dataset.name, stamps(results), common_columns(results))
    quality = summarise_quality(results.quality, summary.methods)
    if not any(m.values for m in quality.methods):
        return None
    view = quality_view(quality, summary.methods, setting, short_stamp(results))
    found = associate(summary, quality, results.ground_truth.get("test"))
    charts = association_charts(summary, quality, found, short_stamp(results)) if found else ()
    table = association_table(found, quality, setting) if found else None
    return view, AssociationView(answer(found), found, table, charts)


def write_quality(view: QualityView, out: Path) -> None:
    """``quality.{md,tex,csv,json}``, ``quality_ranks.{md,tex}``, ``quality_per_image.csv`` and the figure, below ``out``."""
    summary, setting, slug = view.summary, view.setting, view.slug
    for table in (view.table, view.ranks):
        write_table(table, out)
    write_text(out / f"{slug}.csv", to_csv(tidy_rows(summary, setting), TIDY_COLUMNS))
    write_json(out / f"{slug}.json", json_document(summary, setting))
    write_text(out / f"{slug}_per_image.csv", to_csv(image_rows(summary, setting), image_columns(summary)))
    if view.charts:
        methods = [m.method for m in summary.methods]
        names = [m.method.info.label if m in summary.fusions else "" for m in summary.methods]
        write_text(out / "figures" / f"{slug}.svg", grid(view.charts[:1], 1, names).file(methods))


def write_association(view: AssociationView, quality: QualityView, out: Path) -> None:
    """``quality_and_map.{md,tex,csv}`` and the figure; nothing where there is nothing to show."""
    if view.found is None or view.table is None:
        return
    write_table(view.table, out)
    rows = association_rows(view.found, quality.summary, quality.setting)
    write_text(out / f"{view.table.slug}.csv", to_csv(rows, ASSOCIATION_COLUMNS))
    methods = [m.method for m in quality.summary.methods]
    names = [m.method.info.label if m in quality.summary.fusions else "" for m in quality.summary.methods]
    write_text(out / "figures" / f"{view.table.slug}.svg", grid(view.charts, 4, names).file(methods))


def write_table(table: Table, out: Path) -> None:
    """Markdown and LaTeX."""
    write_text(out / f"{table.slug}.md", to_markdown(table))
    write_text(out / f"{table.slug}.tex", to_latex(table))
