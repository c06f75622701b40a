"""Feature maps of many channels as pictures, before and after two modalities interact (Fig. 14 of the S4Fusion paper).

How C channels become one: each position is projected onto one direction of the channels, their first principal component,
about the map's mean. Its sign is the one that goes with the source image: bright in the source, bright in the map. The cells
along the border, where padding shows, have no say in it. (The magnitude over the channels, the usual choice, shows less:
after a layer norm it is nearly the same everywhere.) Colours, viridis, which the colour-blind read too, span the 1st to the
99th percentile.

The two maps of a modality are drawn each by itself ("own": its own direction and range of colours, for comparing what is
seen), or together ("shared": one direction and one range, for comparing how strong it is). The shared direction belongs to
the sum of both covariances, each divided by its total variance: what comes after is often several times larger, and would
decide alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image, ImageDraw

from fusion_det.report.drawing import load_font

Scale = Literal["own", "shared"]
Margins = tuple[int, int, int, int]
"""(left, right, top, bottom) pixels of padding around the image that a map's grid spans beside it."""

PERCENTILES = (1, 99)
PANEL_WIDTH = 640
GAP = 8
_SAMPLES = 256


@dataclass(frozen=True, eq=False)
class ComponentMap:
    """A feature map as one number a position.

    values: (h,w) float32, deviations from the map's mean. low, high: the range of the colours.
    share: of the map's variance that the direction shows, in [0,1].
    """

    values: np.ndarray
    low: float
    high: float
    share: float


def component_maps(
    before: np.ndarray, after: np.ndarray, source: np.ndarray, margins: Margins = (0, 0, 0, 0), scale: Scale = "own"
) -> tuple[ComponentMap, ComponentMap]:
    """Project the feature maps of one modality as the module describes.

    Args:
        before, after: (h,w,C) float32, of one grid. source: (H,W) the modality's image, for the sign.
    """
    inner = _inner(before.shape[:2], source.shape, margins)
    seen = _to_grid(source, before.shape[:2], margins)[inner]
    centred = [_about_mean(x, inner) for x in (before, after)]
    covariances = [_covariance(x[inner]) for x in centred]
    if scale == "own":
        directions = [_leading(covariance) for covariance in covariances]
    else:
        directions = [_leading(covariances[0] + covariances[1])] * 2
    maps = [(x @ direction).astype(np.float32) for x, direction in zip(centred, directions, strict=True)]
    agreement = [_correlation(x[inner], seen) for x in maps]
    signs = [-1 if (value if scale == "own" else sum(agreement)) < 0 else 1 for value in agreement]
    maps = [sign * x for sign, x in zip(signs, maps, strict=True)]
    pools = [x[inner] for x in maps]
    ranges = [np.percentile(np.stack(pools) if scale == "shared" else pool, PERCENTILES) for pool in pools]
    first, second = (
        ComponentMap(x, float(low), float(high), float(direction @ covariance @ direction))
        for x, (low, high), direction, covariance in zip(maps, ranges, directions, covariances, strict=True)
    )
    return first, second


def colour(component: ComponentMap, size: tuple[int, int], margins: Margins = (0, 0, 0, 0)) -> Image.Image:
    """The map over its image: padding cut off, enlarged bilinearly to ``size`` (width, height), then coloured."""
    from matplotlib import colormaps

    width, height = size
    left, right, top, bottom = margins
    rows, columns = component.values.shape
    x, y = columns / (left + width + right), rows / (top + height + bottom)  # cells a pixel
    box = (left * x, top * y, columns - right * x, rows - bottom * y)
    values = np.asarray(Image.fromarray(component.values).resize(size, Image.Resampling.BILINEAR, box=box))
    span = component.high - component.low
    unit = np.clip((values - component.low) / span, 0, 1) if span > 0 else np.full_like(values, 0.5)
    table = np.round(colormaps["viridis"](np.linspace(0, 1, _SAMPLES))[:, :3] * 255).astype(np.uint8)
    return Image.fromarray(table[np.round(unit * (_SAMPLES - 1)).astype(np.uint8)])


@dataclass(frozen=True, eq=False)
class PanelItem:
    """One picture of a panel. caption: below it, on the left; note: on the right, smaller. low, high: of its colours."""

    image: Image.Image
    caption: str
    note: str = ""
    low: float | None = None
    high: float | None = None


