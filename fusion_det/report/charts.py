"""The figures of detection: intervals of mAP, precision over recall, training.

Every figure has fixed pixel sizes that suit a phone or a text column, so that text is never scaled.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from fusion_det.report.formatting import percent
from fusion_det.report.palette import Look
from fusion_det.report.summary import MethodSummary, Summary
from fusion_det.report.svg import Chart, draw_frame, draw_line, draw_path, draw_stamp, draw_text, nice_ticks, px


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

    parts = [draw_stamp(stamp, width / 2, top + row * len(methods) / 2)]
    bottom = top + row * len(methods)
    for tick in ticks:
        parts.append(draw_line(x(tick), top, x(tick), bottom, "rule"))
        parts.append(draw_text(x(tick), bottom + 15, percent(tick, 0), "dim", "middle"))
    parts.append(draw_text(left + (width - left - right) / 2, bottom + 30, "mAP@50 (%)", "dim", "middle"))
    if summary.reference is not None and summary.reference.mean is not None:
        at = x(summary.reference.mean)
        parts.append(draw_line(at, top - 4, at, bottom, "ref"))
        parts.append(draw_text(at, top - 8, f"better control: {summary.reference.info.abbreviation}", "dim", "middle"))
    for i, method in enumerate(methods):
        parts.append(_interval_row(method, i, top + row * (i + 0.5), x, left, width, paper))
    shown = ", ".join(f"{m.info.label} {percent(m.mean)}" for m in summary.ranked)
    return Chart("".join(parts), width, height, f"mAP@50 in percent with 95 % intervals. {shown}.")


def _interval_row(
    method: MethodSummary, i: int, y: float, x: Callable[[float], float], left: int, width: int, paper: bool
) -> str:
    name = draw_text(
        left - 10, y + 4, method.info.label, "bold" if not method.is_control else "", "end", limit=left - 12
    )
    if method.mean is None:
        return name + draw_text(left + 6, y + 4, "no figure", "dim")
    parts = [name]
    if method.low is not None and method.high is not None:
        ends = f'x1="{px(x(method.low))}" x2="{px(x(method.high))}" y1="{px(y)}" y2="{px(y)}"'
        parts.append(f'<line class="ln" {ends} stroke-width="3" stroke-linecap="round" stroke-opacity=".55"/>')
    if len(method.values) > 1:
        parts += [f'<circle class="ln hollow" cx="{px(x(v))}" cy="{px(y)}" r="3"/>' for v in method.values.values()]
    parts.append(f'<circle class="fl" cx="{px(x(method.mean))}" cy="{px(y)}" r="4.6"/>')
    if paper and method.info.table_vi is not None:
        mark = x(method.info.table_vi / 100)
        parts.append(f'<path class="paper" d="M{px(mark)} {px(y - 5)}l5 5l-5 5l-5 -5z"/>')
    parts.append(draw_text(width - 6, y + 4, percent(method.mean), "", "end"))
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
    frame = draw_frame(
        width, height, (left, right, top, bottom), title, "recall", [0, 0.25, 0.5, 0.75, 1], [0, 0.25, 0.5, 0.75, 1]
    )
    parts = [draw_stamp(stamp, left + (width - left - right) / 2, height / 2), frame]
    for i, precision in curves.items():
        points = [(left + (width - left - right) * r, top + (height - top - bottom) * (1 - p))
                  for r, p in zip(recall, precision, strict=False) if p is not None and math.isfinite(p)]  # fmt: skip
        dash = f' stroke-dasharray="{all_looks[i].dash}"' if all_looks[i].dash else ""
        parts.append(f'<g class="s{i} series"><path class="ln" stroke-width="1.7"{dash} d="{draw_path(points)}"/></g>')
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
    frame = draw_frame(width, height, (left, right, top, bottom), title, "epoch", scaled, [t / ticks[-1] for t in ticks],
                   x_labels=labels, y_labels=[percent(t, 0) for t in ticks])  # fmt: skip
    parts = [draw_stamp(stamp, left + (width - left - right) / 2, height / 2), frame]
    parts += [f'<path class="ghost" d="{draw_path([at(p) for p in curve])}"/>' for curve in context]
    own = [
        f'<path class="ln" stroke-width=".8" stroke-opacity=".7" d="{draw_path([at(p) for p in c])}"/>' for c in curves
    ]
    own.append(f'<path class="ln" stroke-width="2.2" d="{draw_path([at(p) for p in mean_curve(curves)])}"/>')
    for point in best:
        cx, cy = at(point)
        own.append(f'<circle class="ln hollow" cx="{px(cx)}" cy="{px(cy)}" r="2.6"/>')
    parts.append(f'<g class="s{index}">{"".join(own)}</g>')
    return Chart("".join(parts), width, height, f"Validation mAP@50 over epochs: {title}.")


def mean_curve(curves: Sequence[Sequence[tuple[float, float]]]) -> list[tuple[float, float]]:
    """Mean over the curves at every epoch that all of them reached."""
    tables = [dict(curve) for curve in curves]
    epochs = sorted(set.intersection(*(set(t) for t in tables))) if tables else []
    return [(e, sum(t[e] for t in tables) / len(tables)) for e in epochs]
