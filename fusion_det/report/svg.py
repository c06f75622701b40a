"""Drawing SVG by hand: what a chart is, its styles, and the strokes all charts are made of.

Small, crisp, the same bytes every time, and at home in a light or a dark page. Colours come from classes: the page styles
them for its scheme, a stand-alone file brings :func:`file_css`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from fusion_det.report.palette import css
from fusion_det.report.summary import MethodSummary

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
            f'<g class="s{i}"><path class="ln" stroke-width="2.4" d="M{px(x)} {y - 4}h20"/></g>{draw_text(x + 25, y, name)}'
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


def draw_frame(
    width: int, height: int, margins: tuple[int, int, int, int], title: str, x_title: str,
    xs: Sequence[float], ys: Sequence[float], x_labels: Sequence[str] = (), y_labels: Sequence[str] = (),
) -> str:  # fmt: skip
    """Grid, labels and titles of a plot whose axes run from 0 to 1; ``xs``, ``ys`` are where labels stand."""
    left, right, top, bottom = margins
    x_labels = x_labels or [f"{v:g}" for v in xs]
    y_labels = y_labels or [f"{v:g}" for v in ys]
    parts = [draw_text(left, 14, title, "bold", limit=width - left)]
    for v, label in zip(ys, y_labels, strict=True):
        y = top + (height - top - bottom) * (1 - v)
        parts += [draw_line(left, y, width - right, y, "rule"), draw_text(left - 5, y + 4, label, "dim", "end")]
    for v, label in zip(xs, x_labels, strict=True):
        x = left + (width - left - right) * v
        parts.append(draw_text(x, height - bottom + 14, label, "dim", "middle" if v < 0.97 else "end"))
    parts.append(draw_text(left + (width - left - right) / 2, height - bottom + 28, x_title, "dim", "middle"))
    return "".join(parts)


def draw_stamp(text: str, x: float, y: float) -> str:
    if not text:
        return ""
    turn = f"rotate(-14 {px(x)} {px(y)})"
    at = f'x="{px(x)}" y="{px(y)}" text-anchor="middle" transform="{turn}"'
    return f'<text class="stamp" {at}>{escape(text)}</text>'


def draw_line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line class="{kind}" x1="{px(x1)}" y1="{px(y1)}" x2="{px(x2)}" y2="{px(y2)}"/>'


def draw_text(x: float, y: float, text: str, kind: str = "", anchor: str = "start", limit: float = 0) -> str:
    """``limit``: squeeze text that would be wider (pixels)."""
    squeeze = f' textLength="{px(limit)}" lengthAdjust="spacingAndGlyphs"' if limit and len(text) * 6.6 > limit else ""
    return f'<text class="{kind}" x="{px(x)}" y="{px(y)}" text-anchor="{anchor}"{squeeze}>{escape(text)}</text>'


def draw_path(points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{px(x)} {px(y)}" for x, y in points) if points else ""


def px(value: float) -> str:
    """A coordinate to a tenth of a pixel."""
    return f"{value:.1f}".removesuffix(".0")
