"""The report of ``fusion-det ablation``: tables, figures, pictures, and one page."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from fusion_det.ablation.charts import change_chart, change_css
from fusion_det.ablation.entropy_figure import (
    ENTROPY_COLUMNS,
    Entropies,
    entropy_answer,
    entropy_figure,
    read_entropies,
)
from fusion_det.ablation.pictures import read_pictures, scenes, sheet
from fusion_det.ablation.results import AblationResults
from fusion_det.ablation.summary import AblationSummary, agreement, summarise
from fusion_det.ablation.tables import (
    CONTROL_LABEL,
    SLUG,
    TIDY_COLUMNS,
    ablation_table,
    image_columns,
    image_rows,
    json_document,
    name_of,
    published_table,
    short_stamp,
    stamps,
    tidy_rows,
)
from fusion_det.files import replace_atomically, write_json, write_text
from fusion_det.progress import NoProgress, Progress
from fusion_det.report.formatting import MISSING, join_words
from fusion_det.report.page import Fact, fill_template, flat_facts
from fusion_det.report.quality_summary import printed
from fusion_det.report.quality_view import write_table
from fusion_det.report.svg import Chart
from fusion_det.report.tables import to_csv

PICTURE_BYTES = 6_000_000
"""All pictures of the page together; as base64 text they take a third more."""


@dataclass(frozen=True)
class EntropyView:
    """The figure on the page. uri: the picture. answer: what it shows. missing: what is not in it, and why."""

    uri: str
    answer: str
    missing: tuple[str, ...]


def build_ablation_report(results: AblationResults, out: Path, progress: Progress | None = None) -> Path:
    """Write the report below ``out`` and return the path of its ``index.html``.

    ``ablation.{md,tex,csv,json}``, ``ablation_published.{md,tex}``, ``ablation_per_image.csv``, ``entropy.csv``, ``panels.png``
    and ``figures/``. The same results give the same bytes.
    """
    shown = progress or NoProgress()
    shown.start("report", total=4)
    summary = summarise(results)
    table, beside = ablation_table(summary), published_table(summary)
    for each in (table, *([beside] if beside is not None else [])):
        write_table(each, out)
    write_text(out / f"{SLUG}.csv", to_csv(tidy_rows(summary), TIDY_COLUMNS))
    write_text(out / f"{SLUG}_per_image.csv", to_csv(image_rows(summary), image_columns(summary)))
    write_json(out / f"{SLUG}.json", json_document(summary))
    charts = [change_chart(summary, columns=c, panel=p) for c, p in ((4, 200), (1, 168))]
    found = [chart for chart in charts if chart is not None]
    if found:
        write_text(out / "figures" / f"{SLUG}.svg", _chart_file(found[0]))
    shown.advance(note="tables")
    entropy = _entropy(results, out)
    shown.advance(note="entropy")
    pictures, note = read_pictures(summary)
    if pictures:
        _write_bytes(out / "panels.png", sheet(pictures, " · ".join(stamps(results))))
    shown.advance(note="pictures")
    index = out / "index.html"
    page = fill_template(
        "ablation.html.j2",
        (),
        title=results.title,
        results=results,
        stamps=stamps(results),
        short_stamp=short_stamp(results),
        series_of={},
        answer=answer(summary),
        details=details(summary),
        table=table,
        published=beside,
        control=CONTROL_LABEL,
        charts=found,
        chart_css=Markup(change_css(on_page=True)),
        entropy=entropy,
        scenes=scenes(pictures, PICTURE_BYTES),
        note=note,
        facts=_facts(results),
        versions=flat_facts(results.provenance.get("versions", {})),
    )
    write_text(index, page)
    shown.advance(note="page")
    shown.finish(str(index))
    return index


def answer(summary: AblationSummary) -> str:
    """How the whole method does among its variants, no stronger than the figures."""
    whole, measured = summary.reference, [v for v in summary.variants if v.values]
    if not whole.values or len(measured) < 2:
        count = f"{len(measured)} of {len(summary.variants)} variants"
        return f"{name_of(whole.info)} cannot be compared: {count} have figures."
    first = []
    for metric in summary.defined:
        sign = 1 if metric.higher_is_better else -1
        figures = {
            v.info.name: sign * (printed(mean.value, metric, summary.results.profile) or 0.0)
            for v in measured
            if (mean := v.mean[metric.name]) is not None
        }
        if figures and figures.get(whole.info.name) == max(figures.values()):
            first.append(metric.name)
    where = f"first in {join_words(first)}" if first else "first in none of them"
    names = join_words([metric.name for metric in summary.defined])
    return f"Of {len(measured)} variants measured by {names}, {whole.info.label} is {where}."


def details(summary: AblationSummary) -> list[str]:
    """What to make of it."""
    found = []
    whole = summary.reference.info.label
    together = agreement(summary)
    if below := join_words([metric.name for metric in summary.below_control]):
        found.append(f"{whole} is below the plain mean of both sources in {below}.")
    if not summary.has_learnt:
        found.append(
            "After so little training it has not learnt to fuse yet. The differences below are of networks at their "
            "beginning, and say nothing about the parts; look at the pictures."
        )
    elif together.total:
        found.append(
            f"Of the {together.total} differences from the whole method that the paper prints in these columns, "
            f"{together.agree} come out with the same sign here, {together.contradict} with the opposite one, and "
            f"{together.undecided} are undecided: their interval over pairs holds zero."
        )
    if failed := [name_of(v.info) for v in summary.variants if v.reason]:
        found.append(f"Not complete: {join_words(failed)}; the notes below the table say why.")
    if summary.has_learnt and summary.compared and short_stamp(summary.results):
        found.append(
            "A short training tells which part helps early, not which helps in the end: it does not put the paper's figures "
            "to the test."
        )
    return found


def _entropy(results: AblationResults, out: Path) -> EntropyView | None:
    if not results.entropy_of:
        return None
    entropies = read_entropies(results)
    if entropies is None:
        reasons = dict.fromkeys(t.reason or t.entropy_reason for t in results.trials if t.variant in results.entropy_of)
        return EntropyView("", "", tuple(filter(None, reasons)))
    write_text(out / "entropy.csv", to_csv(entropies.rows, ENTROPY_COLUMNS))
    return EntropyView(
        _entropy_files(entropies, results, out), entropy_answer(entropies, results.classifier), entropies.missing
    )


def _entropy_files(entropies: Entropies, results: AblationResults, out: Path) -> str:
    """Write the figure in each format; the SVG as a data URI."""
    stamp = short_stamp(results)
    for kind in ("svg", "png", "pdf"):
        _write_bytes(out / "figures" / f"entropy.{kind}", entropy_figure(entropies, results.classifier, stamp, kind))
    drawn = (out / "figures" / "entropy.svg").read_bytes()
    return f"data:image/svg+xml;base64,{base64.b64encode(drawn).decode()}"


def _chart_file(chart: Chart) -> str:
    return chart.file(()).replace("</style>", f"\n{change_css(on_page=False)}</style>", 1)


def _write_bytes(file: Path, content: bytes) -> None:
    with replace_atomically(file) as temporary:
        temporary.write_bytes(content)


def _facts(results: AblationResults) -> list[Fact]:
    p: dict[str, Any] = results.provenance
    devices = dict.fromkeys(t.device for t in results.trials if t.device)
    facts = [
        Fact("Command", str(p.get("command", MISSING)), code=True),
        Fact("Commit", str(p.get("commit", MISSING)), code=True),
        Fact("Started, finished", f"{p.get('started', MISSING)}, {p.get('finished', MISSING)}"),
        Fact("Trained on", f"{results.learnt_from}; {', '.join(devices) or MISSING}"),
        Fact("Measured on", results.measured_on),
        Fact("Data digest", results.data_digest, code=True),
        Fact("Classifier", results.classifier),
    ]
    settings = [f"{name} {value}" for name, value in flat_facts(p.get("settings", {}))]
    spent = [f"{kind} {seconds:g}" for kind, seconds in p.get("seconds", {}).items()]
    return [*facts, Fact("Seconds", ", ".join(spent)), Fact("Settings", ", ".join(settings))]
