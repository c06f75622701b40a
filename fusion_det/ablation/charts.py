"""The figure of an ablation: what each variant changes, in percent of the whole method, ours and the paper's."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fusion_det.ablation.summary import AblationSummary, Estimate, VariantFigures
from fusion_det.ablation.tables import name_of, short_stamp
from fusion_det.quality.table import Metric
from fusion_det.report.svg import Chart, draw_line, draw_stamp, draw_text, nice_ticks, px

ROW, NAMES, GAP = 23, 140, 34
"""Pixels: height of a row, width of the variants' names, space between panels."""


def change_chart(summary: AblationSummary, *, columns: int, panel: int) -> Chart | None:
    """A panel a metric, a row a variant: the difference from the whole method in percent, ours and the paper's.

    Args:
        columns: panels beside each other; those of a line share its names. panel: width of one, in pixels.

    Returns:
        None where there is nothing to compare.
    """
    rows = [v for v in summary.variants if v.info.name != summary.reference.info.name]
    metrics = [m for m in summary.defined if any(v.change[m.name] for v in rows)]
    if not metrics:
        return None
    columns = min(columns, len(metrics))
    width, height = NAMES + columns * (panel + GAP), 24 + ROW * len(rows) + 34
    lines = -(-len(metrics) // columns)
    parts = [draw_stamp(short_stamp(summary.results), width / 2, lines * height / 2)]
    for i, metric in enumerate(metrics):
        line, column = divmod(i, columns)
        left, top = NAMES + column * (panel + GAP), line * height
        if not column:
            parts += [
                draw_text(NAMES - 8, top + 24 + ROW * (k + 0.5) + 4, name_of(v.info), "", "end", limit=NAMES - 10)
                for k, v in enumerate(rows)
            ]
        parts.append(_panel(rows, metric, left, top, panel))
    label = f"Differences from {summary.reference.info.label} in percent, by {', '.join(m.name for m in metrics)}."
    return Chart("".join(parts), width, lines * height, label)


def _panel(rows: Sequence[VariantFigures], metric: Metric, left: float, top: float, width: int) -> str:
    found = [v.change[metric.name] for v in rows]
    printed = [v.printed_change.get(metric.name) for v in rows]
    ends = [0.0, *(x for x in printed if x is not None)]
    ends += [
        x for change in found if change is not None for x in (change.value, change.low, change.high) if x is not None
    ]
    ticks = nice_ticks(min(ends), max(ends), 3)
    low, high = ticks[0], ticks[-1]
    bottom = top + 24 + ROW * len(rows)

    def x(value: float) -> float:
        return left + width * (value - low) / (high - low)

    parts = [draw_text(left, top + 14, f"{metric.name} {metric.arrow}", "bold")]
    for tick in ticks:
        parts.append(draw_line(x(tick), top + 22, x(tick), bottom, "ref" if tick == 0 else "rule"))
        text = f"{tick:+g}".replace("-", "−") if tick else "0"
        anchor = "start" if tick == low else "end" if tick == high else "middle"
        parts.append(draw_text(x(tick), bottom + 15, text, "dim", anchor))
    parts.append(draw_text(left + width / 2, bottom + 29, "difference, %", "dim", "middle"))
    for k, (ours, theirs) in enumerate(zip(found, printed, strict=True)):
        y = top + 24 + ROW * (k + 0.5)
        if ours is not None:
            parts.append(_mark(ours, y, x))
        if theirs is not None:
            parts.append(f'<path class="paper" d="M{px(x(theirs))} {px(y - 5)}l5 5l-5 5l-5 -5z"/>')
    return "".join(parts)


def _mark(change: Estimate, y: float, x: Callable[[float], float]) -> str:
    """A bar over the interval and a dot, hollow where the interval holds zero."""
    bar = ""
    if change.low is not None and change.high is not None:
        ends = f'x1="{px(x(change.low))}" x2="{px(x(change.high))}" y1="{px(y)}" y2="{px(y)}"'
        bar = f'<line class="ours" {ends} stroke-width="3" stroke-linecap="round" stroke-opacity=".5"/>'
    kind = "ours dot" if change.sign else "ours open"
    return f'{bar}<circle class="{kind}" cx="{px(x(change.value))}" cy="{px(y)}" r="4.4" stroke-width="1.6"/>'


CHANGE_CSS = """
.chart .ours{stroke:__OURS__;fill:none}
.chart .ours.dot{fill:__OURS__}
.chart .ours.open{fill:__PAPER__}
""".strip()
OURS_LIGHT, OURS_DARK = "#0072b2", "#56b4e9"
"""Okabe and Ito's blues."""


def change_css(*, on_page: bool) -> str:
    """Styles of :func:`change_chart`: for the page's two schemes, or for a file on white."""
    if not on_page:
        return CHANGE_CSS.replace("__OURS__", OURS_LIGHT).replace("__PAPER__", "#fff")
    light, dark = (
        CHANGE_CSS.replace("__OURS__", color).replace("__PAPER__", "var(--paper)") for color in (OURS_LIGHT, OURS_DARK)
    )
    return f"{light}\n@media screen and (prefers-color-scheme: dark) {{\n{dark}\n}}"
