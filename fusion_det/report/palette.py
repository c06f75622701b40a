"""One colour and dash a method, the same in every figure; controls are black and grey."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass

from fusion_det.report.summary import MethodSummary

CONTROLS = (("#1b1b1b", "#f2f2f2"), ("#7d7d7d", "#a3a3a3"))
"""(on white, on black) of the first and second control."""
# Okabe & Ito 2008 (yellow darkened, for it must be read on white), then Tol's "muted" and two earths.
HUES = (
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#882255", "#999933",
    "#332288", "#44aa99", "#661100", "#aa4499", "#117733", "#6a7fdb", "#a6761d",
)  # fmt: skip
DASHES = ("", "7 3", "2 2.5", "9 3 2 3")


@dataclass(frozen=True)
class Look:
    """light, dark: the colour on a light and on a dark page. dash: an SVG dash array, "" for solid."""

    light: str
    dark: str
    dash: str


def looks(methods: Sequence[MethodSummary]) -> tuple[Look, ...]:
    """A look for each method, by its place among the controls or the fusions."""
    out, controls, fusions = [], 0, 0
    for method in methods:
        if method.is_control:
            light, dark = CONTROLS[controls % len(CONTROLS)]
            out.append(Look(light, dark, ""))
            controls += 1
        else:
            light = HUES[fusions % len(HUES)]
            out.append(Look(light, _for_dark(light), DASHES[fusions // 4 % len(DASHES)]))
            fusions += 1
    return tuple(out)


def css(methods: Sequence[MethodSummary], *, dark: bool) -> str:
    """Style rules of the series classes ``s0``, ``s1``, … for one colour scheme."""
    rules = []
    for i, look in enumerate(looks(methods)):
        color = look.dark if dark else look.light
        rules.append(f".s{i} .ln,.s{i}.ln{{stroke:{color}}}.s{i} .fl,.s{i}.fl{{fill:{color};background-color:{color}}}")
    return "\n".join(rules)


def _for_dark(color: str) -> str:
    """The same hue, light enough for a dark page."""
    r, g, b = (int(color[i : i + 2], 16) / 255 for i in (1, 3, 5))
    h, lightness, s = colorsys.rgb_to_hls(r, g, b)
    r, g, b = colorsys.hls_to_rgb(h, max(lightness, 0.62), s)
    return f"#{round(255 * r):02x}{round(255 * g):02x}{round(255 * b):02x}"
