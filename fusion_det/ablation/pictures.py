"""Pictures of an ablation: a row a pair, a column a variant, whole and where the variants differ most."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from fusion_det.ablation.summary import AblationSummary, VariantFigures
from fusion_det.ablation.tables import name_of
from fusion_det.assessment.images import grey_levels, read_pixels
from fusion_det.quality.table import Metric
from fusion_det.report.drawing import load_font
from fusion_det.report.formatting import join_words, number
from fusion_det.report.page import PagePanel, PageScene
from fusion_det.report.quality_pictures import picture_panel
from fusion_det.report.quality_summary import decimals

DETAIL = 0.28
"""Side of the enlarged square over the shorter side of its picture."""
_PANEL, _GAP, _HEAD = 300, 6, 22
"""Pixels of the sheet: width of a column, space between pictures, height of the names above them."""


@dataclass(frozen=True, eq=False)
class PairPictures:
    """All pictures of a pair. panels: (title, uint8 (H,W) or (H,W,3)), sources first. detail: left, top, side, in pixels."""

    stem: str
    panels: tuple[tuple[str, np.ndarray], ...]
    captions: tuple[str, ...]
    detail: tuple[int, int, int]


def read_pictures(summary: AblationSummary) -> tuple[list[PairPictures], str]:
    """The pictures of the pairs that the results show, by the first training of each variant; and a note where some are gone."""
    results = summary.results
    found, gone = [], []
    for stem in results.shown:
        ir, vi = results.sources[stem]
        panels, captions = [], []
        for title, file in (("Infrared", ir), ("Visible", vi)):
            if file.is_file():
                panels.append((title, read_pixels(file)))
                captions.append("source")
        fused = []
        for v in summary.variants:
            trial = next((t for t in v.trials if t.images is not None), None)
            if trial is None or trial.images is None:
                continue
            image = trial.images / f"{stem}.png"
            if not image.is_file():
                gone.append(f"{stem} by {name_of(v.info)}")
                continue
            fused.append(read_pixels(image))
            panels.append((v.info.label, fused[-1]))
            captions.append(_caption(summary, v, stem))
        if fused:
            found.append(PairPictures(stem, tuple(panels), tuple(captions), most_different(fused)))
    note = f"No longer where they were: {join_words(gone)}; run the command again." if gone else ""
    return found, note


def most_different(images: Sequence[np.ndarray]) -> tuple[int, int, int]:
    """(left, top, side) of the square in which images of one size differ most: largest mean standard deviation over them."""
    grey = np.stack([grey_levels(image) for image in images]).astype(np.float64)
    spread = grey.std(0)
    height, width = spread.shape
    side = max(1, round(DETAIL * min(height, width)))
    sums = np.pad(spread.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    boxes = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
    top, left = np.unravel_index(int(boxes.argmax()), boxes.shape)
    return int(left), int(top), side


def scenes(pictures: Sequence[PairPictures], budget: int) -> list[PageScene]:
    """Two rows a pair for the page, with at most ``budget`` bytes of pictures."""
    share = budget // max(1, sum(2 * len(p.panels) for p in pictures))
    found = []
    for pair in pictures:
        left, top, side = pair.detail
        whole, detail = [], []
        for (title, pixels), caption in zip(pair.panels, pair.captions, strict=True):
            whole.append(picture_panel(title, caption, Image.fromarray(pixels), share))
            square = Image.fromarray(pixels[top : top + side, left : left + side])
            size = max(side, 240)
            detail.append(picture_panel(title, "detail", square.resize((size, size), Image.Resampling.LANCZOS), share))
        where = f"{side} pixels from ({left}, {top}), enlarged: where the variants differ most."
        found += [_scene(pair.stem, "", whole), _scene(f"{pair.stem}, detail", where, detail)]
    return found


def _scene(stem: str, caption: str, panels: Sequence[PagePanel]) -> PageScene:
    return PageScene(stem, "", "", caption, tuple(panels))


def sheet(pictures: Sequence[PairPictures], stamp: str) -> bytes:
    """PNG for print: a row a pair and below it the detail, a column a source or variant, names above."""
    titles = list(dict.fromkeys(title for pair in pictures for title, _ in pair.panels))
    rows = [row for pair in pictures for row in (_whole_row(pair), _detail_row(pair))]
    heights = [max(image.height for image in row.values()) for row in rows]
    width = len(titles) * (_PANEL + _GAP) - _GAP
    top = _HEAD * (1 + bool(stamp))
    canvas = Image.new("RGB", (width, top + sum(h + _GAP for h in heights) - _GAP), (255, 255, 255))
    draw = ImageDraw.Draw(canvas)
    font = load_font(16)
    if stamp:
        draw.text((2, 1), stamp, fill=(179, 38, 30), font=font)
    for column, title in enumerate(titles):
        # Pillow's own font has no arrows.
        draw.text((column * (_PANEL + _GAP) + 2, top - _HEAD + 1), title.replace("→", "to"), fill=(0, 0, 0), font=font)
    for row, height in zip(rows, heights, strict=True):
        for title, image in row.items():
            canvas.paste(image, (titles.index(title) * (_PANEL + _GAP), top))
        top += height + _GAP
    buffer = io.BytesIO()
    canvas.save(buffer, "PNG")
    return buffer.getvalue()


def _whole_row(pair: PairPictures) -> Mapping[str, Image.Image]:
    row = {}
    for title, pixels in pair.panels:
        image = Image.fromarray(pixels).convert("RGB")
        factor = _PANEL / image.width
        image = image.resize((_PANEL, round(image.height * factor)), Image.Resampling.LANCZOS)
        left, top, side = (value * factor for value in pair.detail)
        ImageDraw.Draw(image).rectangle((left, top, left + side, top + side), outline=(240, 150, 220), width=2)
        row[title] = image
    return row


def _detail_row(pair: PairPictures) -> Mapping[str, Image.Image]:
    left, top, side = pair.detail
    return {
        title: Image.fromarray(pixels[top : top + side, left : left + side])
        .convert("RGB")
        .resize((_PANEL, _PANEL), Image.Resampling.LANCZOS)
        for title, pixels in pair.panels
    }


def _caption(summary: AblationSummary, v: VariantFigures, stem: str) -> str:
    """A figure of this picture: of the last metric that the first training of the variant has one of."""
    metric: Metric | None = next((m for m in reversed(summary.defined)), None)
    if metric is None or not v.values:
        return ""
    value = float(v.values[metric.name][0, summary.stems.index(stem)])
    shown = value if np.isfinite(value) else None
    return f"{metric.name} {number(shown, decimals(metric, summary.results.profile))}"
