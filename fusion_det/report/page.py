"""The page: one HTML file that asks nothing of any server."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from fusion_det.pipeline.results import ExperimentResults
from fusion_det.report.drawing import FALSE, HIT, MISS, Style
from fusion_det.report.figures import Figures
from fusion_det.report.formatting import MISSING, duration, interval, marks, p_value, percent, points
from fusion_det.report.headline import headline
from fusion_det.report.palette import css, looks
from fusion_det.report.provenance import contamination, trained_on
from fusion_det.report.quality_view import AssociationView, QualityView
from fusion_det.report.summary import MethodSummary, Summary, short_stamp, shows_paper_figures, stamps
from fusion_det.report.svg import page_css
from fusion_det.report.table_vi import (
    detector_text,
    failure_reason,
    flagged,
    seeds_text,
    verdict_text,
)
from fusion_det.report.tables import Cell, Table

TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class PagePanel:
    """A picture of the page. data: the bytes of a WebP file. size: its width and height."""

    key: str
    title: str
    caption: str
    data: bytes
    size: tuple[int, int]

    @property
    def uri(self) -> str:
        return f"data:image/webp;base64,{base64.b64encode(self.data).decode()}"


@dataclass(frozen=True)
class PageScene:
    """An image and its panels, ground truth first. part: "training image" where it is none of the test images, else ""."""

    stem: str
    condition: str
    part: str
    caption: str
    panels: tuple[PagePanel, ...]


@dataclass(frozen=True)
class Fact:
    """A line of the provenance: a name and its value, ``code`` if it is to be copied."""

    name: str
    value: str
    code: bool = False


def render_page(
    results: ExperimentResults,
    summary: Summary,
    main: Table,
    breakdowns: Sequence[Table],
    figures: Figures,
    scenes: Sequence[PageScene],
    overlay_notes: Sequence[str] = (),
    quality: tuple[QualityView, AssociationView] | None = None,
) -> str:
    """The text of ``index.html``."""
    return fill_template(
        "page.html.j2",
        summary.methods,
        title=results.title or results.experiment,
        results=results,
        summary=summary,
        headline=headline(results, summary),
        stamps=stamps(results),
        short_stamp=short_stamp(results),
        main=main,
        methods=methods_table(results, summary),
        breakdowns=breakdowns,
        figures=figures,
        scenes=scenes,
        overlay_notes=overlay_notes,
        series=series_legend(summary.methods, [m.info.name for m in summary.methods if m.ok]),
        quality=quality[0] if quality else None,
        prediction=quality[1] if quality else None,
        fusions=series_legend(
            summary.methods, [m.method.info.name for m in quality[0].summary.fusions] if quality else []
        ),
        series_of={m.info.label: i for i, m in enumerate(summary.methods)},
        failures=[(m.info.label, failure_reason(m)) for m in summary.failures],
        cards=[_card(m, results.split.counts.get("test")) for m in summary.methods],
        facts=provenance(results),
        versions=flat_facts(results.provenance.get("versions", {})),
        times=[(name, duration(_seconds(s))) for name, s in _mapping(results.provenance.get("seconds")).items()],
        leakage=leakage_text(results),
        split_note=results.split.note,
        box_styles=[_legend(style) for style in (HIT, FALSE, MISS)],
        detector=detector_text(results),
    )


def fill_template(name: str, series: Sequence[MethodSummary], /, **context: Any) -> str:
    """A page on ``base.html.j2``, with the styles of these methods' series, the script, and charts drawn inline.

    ``context`` holds at least ``title``, ``stamps``, ``short_stamp``, ``scenes`` and ``series_of`` (label → number of series).
    """
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style = "\n".join(
        [
            (TEMPLATES / "page.css").read_text(encoding="utf-8"),
            page_css(),
            css(series, dark=False),
            f"@media screen and (prefers-color-scheme: dark) {{\n{css(series, dark=True)}\n}}",
        ]
    )
    return environment.get_template(name).render(
        style=Markup(style),
        script=Markup((TEMPLATES / "page.js").read_text(encoding="utf-8")),
        svg=lambda chart: Markup(chart.inline()),
        **context,
    )


def series_legend(methods: Sequence[MethodSummary], shown: Sequence[str]) -> list[tuple[int, str, str]]:
    """(number of the series, label, dash) of the methods of these names."""
    found = enumerate(zip(methods, looks(methods), strict=True))
    return [(i, m.info.label, look.dash) for i, (m, look) in found if m.info.name in shown]


def methods_table(results: ExperimentResults, summary: Summary) -> Table:
    """A row a method with everything known about it: what the page lets a reader sort."""
    paper = shows_paper_figures(results)
    reference = summary.reference.info.abbreviation if summary.reference is not None else ""
    head = ["Method", "mAP50", "seeds", "95 % interval"]
    head += [f"Δ {reference}", "95 % of Δ", "p (Holm)", "real?"] if reference else []
    head += ["paper"] if paper else []
    head += ["mAP50:95", "COCO AP50", "precision", "recall", "F1", "fusion, ms"]
    marked = {cell.value: cell.mark for cell in _marked(summary)}
    rows = tuple(tuple(_method_row(m, marked.get(m.mean, ""), bool(reference), paper)) for m in summary.methods)
    return Table("methods", "Every method", tuple(head), rows)


def _marked(summary: Summary) -> list[Cell]:
    values = [m.mean for m in summary.methods]
    return [Cell("", mark, value) for value, mark in zip(values, marks(values), strict=True)]


def _method_row(m: MethodSummary, mark: Any, reference: bool, paper: bool) -> list[Cell]:
    text = percent(m.mean) if m.mean is not None else m.without_figure
    note = f"± {percent(m.std)}" if m.std is not None else ""
    row = [Cell(flagged(m, m.info.label), value=float(m.info.order)), Cell(text, mark, m.mean, note)]
    row.append(Cell(seeds_text(m), value=float(len(m.ok))))
    row.append(Cell(interval(m.low, m.high), value=m.low))
    if reference:
        d = m.difference
        row += (
            [
                Cell(points(d.value), value=d.value),
                Cell(interval(d.low, d.high, signed=True), value=d.low),
                Cell(p_value(d.p_holm), value=d.p_holm),
                Cell(verdict_text(d), value=VERDICT_ORDER[d.verdict]),
            ]
            if d is not None
            else [Cell(MISSING)] * 4
        )
    if paper:
        row.append(Cell(MISSING if m.info.table_vi is None else f"{m.info.table_vi:.1f}", value=m.info.table_vi))
    for keys in (("mAP50_95",), ("coco", "AP50"), *(("operating_point", k) for k in ("precision", "recall", "f1"))):
        value = m.mean_of(*keys)
        row.append(Cell(percent(value), value=value))
    speed = m.info.seconds_per_pair
    row.append(Cell(MISSING if speed is None else f"{1000 * speed:.0f}", value=speed))
    return row


VERDICT_ORDER = {"untested": 0.0, "no": 1.0, "seeds disagree": 2.0, "one seed": 3.0, "yes": 4.0}


def _card(m: MethodSummary, images: int | None) -> dict[str, str]:
    info = m.info
    known = contamination(info, images, "test images") if info.trained_on else ""
    source = ", ".join(filter(None, [info.authors, info.venue, str(info.year or "")]))
    return {
        "label": flagged(m, info.label),
        "title": info.title,
        "source": source,
        "family": info.family,
        "color": info.color,
        "weights": info.weights,
        "trained_on": trained_on(info) + (f"; {known}" if known else ""),
        "notes": info.notes,
    }


def provenance(results: ExperimentResults) -> list[Fact]:
    """Where the figures come from."""
    p, d, s = results.provenance, results.dataset, results.split
    counts = ", ".join(f"{n} {name}" for name, n in s.counts.items())
    facts = [
        Fact("Command", str(p.get("command", MISSING)), code=True),
        Fact("Commit", str(p.get("commit", MISSING)), code=True),
        Fact("Started, finished", f"{p.get('started', MISSING)}, {p.get('finished', MISSING)}"),
        Fact("Machine", ", ".join(str(p[k]) for k in ("hostname", "device") if p.get(k)) or MISSING),
        Fact(
            "Data set",
            f"{d.name}: {d.pairs} pairs, {d.labelled} labelled" + (f", limited to {d.limit}" if d.limit else ""),
        ),
        Fact("Data digest", d.content_digest, code=True),
        Fact("Split", f"{s.name}, seed {MISSING if s.seed is None else s.seed}: {counts}"),
        Fact("Split digest", s.digest, code=True),
        Fact("Seeds", "; ".join(f"{k} {v}" for k, v in flat_facts(p.get("seeds", {}))) or MISSING),
        Fact("Detector", detector_text(results)),
        Fact("Detector settings", ", ".join(f"{k} {v}" for k, v in flat_facts(results.detector))),
    ]
    known = {"command", "commit", "started", "finished", "hostname", "device", "seeds", "versions", "seconds"}
    facts += [Fact(k.capitalize(), str(v)) for k, v in flat_facts({k: v for k, v in p.items() if k not in known})]
    return facts


def leakage_text(results: ExperimentResults) -> str:
    """How much of the test split the detector has, in effect, seen."""
    names = {"neighbour": "have their neighbouring frame in train", "run": "have their capture run in train"}
    shares = [
        f"{100 * results.split.leakage[k]:.0f} % {text}" for k, text in names.items() if k in results.split.leakage
    ]
    if not shares:
        return ""
    return (
        f"Of the test images, {' and '.join(shares)}. Where that share is high, the figures say how well scenes already seen "
        "are detected again."
    )


def _legend(style: Style) -> dict[str, str]:
    red, green, blue = style.color
    return {
        "name": style.name,
        "color": f"rgb({red},{green},{blue})",
        "dash": " ".join(f"{3 * d:g}" for d in style.dash),
    }


def flat_facts(value: object, prefix: str = "") -> list[tuple[str, str]]:
    """Nested mappings as (dotted name, text)."""
    out = []
    for key, item in _mapping(value).items():
        name = f"{prefix}{key}"
        if isinstance(item, Mapping):
            out += flat_facts(item, f"{name}.")
        else:
            shown = ", ".join(map(str, item)) if isinstance(item, list | tuple) else str(item)
            out.append((name, shown))
    return out


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, Mapping) else {}


def _seconds(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None
