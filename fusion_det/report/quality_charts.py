"""The figures of quality: every method along every metric, and mAP@50 against each metric."""

from __future__ import annotations

from collections.abc import Sequence

from fusion_det.report.association import Association, Associations
from fusion_det.report.formatting import number, percent
from fusion_det.report.palette import Look
from fusion_det.report.quality_summary import QualitySummary, decimals
from fusion_det.report.summary import MethodSummary, Summary
from fusion_det.report.svg import Chart, draw_frame, draw_line, draw_path, draw_stamp, draw_text, nice_ticks, px

ROW = 26


def parallel_chart(summary: QualitySummary, all_looks: Sequence[Look], *, width: int, stamp: str) -> Chart | None:
    """Parallel coordinates: a row a metric, from the worst fusion (left) to the best (right), a line a fusion.

    Controls are left out: they would set the ends of the scales. None with fewer than two fusions, where there is no scale.
    """
    metrics, fusions = summary.defined, summary.fusions
    if len(fusions) < 2 or not metrics:
        return None
    name, figure, top = 74, 56, 26
    left, right = name + figure, width - figure - 6
    height = top + ROW * len(metrics) + 6
    columns = {m.name: [f.mean[m.name] or 0.0 for f in fusions] for m in metrics}
    parts = [draw_stamp(stamp, (left + right) / 2, height / 2)]
    parts += [draw_text(left, 14, "worst", "dim", "middle"), draw_text(right, 14, "best", "dim", "middle")]
    lines: list[list[tuple[float, float]]] = [[] for _ in fusions]
    for row, metric in enumerate(metrics):
        y = top + ROW * (row + 0.5)
        values = columns[metric.name]
        worst, best = (min(values), max(values)) if metric.higher_is_better else (max(values), min(values))
        digits = decimals(metric, summary.rows.profile)
        parts.append(draw_line(left, y, right, y, "rule"))
        parts.append(draw_text(0, y + 4, f"{metric.name} {metric.arrow}", "bold"))
        parts.append(draw_text(left - 10, y + 4, number(worst, digits), "dim", "end"))
        parts.append(draw_text(right + 10, y + 4, number(best, digits), "dim"))
        for line, value in zip(lines, values, strict=True):
            share = (value - worst) / (best - worst) if best != worst else 0.5
            line.append((left + (right - left) * share, y))
    index = {m.method.info.name: i for i, m in enumerate(summary.methods)}
    for fusion, line in zip(fusions, lines, strict=True):
        i = index[fusion.method.info.name]
        dash = f' stroke-dasharray="{all_looks[i].dash}"' if all_looks[i].dash else ""
        dots = "".join(f'<circle class="fl" cx="{px(x)}" cy="{px(y)}" r="3.4"/>' for x, y in line)
        path = f'<path class="ln" stroke-width="1.7"{dash} d="{draw_path(line)}"/>'
        parts.append(f'<g class="s{i} series">{path}{dots}</g>')
    names = ", ".join(f.method.info.label for f in fusions)
    return Chart("".join(parts), width, height, f"Quality of {names} by {len(metrics)} metrics, from worst to best.")


def association_charts(summary: Summary, quality: QualitySummary, found: Associations, stamp: str) -> tuple[Chart, ...]:
    """A small scatter of mAP@50 over each metric, strongest correlation first; dots are fusions."""
    return tuple(_scatter(summary, quality, item, stamp) for item in found.items)


def _scatter(summary: Summary, quality: QualitySummary, item: Association, stamp: str) -> Chart:
    width, height = 204, 176
    left, right, top, bottom = 34, 10, 24, 34
    metric = item.metric
    of = {q.method.info.name: q for q in quality.fusions}
    points: list[tuple[int, float, MethodSummary]] = [
        (i, x, m)
        for i, m in enumerate(summary.methods)
        if m.info.name in of and m.mean is not None and (x := of[m.info.name].mean[metric.name]) is not None
    ]
    xs = [x for _, x, _ in points]
    ys = [v for _, _, m in points for v in (m.low, m.high, m.mean) if v is not None]
    x_ticks, y_ticks = nice_ticks(min(xs), max(xs), 3), nice_ticks(min(ys), max(ys), 3)

    def at(x: float, y: float) -> tuple[float, float]:
        across = (x - x_ticks[0]) / (x_ticks[-1] - x_ticks[0])
        up = (y - y_ticks[0]) / (y_ticks[-1] - y_ticks[0])
        return left + (width - left - right) * across, top + (height - top - bottom) * (1 - up)

    rho = "ρ undefined" if item.rho is None else f"ρ = {item.rho:+.2f}".replace("-", "−")
    frame = draw_frame(
        width, height, (left, right, top, bottom), f"{metric.name} {metric.arrow} · {rho}", metric.name,
        [(t - x_ticks[0]) / (x_ticks[-1] - x_ticks[0]) for t in x_ticks],
        [(t - y_ticks[0]) / (y_ticks[-1] - y_ticks[0]) for t in y_ticks],
        x_labels=[f"{t:g}" for t in x_ticks], y_labels=[percent(t, _digits(y_ticks)) for t in y_ticks],
    )  # fmt: skip
    parts = [draw_stamp(stamp, left + (width - left - right) / 2, height / 2), frame]
    for i, x, m in points:
        if m.mean is None:
            continue
        cx, cy = at(x, m.mean)
        bar = ""
        if m.low is not None and m.high is not None:
            (_, y0), (_, y1) = at(x, m.low), at(x, m.high)
            ends = f'x1="{px(cx)}" x2="{px(cx)}" y1="{px(y0)}" y2="{px(y1)}"'
            bar = f'<line class="ln" {ends} stroke-width="1.6" stroke-opacity=".4"/>'
        dot = f'<circle class="fl" cx="{px(cx)}" cy="{px(cy)}" r="4"/>'
        parts.append(f'<g class="s{i} series">{bar}{dot}</g>')
    return Chart("".join(parts), width, height, f"mAP@50 over {metric.title}: {rho}.")


def _digits(ticks: Sequence[float]) -> int:
    """Decimals that tell percent labels of these fractions apart."""
    return 0 if len(ticks) < 2 or ticks[1] - ticks[0] >= 0.0099 else 1