def panel(items: Sequence[PanelItem], lines: Sequence[str], columns: int = 2) -> Image.Image:
    """Pictures of one size in rows, lettered as in the paper, colour bars below those that have a range, text below all."""
    font, small = load_font(22), load_font(17)
    width = PANEL_WIDTH
    height = max(1, round(items[0].image.height * width / items[0].image.width))
    cell, foot = height + 62, GAP + 25 * len(lines)
    rows = -(-len(items) // columns)
    sheet = Image.new("RGB", (columns * width + (columns - 1) * GAP, rows * cell + foot), (255, 255, 255))
    draw = ImageDraw.Draw(sheet)
    for i, item in enumerate(items):
        x, y = i % columns * (width + GAP), i // columns * cell
        enlarged = item.image.width < width
        how = Image.Resampling.BICUBIC if enlarged else Image.Resampling.LANCZOS
        sheet.paste(item.image.convert("RGB").resize((width, height), how), (x, y))
        draw.text((x + 2, y + height + 5), f"({chr(ord('a') + i)}) {item.caption}", fill=(0, 0, 0), font=font)
        draw.text((x + width - 2, y + height + 9), item.note, fill=(70, 70, 70), font=small, anchor="ra")
        if item.low is not None and item.high is not None:
            _draw_bar(sheet, draw, (x, y + height + 36), width, item.low, item.high)
    for i, text in enumerate(lines):
        draw.text((2, rows * cell + GAP + 25 * i - 4), text, fill=(40, 40, 40), font=small)
    return sheet


def _draw_bar(
    sheet: Image.Image, draw: ImageDraw.ImageDraw, at: tuple[int, int], width: int, low: float, high: float
) -> None:
    font = load_font(15)
    x, y = at
    ramp = ComponentMap(np.linspace(0, 1, _SAMPLES, dtype=np.float32)[None], 0.0, 1.0, 1.0)
    side = 74
    sheet.paste(colour(ramp, (width - 2 * side, 10)), (x + side, y + 3))
    draw.text((x + side - 8, y + 8), _number(low), fill=(70, 70, 70), font=font, anchor="rm")
    draw.text((x + width - side + 8, y + 8), _number(high), fill=(70, 70, 70), font=font, anchor="lm")


def _number(value: float) -> str:
    return f"{value:.3g}"  # with a hyphen: the font of the pictures has no minus sign


def _inner(grid: tuple[int, ...], size: tuple[int, ...], margins: Margins) -> tuple[slice, slice]:
    """The cells that neither touch the padding nor a cell that does; all, where nothing else is left."""
    left, right, top, bottom = margins
    slices = []
    for cells, pixels, before, after in zip(grid, size, (top, left), (bottom, right), strict=True):
        pitch = (before + pixels + after) / cells
        first, last = int(np.ceil(before / pitch)) + 1, cells - int(np.ceil(after / pitch)) - 1
        slices.append(slice(first, last) if last - first >= 2 else slice(0, cells))
    return slices[0], slices[1]


def _about_mean(x: np.ndarray, inner: tuple[slice, slice]) -> np.ndarray:
    return x - x[inner].mean((0, 1), dtype=np.float64).astype(np.float32)


def _covariance(x: np.ndarray) -> np.ndarray:
    """(C,C) float64 of (h,w,C) about its mean, as a share of the total variance; zeros for a map that is the same everywhere."""
    flat = x.reshape(-1, x.shape[-1])
    covariance = (flat.T @ flat).astype(np.float64)
    total = float(np.trace(covariance))
    return covariance / total if total > 0 else covariance


def _leading(covariance: np.ndarray) -> np.ndarray:
    return np.linalg.eigh(covariance).eigenvectors[:, -1].astype(np.float32)


def _to_grid(source: np.ndarray, grid: tuple[int, ...], margins: Margins) -> np.ndarray:
    """The mean brightness of the image below each cell."""
    left, right, top, bottom = margins
    padded = np.pad(source.astype(np.float32), ((top, bottom), (left, right)), mode="edge")
    return np.asarray(Image.fromarray(padded).resize((grid[1], grid[0]), Image.Resampling.BOX))


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a - a.mean(), b - b.mean()
    norm = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum()) / norm if norm > 0 else 0.0
