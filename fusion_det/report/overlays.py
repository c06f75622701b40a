"""The overlays: one panel a method with what it found, missed and made up, and contact sheets of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from fusion_det.report.drawing import (
    FALSE,
    HIT,
    MISS,
    TRUTH,
    Mark,
    draw_badge,
    draw_boxes,
    draw_labels,
    draw_legend,
    draw_stamp,
    draw_zoom_frame,
    load_font,
)
from fusion_det.report.scenes import IOU, Objects, Panel, Scene

PANEL_WIDTH = 900
"""Small images are enlarged by an integer factor until they are about this wide (pixels), so that labels are legible."""
IOU_TEXT = f"found means overlap (IoU) of at least {IOU:g} with an object of that class, each object once"
GAP = 6
PAPER = (255, 255, 255)


@dataclass(frozen=True, eq=False)
class Drawn:
    """A finished panel. ``caption``: what it shows, in words ("found 3 of 4, 1 false")."""

    key: str
    title: str
    caption: str
    image: Image.Image


def images_present(scene: Scene) -> bool:
    """Are the fused images of all its panels still there?"""
    return all(_fused(panel, scene.stem).is_file() for panel in scene.panels)


def draw_scene(scene: Scene, classes: Sequence[str], stamp: str = "") -> list[Drawn]:
    """The ground truth, then every method's detections on its own fused image.

    The ground truth lies on the visible image where that was run, else on the first method's. ``stamp`` is written
    into every picture.
    """
    sources = {panel.method.info.name: _fused(panel, scene.stem) for panel in scene.panels}
    background = sources.get("vi") or next(iter(sources.values()))
    with Image.open(background) as image:
        crops = zoom_regions(scene, image.size)
    truth_marks = [Mark(_box(b), TRUTH, classes[k]) for b, k in zip(scene.truth.xyxy, scene.truth.labels, strict=True)]
    count = len(scene.truth)
    drawn = [
        Drawn(
            "truth",
            "Ground truth",
            f"{count} object{'s' if count != 1 else ''}",
            draw_panel(background, truth_marks, crops, stamp),
        )
    ]
    for panel in scene.panels:
        path = sources[panel.method.info.name]
        marks = panel_marks(panel, scene.truth, classes)
        drawn.append(
            Drawn(
                panel.method.info.name, panel.method.info.label, describe(panel), draw_panel(path, marks, crops, stamp)
            )
        )
    return drawn


def describe(panel: Panel) -> str:
    """ "found 3 of 4, 1 false"."""
    false = panel.false_positives
    return f"found {panel.hits} of {panel.objects}, {false or 'none'} false"


def panel_marks(panel: Panel, truth: Objects, classes: Sequence[str]) -> list[Mark]:
    """Misses first, then false positives, then hits, so that what was found lies on top."""
    found = panel.found
    missed = sorted(set(range(len(truth))) - set(panel.matched.tolist()))
    marks = [Mark(_box(truth.xyxy[i]), MISS, f"missed {classes[truth.labels[i]]}") for i in missed]
    for style, chosen in ((FALSE, panel.matched < 0), (HIT, panel.matched >= 0)):
        for j in np.flatnonzero(chosen):
            text = f"{style.prefix}{classes[found.labels[j]]} {found.scores[j]:.2f}".replace(" 0.", " .")
            marks.append(Mark(_box(found.xyxy[j]), style, text))
    return marks


def zoom_regions(scene: Scene, size: tuple[int, int], count: int = 2) -> list[tuple[int, int, int, int]]:
    """Up to ``count`` regions (x0, y0, x1, y1; 4:3, inside the image) that tell the methods apart.

    First around the object on which methods are most divided (the smallest of those), then, outside the first, the
    next one. Where all agree on every object, around the smallest ones.
    """
    share = scene.finders() / max(1, len(scene.panels))
    area = np.prod(scene.truth.xyxy[:, 2:] - scene.truth.xyxy[:, :2], axis=1)
    regions: list[tuple[int, int, int, int]] = []
    for i in np.lexsort((area, -(share * (1 - share)).round(6))):
        x, y = (scene.truth.xyxy[i, :2] + scene.truth.xyxy[i, 2:]) / 2
        if not any(x0 <= x <= x1 and y0 <= y <= y1 for x0, y0, x1, y1 in regions):
            regions.append(_region(scene.truth.xyxy[i], size))
        if len(regions) == count:
            break
    if len(regions) == 1:  # one strip as high as two windows side by side
        return [_region(np.array(regions[0], np.float64), size, 8 / 3, margin=1.0)]
    return regions


def draw_panel(
    path: Path, marks: Sequence[Mark], crops: Sequence[tuple[int, int, int, int]], stamp: str = ""
) -> Image.Image:
    """The image with its boxes and, below it, the zoomed regions with theirs."""
    with Image.open(path) as opened:
        image = opened.convert("RGB")
    factor = max(1, round(PANEL_WIDTH / image.width))
    canvas = image.resize((image.width * factor, image.height * factor), Image.Resampling.BICUBIC)
    line = max(2, round(canvas.width / 320))
    draw = ImageDraw.Draw(canvas)
    draw_boxes(draw, marks, factor, (0, 0), line)
    for number, crop in enumerate(crops, 1):
        draw_zoom_frame(draw, crop, factor, line, number)
    draw_labels(draw, marks, factor, canvas.size)
    if stamp:
        draw_stamp(draw, stamp, canvas.width)
    return _with_crops(canvas, image, marks, crops, line) if crops else canvas


def contact_sheet(drawn: Sequence[Drawn], caption: str, stamp: str) -> Image.Image:
    """All panels of a scene in one picture for a slide or a paper, with titles, the legend and the caption below."""
    wide = round((1.5 * len(drawn)) ** 0.5)  # a landscape sheet
    columns = min(range(3, 7), key=lambda n: (-len(drawn) % n, abs(n - wide)))
    width = 640
    panels = [
        d.image.resize((width, round(d.image.height * width / d.image.width)), Image.Resampling.LANCZOS) for d in drawn
    ]
    head, font, small = 30, load_font(21), load_font(16)
    height = max(p.height for p in panels) + head + GAP
    rows = -(-len(panels) // columns)
    total = columns * width + (columns - 1) * GAP
    lines = _wrap(f"{stamp + '. ' if stamp else ''}{caption}", small, total - 2 * GAP)
    foot = 34 + 22 * len(lines)
    sheet = Image.new("RGB", (total, rows * height + foot), PAPER)
    draw = ImageDraw.Draw(sheet)
    for i, (panel, item) in enumerate(zip(panels, drawn, strict=True)):
        x, y = i % columns * (width + GAP), i // columns * height
        draw.text((x + 4, y + 3), item.title, fill=(0, 0, 0), font=font)
        draw.text((x + width - 4, y + 7), item.caption, fill=(70, 70, 70), font=small, anchor="ra")
        if stamp:
            draw.text((x + width // 2, y + 7), stamp, fill=(190, 30, 30), font=small, anchor="ma")
        sheet.paste(panel, (x, y + head))
    draw_legend(draw, (GAP, rows * height + 6), small)
    for i, text in enumerate(lines):
        draw.text((GAP, rows * height + 32 + 22 * i), text, fill=(40, 40, 40), font=small)
    return sheet


def _with_crops(
    canvas: Image.Image,
    image: Image.Image,
    marks: Sequence[Mark],
    crops: Sequence[tuple[int, int, int, int]],
    line: int,
) -> Image.Image:
    width = (canvas.width - GAP * (len(crops) - 1)) // len(crops)
    height = round(width * (crops[0][3] - crops[0][1]) / (crops[0][2] - crops[0][0]))
    sheet = Image.new("RGB", (canvas.width, canvas.height + GAP + height), PAPER)
    sheet.paste(canvas, (0, 0))
    for number, (x0, y0, x1, y1) in enumerate(crops, 1):
        zoomed = image.resize((width, height), Image.Resampling.BICUBIC, box=(x0, y0, x1, y1))
        draw = ImageDraw.Draw(zoomed)
        draw_boxes(draw, marks, width / (x1 - x0), (x0, y0), line + 1)
        draw_badge(draw, (6, 6), str(number))
        sheet.paste(zoomed, ((number - 1) * (width + GAP), canvas.height + GAP))
    return sheet


def _region(
    box: np.ndarray, size: tuple[int, int], aspect: float = 4 / 3, margin: float = 2.2
) -> tuple[int, int, int, int]:
    """A window around a box, ``margin`` times as large but at least a sixth of the image wide, shifted to lie inside."""
    width, height = box[2] - box[0], box[3] - box[1]
    w = max(margin * width, margin * height * aspect, size[0] / 6)
    w = round(min(w, size[0], size[1] * aspect))
    h = min(size[1], round(w / aspect))
    x = round(min(max(0, (box[0] + box[2] - w) / 2), size[0] - w))
    y = round(min(max(0, (box[1] + box[3] - h) / 2), size[1] - h))
    return x, y, x + w, y + h


def _box(xyxy: np.ndarray) -> tuple[float, float, float, float]:
    x0, y0, x1, y1 = (float(v) for v in xyxy)
    return x0, y0, x1, y1


def _fused(panel: Panel, stem: str) -> Path:
    folder = panel.method.info.images
    if folder is None:
        raise ValueError(f"{panel.method.info.name} has no fused images and so no panel")
    return folder / f"{stem}.png"


def _wrap(text: str, font: ImageFont.FreeTypeFont, width: int) -> list[str]:
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) > width and lines[-1]:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines
