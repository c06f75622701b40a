"""The figures, drawn as SVG by hand: small, crisp, the same bytes every time, and at home in a light or a dark page.

Every figure has fixed pixel sizes that suit a phone or a text column, so that text is never scaled. Colours come from
classes: the page styles them for its scheme, a stand-alone file brings :func:`file_css`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from fusion_det.report.formatting import percent
from fusion_det.report.palette import Look, css
from fusion_det.report.summary import MethodSummary, Summary

FONT = "11.5px system-ui, 'Segoe UI', 'Helvetica Neue', Arial, sans-serif"
CHART_CSS = """
.chart text{font:__FONT__;fill:__INK__}
.chart .dim{fill:__DIM__}
.chart .rule{stroke:__RULE__;stroke-width:1}
.chart .axis{stroke:__DIM__;stroke-width:1;fill:none}
.chart .ref{stroke:__INK__;stroke-width:1;stroke-dasharray:3 3}
.chart .ln{fill:none;stroke-linejoin:round}
.chart .ghost{stroke:__RULE__;stroke-width:1;fill:none}
.chart .hollow{fill:__PAPER__;stroke-width:1.2}
.chart .paper{fill:none;stroke:__INK__;stroke-width:1.3}
.chart .stamp{font:700 15px system-ui, Arial, sans-serif;fill:__STAMP__;fill-opacity:.5}
.chart .bold{font-weight:650}
""".strip().replace("__FONT__", FONT)


@dataclass(frozen=True)
class Chart:
    """The inside of an SVG and its size in CSS pixels. ``label``: what it shows, for those who do not see it."""

    body: str
    width: int
    height: int
    label: str

    def inline(self) -> str:
        """For the page, which brings the styles."""
        return (
            f'<svg class="chart" role="img" aria-label="{escape(self.label)}" width="{self.width}" '
            f'height="{self.height}" viewBox="0 0 {self.width} {self.height}">{self.body}</svg>'
        )

    def file(self, methods: Sequence[MethodSummary]) -> str:
        """A stand-alone SVG document on white."""
        return (
            '<?xml version="1.0" encoding="UTF-8"?>\n'
            f'<svg xmlns="http://www.w3.org/2000/svg" class="chart" role="img" aria-label="{escape(self.label)}" '
            f'width="{self.width}" height="{self.height}" viewBox="0 0 {self.width} {self.height}">\n'
            f"<style>{file_css(methods)}</style>\n"
            f'<rect width="100%" height="100%" fill="#fff"/>\n{self.body}\n</svg>\n'
        )


def page_css() -> str:
    """Chart styles in the page's custom properties."""
    return _colored("var(--ink)", "var(--dim)", "var(--rule)", "var(--paper)", "var(--stamp)")


def file_css(methods: Sequence[MethodSummary]) -> str:
    """Chart styles with fixed colours on white."""
    return _colored("#1b1b1b", "#5f5f5f", "#d9d9d9", "#ffffff", "#b3261e") + "\n" + css(methods, dark=False)


def _colored(ink: str, dim: str, rule: str, paper: str, stamp: str) -> str:
    text = CHART_CSS.replace("__INK__", ink).replace("__DIM__", dim).replace("__RULE__", rule)
    return text.replace("__PAPER__", paper).replace("__STAMP__", stamp)


def interval_chart(summary: Summary, *, width: int, stamp: str, paper: bool) -> Chart:
    """A row a method: interval as a bar, mean as a dot, seeds as rings; a line at the better control.

    ``paper``: also a diamond at the figure the paper prints.
    """
    methods = summary.methods
    left, right, row, top = 92, 56, 25, 22
    values = [v for m in methods for v in (m.low, m.high, *m.values.values()) if v is not None]
    values += [m.info.table_vi / 100 for m in methods if paper and m.info.table_vi is not None]
    ticks = nice_ticks(min(values, default=0.0), max(values, default=1.0), 6 if width > 500 else 4)
    low, high = ticks[0], ticks[-1]
    height = top + row * len(methods) + 34

    def x(value: float) -> float:
        return left + (width - left - right) * (value - low) / (high - low)

    parts = [_stamp(stamp, width / 2, top + row * len(methods) / 2)]
    bottom = top + row * len(methods)
    for tick in ticks:
        parts.append(_line(x(tick), top, x(tick), bottom, "rule"))
        parts.append(_text(x(tick), bottom + 15, percent(tick, 0), "dim", "middle"))
    parts.append(_text(left + (width - left - right) / 2, bottom + 30, "mAP@50 (%)", "dim", "middle"))
    if summary.reference is not None and summary.reference.mean is not None:
        at = x(summary.reference.mean)
        parts.append(_line(at, top - 4, at, bottom, "ref"))
        parts.append(_text(at, top - 8, f"better control: {summary.reference.info.abbreviation}", "dim", "middle"))
    for i, method in enumerate(methods):
        parts.append(_interval_row(method, i, top + row * (i + 0.5), x, left, width, paper))
    shown = ", ".join(f"{m.info.label} {percent(m.mean)}" for m in summary.ranked)
    return Chart("".join(parts), width, height, f"mAP@50 in percent with 95 % intervals. {shown}.")


def _interval_row(
    method: MethodSummary, i: int, y: float, x: Callable[[float], float], left: int, width: int, paper: bool
) -> str:
    name = _text(left - 10, y + 4, method.info.label, "bold" if not method.is_control else "", "end", limit=left - 12)
    if method.mean is None:
        return name + _text(left + 6, y + 4, "no figure", "dim")
    parts = [name]
    if method.low is not None and method.high is not None:
        ends = f'x1="{_n(x(method.low))}" x2="{_n(x(method.high))}" y1="{_n(y)}" y2="{_n(y)}"'
        parts.append(f'<line class="ln" {ends} stroke-width="3" stroke-linecap="round" stroke-opacity=".55"/>')
    if len(method.values) > 1:
        parts += [f'<circle class="ln hollow" cx="{_n(x(v))}" cy="{_n(y)}" r="3"/>' for v in method.values.values()]
    parts.append(f'<circle class="fl" cx="{_n(x(method.mean))}" cy="{_n(y)}" r="4.6"/>')
    if paper and method.info.table_vi is not None:
        px = x(method.info.table_vi / 100)
        parts.append(f'<path class="paper" d="M{_n(px)} {_n(y - 5)}l5 5l-5 5l-5 -5z"/>')
    parts.append(_text(width - 6, y + 4, percent(method.mean), "", "end"))
    return f'<g class="s{i}">{"".join(parts)}</g>'


def pr_chart(
    title: str,
    curves: Mapping[int, Sequence[float | None]],
    recall: Sequence[float],
    all_looks: Sequence[Look],
    stamp: str,
) -> Chart:
    """Precision over recall, a line a method; ``curves``: index of the method → precision at each recall."""
    width, height = 260, 232
    left, right, top, bottom = 34, 8, 24, 34
    frame = _frame(
        width, height, (left, right, top, bottom), title, "recall", [0, 0.25, 0.5, 0.75, 1], [0, 0.25, 0.5, 0.75, 1]
    )
    parts = [_stamp(stamp, left + (width - left - right) / 2, height / 2), frame]
    for i, precision in curves.items():
        points = [(left + (width - left - right) * r, top + (height - top - bottom) * (1 - p))
                  for r, p in zip(recall, precision, strict=False) if p is not None and math.isfinite(p)]  # fmt: skip
        dash = f' stroke-dasharray="{all_looks[i].dash}"' if all_looks[i].dash else ""
        parts.append(f'<g class="s{i} series"><path class="ln" stroke-width="1.7"{dash} d="{_path(points)}"/></g>')
    return Chart("".join(parts), width, height, f"Precision over recall at IoU 0.5: {title}.")


def training_chart(
    title: str, index: int, curves: Sequence[Sequence[tuple[float, float]]], context: Sequence[Sequence[tuple[float, float]]],
    limits: tuple[float, float], best: Sequence[tuple[float, float]], stamp: str,
) -> Chart:  # fmt: skip
    """Validation mAP@50 over epochs: seeds thin, their mean thick, the means of the other methods pale behind them.

    limits: last epoch and highest mAP50 over all methods. best: (epoch, mAP50) of each seed's chosen epoch.
    """
    width, height = 204, 158
    left, right, top, bottom = 32, 8, 24, 32
    last, ceiling = limits
    ticks = nice_ticks(0.0, ceiling, 3)
    epochs = [t for t in nice_ticks(0.0, last, 3) if t <= last]

    def at(point: tuple[float, float]) -> tuple[float, float]:
        return (
            left + (width - left - right) * point[0] / max(last, 1),
            top + (height - top - bottom) * (1 - point[1] / ticks[-1]),
        )

    scaled = [e / max(last, 1) for e in epochs]
    labels = [f"{e:.0f}" for e in epochs]
    frame = _frame(width, height, (left, right, top, bottom), title, "epoch", scaled, [t / ticks[-1] for t in ticks],
                   x_labels=labels, y_labels=[percent(t, 0) for t in ticks])  # fmt: skip
    parts = [_stamp(stamp, left + (width - left - right) / 2, height / 2), frame]
    parts += [f'<path class="ghost" d="{_path([at(p) for p in curve])}"/>' for curve in context]
    own = [f'<path class="ln" stroke-width=".8" stroke-opacity=".7" d="{_path([at(p) for p in c])}"/>' for c in curves]
    own.append(f'<path class="ln" stroke-width="2.2" d="{_path([at(p) for p in mean_curve(curves)])}"/>')
    for point in best:
        cx, cy = at(point)
        own.append(f'<circle class="ln hollow" cx="{_n(cx)}" cy="{_n(cy)}" r="2.6"/>')
    parts.append(f'<g class="s{index}">{"".join(own)}</g>')
    return Chart("".join(parts), width, height, f"Validation mAP@50 over epochs: {title}.")


def mean_curve(curves: Sequence[Sequence[tuple[float, float]]]) -> list[tuple[float, float]]:
    """Mean over the curves at every epoch that all of them reached."""
    tables = [dict(curve) for curve in curves]
    epochs = sorted(set.intersection(*(set(t) for t in tables))) if tables else []
    return [(e, sum(t[e] for t in tables) / len(tables)) for e in epochs]


def grid(charts: Sequence[Chart], columns: int, legend: Sequence[str] = ()) -> Chart:
    """Charts of one size side by side, and below them a legend of the series that are named."""
    columns = min(columns, len(charts))
    w, h = charts[0].width, charts[0].height
    parts = [
        f'<g transform="translate({i % columns * w} {i // columns * h})">{c.body}</g>' for i, c in enumerate(charts)
    ]
    width, y = columns * w, -(-len(charts) // columns) * h + 14
    x = 10.0
    for i, name in enumerate(legend):
        if not name:
            continue
        step = 40 + 6.8 * len(name)
        if x + step > width and x > 10:
            x, y = 10.0, y + 18
        parts.append(
            f'<g class="s{i}"><path class="ln" stroke-width="2.4" d="M{_n(x)} {y - 4}h20"/></g>{_text(x + 25, y, name)}'
        )
        x += step
    return Chart("".join(parts), width, y + 10 if legend else y - 14, " ".join(c.label for c in charts))


def nice_ticks(low: float, high: float, count: int) -> list[float]:
    """About ``count`` round numbers that cover [low, high]."""
    span = max(high - low, 1e-6)
    power = 10 ** math.floor(math.log10(span / count))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power * count >= span * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 10) for i in range(first, max(last, first + 1) + 1)]


def _frame(
    width: int, height: int, margins: tuple[int, int, int, int], title: str, x_title: str,
    xs: Sequence[float], ys: Sequence[float], x_labels: Sequence[str] = (), y_labels: Sequence[str] = (),
) -> str:  # fmt: skip
    """Grid, labels and titles of a plot whose axes run from 0 to 1; ``xs``, ``ys`` are where labels stand."""
    left, right, top, bottom = margins
    x_labels = x_labels or [f"{v:g}" for v in xs]
    y_labels = y_labels or [f"{v:g}" for v in ys]
    parts = [_text(left, 14, title, "bold", limit=width - left)]
    for v, label in zip(ys, y_labels, strict=True):
        y = top + (height - top - bottom) * (1 - v)
        parts += [_line(left, y, width - right, y, "rule"), _text(left - 5, y + 4, label, "dim", "end")]
    for v, label in zip(xs, x_labels, strict=True):
        x = left + (width - left - right) * v
        parts.append(_text(x, height - bottom + 14, label, "dim", "middle" if v < 0.97 else "end"))
    parts.append(_text(left + (width - left - right) / 2, height - bottom + 28, x_title, "dim", "middle"))
    return "".join(parts)


def _stamp(text: str, x: float, y: float) -> str:
    if not text:
        return ""
    turn = f"rotate(-14 {_n(x)} {_n(y)})"
    at = f'x="{_n(x)}" y="{_n(y)}" text-anchor="middle" transform="{turn}"'
    return f'<text class="stamp" {at}>{escape(text)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line class="{kind}" x1="{_n(x1)}" y1="{_n(y1)}" x2="{_n(x2)}" y2="{_n(y2)}"/>'


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "start", limit: float = 0) -> str:
    """``limit``: squeeze text that would be wider (pixels)."""
    squeeze = f' textLength="{_n(limit)}" lengthAdjust="spacingAndGlyphs"' if limit and len(text) * 6.6 > limit else ""
    return f'<text class="{kind}" x="{_n(x)}" y="{_n(y)}" text-anchor="{anchor}"{squeeze}>{escape(text)}</text>'


def _path(points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{_n(x)} {_n(y)}" for x, y in points) if points else ""


def _n(value: float) -> str:
    """A coordinate to a tenth of a pixel."""
    return f"{value:.1f}".removesuffix(".0")
