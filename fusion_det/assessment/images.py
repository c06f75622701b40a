"""Saved images as the metrics want them: whole grey levels 0..255 (metrics/spec §2), and how they were saved.

Papers measure the 8-bit image on disk, read back. Nothing here rounds, stretches, resizes or crops: an image that is not
8-bit, or not of its pair's size, is refused.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from PIL import Image
from PIL.Image import open as open_image

from fusion_det.data.color import KB, KG, KR
from fusion_det.data.images import UnusableImageError, image_size, read_samples
from fusion_det.data.pair import PairRecord
from fusion_det.errors import Problem, QualityError

Saving = Literal["lossless", "jpeg-75"]
"""How the fused image is saved before it is measured. ``jpeg-75`` (4:2:0) is a habit of published numbers, see
:data:`fusion_det.assessment.published.TABLES`; it changes SF by 6 % on RoadScene and has no place in a comparison of methods."""

SAVINGS: tuple[Saving, ...] = get_args(Saving)


def read_pixels(file: Path) -> np.ndarray:
    """uint8 (H,W) grey or (H,W,3) RGB of an 8-bit file. DatasetError if it cannot be read."""
    return np.rint(read_samples(file) * 255).astype(np.uint8)


def saved_as(pixels: np.ndarray, saving: Saving) -> np.ndarray:
    """The same pixels after this way of saving; shape and dtype kept."""
    if saving == "lossless":
        return pixels
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=75, subsampling="4:2:0")
    with open_image(buffer) as image:
        return np.asarray(image).copy()


def grey_levels(pixels: np.ndarray) -> np.ndarray:
    """(H,W) uint8; of colour the BT.601 luma, rounded to the nearest integer (equal channels give the channel itself)."""
    if pixels.ndim == 2:
        return pixels
    return np.rint(pixels.astype(np.float64) @ np.array([KR, KG, KB])).astype(np.uint8)


def check_sources(records: Sequence[PairRecord]) -> None:
    """QualityError that names every infrared and visible file that is not an 8-bit image."""
    problems = [
        Problem(file, text)
        for record in records
        for file in (record.ir, record.vi)
        if (text := image_problem(file, (record.width, record.height)))
    ]
    _refuse("The sources cannot be measured against", problems, "Quality is defined on 8-bit images of one size.")


def check_fused(name: str, folder: Path, records: Sequence[PairRecord]) -> dict[str, Path]:
    """Stem → fused image of every pair, from the headers of the files alone.

    Raises:
        QualityError: with every image that is missing, unreadable, of another size than its pair, or not 8-bit.
    """
    from fusion_det.data.layout import list_images

    problems: list[Problem] = []
    files = list_images(folder, problems)
    missing = [record.stem for record in records if record.stem not in files]
    problems += [Problem(folder, f"has no image {stem}.*") for stem in missing]
    for record in records:
        if record.stem in files and (text := image_problem(files[record.stem], (record.width, record.height))):
            problems.append(Problem(files[record.stem], text))
    cure = (
        "Every pair needs one fused image named after it (STEM.png), 8-bit, of exactly its size; fuse the missing ones "
        "(fusion-det fuse), or measure fewer pairs (--limit, or folders with only those that are there)."
    )
    _refuse(f"The fused images of {name} cannot be measured", problems, cure)
    return {record.stem: files[record.stem] for record in records}


def image_problem(file: Path, size: tuple[int, int]) -> str:
    """Why a file cannot be measured beside images of this (width, height); "" if it can."""
    try:
        found = image_size(file)
    except UnusableImageError as error:
        return str(error)
    if found != size:
        return f"is {found[0]}×{found[1]}, but its pair is {size[0]}×{size[1]}; metrics compare pixel with pixel"
    with open_image(file) as image:
        # Pillow calls a 16-bit colour file "RGB" and drops its lower bytes; only the decoder's raw mode tells.
        deep = image.mode in ("I", "F") or image.mode.startswith("I;16") or any(";16" in str(t[3]) for t in image.tile)
        return f"is not 8-bit ({image.mode}); save it with 8 bits, as the metrics are defined" if deep else ""


def _refuse(what: str, problems: Sequence[Problem], cure: str) -> None:
    if not problems:
        return
    shown = [f"  - {problem}" for problem in problems[:20]]
    shown += [f"  … and {len(problems) - 20} more"] if len(problems) > 20 else []
    raise QualityError("\n".join([f"{what}: {len(problems)} of the images are no use.", *shown, cure]))
