"""Annotations as read from a file, and their way to validated boxes."""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fusion_det.data.pair import Boxes
from fusion_det.errors import Problem

EDGE_TOLERANCE = 2.0
"""Pixels by which a box may pass the image's edge and is silently clipped: published annotations carry artefacts of
conversion between 0- and 1-based, inclusive and exclusive corners (FLIR's boxes begin at -1). More is a problem."""

_CONDITIONS = {
    "daytime": "day",
    "nighttime": "night",
    "cloudy": "overcast",
    "fog": "challenge",
    "glare": "challenge",
}


@dataclass(frozen=True)
class RawBox:
    """One object as the file says it, already with this project's corners (0-based, x1/y1 exclusive, pixels).

    where: how to find it in the file ("object 3", "annotation 17").
    """

    name: str
    x0: float
    y0: float
    x1: float
    y1: float
    where: str


@dataclass(frozen=True)
class Annotation:
    """What a file says of one image. width, height: None where the file does not say (missing or 0)."""

    file: Path
    boxes: tuple[RawBox, ...]
    width: int | None = None
    height: int | None = None
    condition: str | None = None


def validated_boxes(
    annotation: Annotation, width: int, height: int, classes: Sequence[str], problems: list[Problem]
) -> Boxes:
    """Boxes of an image of ``width`` × ``height``: known class, not empty, inside. Each violation adds a problem."""
    good = [box for box in annotation.boxes if not _reported(box, annotation.file, width, height, classes, problems)]
    corners = np.array([(b.x0, b.y0, b.x1, b.y1) for b in good], dtype=np.float64).reshape(-1, 4)
    return Boxes(
        xyxy=np.clip(corners, 0.0, np.array([width, height, width, height], dtype=np.float64)),
        labels=np.array([classes.index(box.name) for box in good], dtype=np.int64),
    )


def normal_condition(value: object) -> str | None:
    """A condition as files spell it ("Daytime", "night") → this project's word; anything but text gives None."""
    if not isinstance(value, str) or not value.strip():
        return None
    word = value.strip().lower()
    return _CONDITIONS.get(word, word)


def _reported(
    box: RawBox, file: Path, width: int, height: int, classes: Sequence[str], problems: list[Problem]
) -> bool:
    inside = 0 <= box.x0 < box.x1 <= width and 0 <= box.y0 < box.y1 <= height
    if inside and box.name in classes:  # nearly always; the rest is for wording
        return False
    fault = _fault(box, width, height, classes)
    if fault:
        problems.append(Problem(file, f"{box.where}: {fault}"))
    return fault is not None


def _fault(box: RawBox, width: int, height: int, classes: Sequence[str]) -> str | None:
    if box.name not in classes:
        near = difflib.get_close_matches(box.name.title(), classes, n=1) or difflib.get_close_matches(
            box.name, classes, n=1
        )
        hint = f"; did you mean {near[0]!r}?" if near else ""
        return f"unknown class {box.name!r} (known: {', '.join(classes)}){hint}"
    corners = (box.x0, box.y0, box.x1, box.y1)
    shown = "[" + ", ".join(f"{value:g}" for value in corners) + "]"
    if not all(math.isfinite(value) for value in corners):
        return f"box {shown} is not finite"
    if box.x1 <= box.x0 or box.y1 <= box.y0:
        return f"box {shown} is empty (x0, y0, x1, y1; 0-based, end exclusive)"
    beyond = max(-box.x0, -box.y0, box.x1 - width, box.y1 - height)
    if beyond > EDGE_TOLERANCE:
        return f"box {shown} reaches {beyond:g} px outside the {width}×{height} image"
    if min(box.x1, width) <= max(box.x0, 0) or min(box.y1, height) <= max(box.y0, 0):
        return f"box {shown} lies outside the {width}×{height} image"
    return None
