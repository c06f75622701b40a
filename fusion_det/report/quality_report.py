"""The report of ``fusion-det quality``: tables, figures and pictures of every set, beside printed figures where there are."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fusion_det.files import write_text
from fusion_det.pipeline.quality_results import QualityResults, QualitySet
from fusion_det.pipeline.results import MethodInfo
from fusion_det.progress import NoProgress, Progress
from fusion_det.report.formatting import MISSING, join_words
from fusion_det.report.page import Fact, PageScene, fill_template, flat_facts, series_legend
from fusion_det.report.quality_pictures import picture_scenes, shown_scenes
from fusion_det.report.quality_summary import QualitySummary, summarise_quality
from fusion_det.report.quality_tables import Setting, published_table, quality_table
from fusion_det.report.quality_view import QualityView, quality_view, write_quality, write_table
from fusion_det.report.summary import MethodSummary, short_stamp, stamps
from fusion_det.report.tables import Table

PICTURE_BYTES = 9_500_000
"""All pictures of a page together; as base64 text they take a third more."""


@dataclass(frozen=True)
class SetView:
    """One set on the page. published: its printed rows and ours. shown: pairs as every method fuses them, scenes: extremes.

    table, figure: numbers of its first ones.
    """

    anchor: str
    title: str
    answer: str
    view: QualityView
    published: Table | None
    shown: tuple[PageScene, ...]
    scenes: tuple[PageScene, ...]
    note: str
    series: list[tuple[int, str, str]]
    table: int
    figure: int


def build_quality_report(results: QualityResults, out: Path, progress: Progress | None = None) -> Path:
    """Write the report below ``out`` and return the path of its ``index.html``.

    For each set ``quality_DATASET`` (``quality`` where there is one set) as md, tex, csv and json, its ranks, single images and
    figure, and ``…_published`` (md, tex) where there are printed figures; one page. The same results give the same bytes.
    """
    progress = progress or NoProgress()
    methods = _all_methods(results)
    progress.start("report", total=len(results.sets) + 1)
    views: list[SetView] = []
    for quality_set in results.sets:
        table = 1 + sum(1 + (v.published is not None) for v in views)
        view = _set_view(results, quality_set, methods, table, 1 + len(views))
        write_quality(view.view, out)
        if view.published is not None:
            write_table(view.published, out)
        views.append(view)
        progress.advance(note=quality_set.dataset.name)
    stamped = tuple(dict.fromkeys(text for s in results.sets for text in stamps(s)))
    index = out / "index.html"
    write_text(
        index,
        fill_template(
            "quality.html.j2",
            methods,
            title=results.title,
            results=results,
            stamps=stamped,
            short_stamp=" · ".join(text.split(":")[0] for text in stamped),
            scenes=[scene for view in views for scene in (*view.shown, *view.scenes)],
            series_of={m.info.label: i for i, m in enumerate(methods)},
            sets=views,
            facts=_facts(results),
            versions=flat_facts(results.provenance.get("versions", {})),
        ),
    )
    progress.advance(note="page")
    progress.finish(str(index))
    return index


def printed_tables(results: QualityResults) -> list[Table]:
    """The tables of means alone, one a set, for the terminal."""
    methods = _all_methods(results)
    tables = []
    for s in results.sets:
        summary = summarise_quality(s.quality, _of_set(s, methods))
        tables.append(quality_table(summary, Setting(s.title, stamps(s), {})))
    return tables


def answer(summary: QualitySummary, title: str) -> str:
    """Who leads, no stronger than the figures: a mean rank weighs all metrics alike and is no test."""
    fusions = [m for m in summary.fusions if m.mean_rank is not None]
    if not fusions:
        return f"{title}: no fusion has figures."
    if len(fusions) == 1:
        return f"{title}: {fusions[0].method.info.label} alone was measured, so there is nothing to compare."
    best = min(fusions, key=lambda m: m.mean_rank or 0.0)
    first = [k.name for k in summary.defined if (best.rank.get(k.name) or 2) < 2]
    where = f"first by {join_words(first)}" if first else "first by no single metric"
    return (
        f"{title}: {best.method.info.label} has the best mean rank ({best.mean_rank:.2f}) of {len(fusions)} fusions over "
        f"{len(summary.defined)} metrics, {where}."
    )


def _set_view(
    results: QualityResults, quality_set: QualitySet, methods: tuple[MethodSummary, ...], table: int, figure: int
) -> SetView:
    dataset = quality_set.dataset
    name = dataset.name
    slug = "quality" if len(results.sets) == 1 else f"quality_{name}"
    common = {
        "experiment": results.experiment,
        "dataset": name,
        "dataset_digest": dataset.content_digest,
        "demo": dataset.synthetic,
        "limit": dataset.limit,
    }
    setting = Setting(quality_set.title, stamps(quality_set), common, slug)
    summary = summarise_quality(quality_set.quality, _of_set(quality_set, methods))
    published = None
    if quality_set.published is not None:
        compared = summary
        if quality_set.as_published is not None:
            compared = summarise_quality(quality_set.as_published, _of_set(quality_set, methods))
        published = published_table(quality_set.published, compared, setting)
    budget = PICTURE_BYTES // len(results.sets) // (2 if quality_set.shown else 1)
    scenes, note = picture_scenes(quality_set, summary, budget)
    fusions = [m.method.info.name for m in summary.fusions]
    return SetView(
        anchor=f"set-{name}",
        title=quality_set.title,
        answer=answer(summary, quality_set.title),
        view=quality_view(summary, methods, setting, short_stamp(quality_set)),
        published=published,
        shown=tuple(shown_scenes(quality_set, budget)),
        scenes=tuple(scenes),
        note=note,
        series=series_legend(methods, fusions),
        table=table,
        figure=figure,
    )


def _all_methods(results: QualityResults) -> tuple[MethodSummary, ...]:
    """Every method of any set once, in table order: one colour a method on the whole page."""
    infos: dict[str, MethodInfo] = {m.name: m for s in results.sets for m in s.methods}
    return tuple(_bare(info) for info in sorted(infos.values(), key=lambda m: (m.order, m.name)))


def _of_set(quality_set: QualitySet, methods: tuple[MethodSummary, ...]) -> tuple[MethodSummary, ...]:
    """All methods of the page, those of this set with what is known of them here (weights, contamination)."""
    here = {m.name: m for m in quality_set.methods}
    return tuple(replace(m, info=here.get(m.info.name, m.info)) for m in methods)


def _bare(info: MethodInfo) -> MethodSummary:
    """A method without any detection."""
    return MethodSummary(info, ok=(), failed=(), values={}, mean=None, std=None, low=None, high=None)


def _facts(results: QualityResults) -> list[Fact]:
    p: dict[str, Any] = results.provenance
    facts = [
        Fact("Command", str(p.get("command", MISSING)), code=True),
        Fact("Commit", str(p.get("commit", MISSING)), code=True),
        Fact("Started, finished", f"{p.get('started', MISSING)}, {p.get('finished', MISSING)}"),
    ]
    for s in results.sets:
        limit = f", limited to {s.dataset.limit}" if s.dataset.limit else ""
        facts.append(
            Fact(
                f"Data {s.dataset.name}", f"{s.dataset.pairs} pairs{limit}, {len(s.sources)} measured; {s.dataset.root}"
            )
        )
        facts.append(Fact("Data digest", s.dataset.content_digest, code=True))
    facts += [Fact("Settings", ", ".join(f"{k} {v}" for k, v in flat_facts(p.get("settings", {}))))]
    return facts
