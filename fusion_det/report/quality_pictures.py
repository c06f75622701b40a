"""Fused images beside their sources: what a figure means is best seen. The worst and the best by every metric, and some pairs
as every method fuses them."""

from __future__ import annotations

import io
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.Image import open as open_image

from fusion_det.data.layout import list_images
from fusion_det.pipeline.quality_results import QualitySet
from fusion_det.quality.table import Metric
from fusion_det.report.formatting import number
from fusion_det.report.page import PagePanel, PageScene
from fusion_det.report.quality_summary import MethodQuality, QualitySummary, decimals
from fusion_det.tasks import TASKS

logger = logging.getLogger(__name__)

ENCODINGS = ((480, 72), (360, 62), (280, 55), (200, 50))
"""(width in pixels, WebP quality), best first."""


@dataclass(frozen=True)
class Extreme:
    """The worst or best (fusion, image) by a metric, and the fusion that did worst or best on the same image, for contrast.

    digits: decimals of the values in print.
    """

    metric: Metric
    kind: str
    stem: str
    method: MethodQuality
    value: float
    other: MethodQuality | None
    other_value: float | None
    digits: int


def extremes(summary: QualitySummary) -> list[Extreme]:
    """For every metric the worst and the best image over all fusions; none without fusions."""
    found = []
    for metric in summary.defined:
        fusions = summary.fusions
        if not fusions:
            return []
        sign = 1.0 if metric.higher_is_better else -1.0
        goodness = sign * np.stack([m.values[metric.name] for m in fusions])
        for kind, best in (("worst", False), ("best", True)):
            filled = np.where(np.isfinite(goodness), goodness, -np.inf if best else np.inf)
            at = int(filled.argmax() if best else filled.argmin())
            i, k = divmod(at, goodness.shape[1])
            column = np.where(np.isfinite(goodness[:, k]), goodness[:, k], np.inf if best else -np.inf)
            j = int(column.argmin() if best else column.argmax())
            other = fusions[j] if j != i else None
            found.append(
                Extreme(
                    metric,
                    kind,
                    summary.stems[k],
                    fusions[i],
                    sign * float(goodness[i, k]),
                    other,
                    sign * float(goodness[j, k]) if other else None,
                    decimals(metric, summary.rows.profile),
                )
            )
    return found


def picture_scenes(quality_set: QualitySet, summary: QualitySummary, budget: int) -> tuple[list[PageScene], str]:
    """Scenes of the extremes with at most ``budget`` bytes of pictures, and a note where pictures are gone."""
    folders = {m.name: list_images(m.images, []) for m in quality_set.methods if m.images is not None}
    chosen = extremes(summary)
    share = budget // max(1, 4 * len(chosen))
    scenes, gone = [], []
    for item in chosen:
        files = _files(item, quality_set, folders)
        if any(file is None or not file.is_file() for _, _, file in files):
            gone.append(item.stem)
            continue
        panels = [_panel(title, caption, file, share) for title, caption, file in files if file is not None]
        heading = f"{item.metric.name} {item.metric.arrow}, {item.kind}: {item.stem}"
        scenes.append(PageScene(heading, "", "", _caption(item), tuple(panels)))
    note = (
        f"Images of {', '.join(sorted(set(gone)))} are no longer where they were; run the command again."
        if gone
        else ""
    )
    if note:
        logger.warning("%s", note)
    return scenes, note


def _sources(quality_set: QualitySet, stem: str) -> list[tuple[str, str, Path]]:
    """(title, caption, file) of a pair's two images, none if they are unknown: "Infrared" and "Visible", or "MRI" and "PET"."""
    task = TASKS[quality_set.task]
    files = quality_set.sources.get(stem, ())
    return [(task.called(place, file.parent.name), "source", file) for place, file in enumerate(files)]


def shown_scenes(quality_set: QualitySet, budget: int) -> list[PageScene]:
    """A scene for every pair that is shown: its sources, then every method in table order, in at most ``budget`` bytes."""
    scenes = []
    share = budget // max(1, sum(2 + len(fused) for fused in quality_set.shown.values()))
    for stem, fused in quality_set.shown.items():
        files = _sources(quality_set, stem)
        files += [(m.label, "fused", fused[m.name]) for m in quality_set.methods if m.name in fused]
        panels = tuple(_panel(title, caption, file, share) for title, caption, file in files if file.is_file())
        scenes.append(PageScene(stem, "", "", "Both sources, and the image as every method fuses it.", panels))
    return scenes


def _files(
    item: Extreme, quality_set: QualitySet, folders: Mapping[str, Mapping[str, Path]]
) -> Sequence[tuple[str, str, Path | None]]:
    """(title, caption, file) of every panel."""
    panels: list[tuple[str, str, Path | None]] = [*_sources(quality_set, item.stem)] or [("", "source", None)]
    for method, value in ((item.method, item.value), (item.other, item.other_value)):
        if method is not None:
            info = method.method.info
            file = folders.get(info.name, {}).get(item.stem)
            panels.append((info.label, f"{item.metric.name} {number(value, item.digits)}", file))
    return panels


def _caption(item: Extreme) -> str:
    text = (
        f"{item.metric.title}: the {item.kind} of all fusions and images is {number(item.value, item.digits)}, by "
        f"{item.method.method.info.label}"
    )
    if item.other is None:
        return f"{text}."
    side = "lowest-ranked" if item.kind == "best" else "best"
    figure = number(item.other_value, item.digits)
    return f"{text}; the {side} fusion of the same image, {item.other.method.info.label}, has {figure}."


def _panel(title: str, caption: str, file: Path, share: int) -> PagePanel:
    with open_image(file) as opened:
        image = opened.convert("RGB") if opened.mode not in ("L", "RGB") else opened.copy()
    return picture_panel(title, caption, image, share)


def picture_panel(title: str, caption: str, image: Image.Image, share: int) -> PagePanel:
    """A grey or RGB picture for the page, as good as it can be in ``share`` bytes."""
    data, size = b"", (0, 0)
    for width, quality in ENCODINGS:
        small = image
        if image.width > width:
            small = image.resize((width, round(image.height * width / image.width)), Image.Resampling.LANCZOS)
        buffer = io.BytesIO()
        small.save(buffer, "WEBP", quality=quality, method=3)
        data, size = buffer.getvalue(), small.size
        if len(data) <= share:
            break
    return PagePanel(title, title, caption, data, size)
