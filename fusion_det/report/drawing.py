"""Boxes, labels and badges on a picture: found, false and missed told apart by colour, line and word."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from PIL import ImageDraw, ImageFont

from fusion_det.errors import ConfigError


@dataclass(frozen=True)
class Style:
    """How one kind of box is drawn. dash: lengths of line and gap in line widths, () for solid."""

    name: str
    color: tuple[int, int, int]
    dash: tuple[float, ...]
    prefix: str


# Okabe and Ito's sky blue, vermillion and yellow: apart for all common kinds of colour blindness, and in lightness too.
HIT = Style("found", (86, 190, 245), (), "")
FALSE = Style("false", (255, 96, 40), (6, 2, 1.2, 2), "false ")
MISS = Style("missed", (250, 232, 60), (2.2, 1.8), "missed ")
TRUTH = Style("ground truth", (255, 255, 255), (), "")
ZOOM = Style("zoomed", (240, 150, 220), (), "")


@dataclass(frozen=True)
class Mark:
    """A box to draw: xyxy pixels of the original image, and its text."""

    xyxy: tuple[float, float, float, float]
    style: Style
    text: str


def draw_boxes(
    draw: ImageDraw.ImageDraw, marks: Sequence[Mark], factor: float, origin: tuple[float, float], line: int
) -> None:
    """The outlines of all boxes; ``origin`` (original pixels) is the canvas's corner, ``factor`` its enlargement."""
    for mark in marks:
        x0, y0, x1, y1 = ((value - origin[i % 2]) * factor for i, value in enumerate(mark.xyxy))
        _dashed_rectangle(draw, (x0, y0, x1, y1), mark.style, line)


def draw_labels(draw: ImageDraw.ImageDraw, marks: Sequence[Mark], factor: float, size: tuple[int, int]) -> None:
    """Class and confidence on a plate of the box's colour: above the box, else below or inside, where nothing is yet."""
    font = load_font(max(15, round(size[0] / 58)))
    placed: list[tuple[float, float, float, float]] = []
    for mark in reversed(marks):
        width, height = font.getlength(mark.text) + 6, font.size + 4
        x0, y0, x1, y1 = (v * factor for v in mark.xyxy)
        places = [
            (x0, y0 - height),
            (x0, y1),
            (x1 - width, y0 - height),
            (x1 - width, y1),
            (x1, y0),
            (x0 - width, y0),
            (x0, y0),
        ]
        plates = [_inside((x, y, x + width, y + height), size) for x, y in places]
        plate = min(plates, key=lambda p: sum(_overlap(p, other) for other in placed))
        placed.append(plate)
        draw.rectangle(plate, fill=mark.style.color, outline=(0, 0, 0))
        draw.text((plate[0] + 3, (plate[1] + plate[3]) / 2), mark.text, fill=(0, 0, 0), font=font, anchor="lm")


def draw_zoom_frame(
    draw: ImageDraw.ImageDraw, crop: tuple[int, int, int, int], factor: float, line: int, number: int
) -> None:
    """The frame of a zoomed region in the whole picture, with its number."""
    x0, y0, x1, y1 = (v * factor for v in crop)
    draw.rectangle((x0, y0, x1 - 1, y1 - 1), outline=ZOOM.color, width=max(1, line - 1))
    draw_badge(draw, (x0 + line, y1 - 26 - line), str(number))


def draw_badge(draw: ImageDraw.ImageDraw, at: tuple[float, float], text: str) -> None:
    """The number of a zoomed region."""
    x, y = at
    draw.rectangle((x, y, x + 20, y + 24), fill=ZOOM.color, outline=(0, 0, 0))
    draw.text((x + 10, y + 12), text, fill=(0, 0, 0), font=load_font(18), anchor="mm")


def draw_stamp(draw: ImageDraw.ImageDraw, text: str, width: int) -> None:
    """A word in the upper right corner ("DEMO"), for pictures travel without their page."""
    font = load_font(max(16, round(width / 46)))
    plate = font.getlength(text) + 10
    draw.rectangle((width - plate, 0, width, font.size + 8), fill=(255, 255, 255))
    draw.text((width - 5, 3), text, fill=(179, 38, 30), font=font, anchor="ra")


def draw_legend(draw: ImageDraw.ImageDraw, origin: tuple[int, int], font: ImageFont.FreeTypeFont) -> None:
    """The three kinds of box by name, in a row."""
    x, y = origin
    for style in (HIT, FALSE, MISS):
        draw.rectangle((x, y, x + 38, y + 20), fill=(90, 90, 90))
        _dashed_rectangle(draw, (x + 4, y + 4, x + 34, y + 16), style, 3)
        draw.text((x + 46, y + 1), style.name, fill=(0, 0, 0), font=font)
        x += 70 + round(font.getlength(style.name))


def _dashed_rectangle(
    draw: ImageDraw.ImageDraw, box: tuple[float, float, float, float], style: Style, line: int
) -> None:
    """The outline in the style's dashes over a dark, slightly wider one, so that it is seen on any background."""
    x0, y0, x1, y1 = box
    draw.rectangle((x0 - 1, y0 - 1, max(x0, x1) + 1, max(y0, y1) + 1), outline=(0, 0, 0), width=line + 2)
    corners = [(x0, y0), (x1, y0), (x1, y1), (x0, y1), (x0, y0)]
    for start, end in itertools.pairwise(corners):
        for a, b in _dashes(start, end, [d * line for d in style.dash]):
            left, right = sorted((a[0], b[0]))
            top, bottom = sorted((a[1], b[1]))
            if start[1] == end[1]:
                top = top if start[1] == y0 else top - line + 1
                draw.rectangle((left, top, right, top + line - 1), fill=style.color)
            else:
                left = left if start[0] == x0 else left - line + 1
                draw.rectangle((left, top, left + line - 1, bottom), fill=style.color)


def _dashes(
    start: tuple[float, float], end: tuple[float, float], pattern: Sequence[float]
) -> list[tuple[tuple[float, float], tuple[float, float]]]:
    """Pieces of the segment that are drawn: all of it for no pattern, else alternating line and gap."""
    length = abs(end[0] - start[0]) + abs(end[1] - start[1])
    if not pattern or length <= pattern[0]:
        return [(start, end)]
    pieces, at, index = [], 0.0, 0
    direction = ((end[0] - start[0]) / length, (end[1] - start[1]) / length)
    while at < length:
        until = min(length, at + pattern[index % len(pattern)])
        if index % 2 == 0:
            a, b = ((start[0] + t * direction[0], start[1] + t * direction[1]) for t in (at, until))
            pieces.append((a, b))
        at, index = until, index + 1
    return pieces


def _inside(box: tuple[float, float, float, float], size: tuple[int, int]) -> tuple[float, float, float, float]:
    dx = min(0.0, size[0] - 1 - box[2]) - min(0.0, box[0])
    dy = min(0.0, size[1] - 1 - box[3]) - min(0.0, box[1])
    return box[0] + dx, box[1] + dy, box[2] + dx, box[3] + dy


def _overlap(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> float:
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))


@lru_cache(maxsize=8)
def load_font(size: int) -> ImageFont.FreeTypeFont:
    """Pillow's own font at a size in pixels.

    Raises:
        ConfigError: Pillow was built without FreeType.
    """
    font = ImageFont.load_default(size)
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise ConfigError("Pillow was built without FreeType, so labels cannot be drawn; install Pillow from PyPI.")
    return font
