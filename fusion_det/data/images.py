"""Reading image files: what a file must be to be usable, and its pixels as float32 in [0, 1].

One rule for every format, so that a source photograph means the same everywhere:

- 8-bit grey, RGB, palette and bilevel images are divided by 255; 16-bit grey by 65535 (the full range of the container,
  also when the camera filled only 14 bits: a stretch would make a pixel's value depend on its neighbours).
- Alpha is dropped, not composited: the colour under a transparent pixel is what the camera saw.
- EXIF orientation is applied, so width and height are those a viewer shows.
- An infrared file with three channels is grey if they are equal, otherwise its BT.601 luma is taken;
  a grey visible file becomes three equal channels. So it is with the first and second source of any task.
"""

from __future__ import annotations

import hashlib
import io
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageOps
from PIL.Image import open as open_image

from fusion_det.data.pair import Pair, PairRecord
from fusion_det.errors import DatasetError, Problem
from fusion_det.tasks import TASKS

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})

_EXIF_ORIENTATION = 0x0112
_UNREADABLE = (
    OSError,  # truncated or unknown data, permissions; includes UnidentifiedImageError
    SyntaxError,  # Pillow's word for a broken PNG chunk
    ValueError,
    EOFError,
    IndexError,
    KeyError,
    TypeError,
    OverflowError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
    ImportError,  # ultralytics replaces PIL.Image.open by one that goes looking for more codecs
)


def image_stem(name: str) -> str:
    """ "Ir/00215.png" → "00215"; a dot that does not begin an image suffix belongs to the stem."""
    base = name.strip().replace("\\", "/").rpartition("/")[2]
    stem, _, suffix = base.rpartition(".")
    return stem if stem and f".{suffix.lower()}" in IMAGE_SUFFIXES else base


@dataclass(frozen=True)
class ImageFacts:
    """What a full read of an image file established. sha256: of the file's bytes. width, height: after EXIF rotation."""

    sha256: str
    width: int
    height: int


class UnusableImageError(Exception):
    """The file is not an image this project can use; the message says why, without the file's name."""


def inspect_image(path: Path) -> ImageFacts:
    """Read and fully decode a file.

    Raises:
        UnusableImageError: missing, empty, unreadable, truncated, corrupt, or of a pixel type without a defined scale.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UnusableImageError(f"cannot be read: {error.strerror or error}") from error
    if not content:
        raise UnusableImageError("is empty (0 bytes)")
    try:
        with open_image(io.BytesIO(content)) as image:
            if image.format == "PNG":
                image.verify()  # checksums of all chunks; decoding alone does not look at those of the pixel data
        with open_image(io.BytesIO(content)) as image:
            image.load()
            _check_pixel_type(image)
            width, height = _upright_size(image)
    except _UNREADABLE as error:
        raise UnusableImageError(f"is not a readable image (corrupt or truncated?): {error}") from error
    return ImageFacts(hashlib.sha256(content).hexdigest(), width, height)


def read_samples(path: Path) -> np.ndarray:
    """Pixels as float32 in [0, 1]: (H, W) for a grey file, (H, W, 3) RGB otherwise; rules in the module's docstring.

    Raises:
        DatasetError: the file cannot be read.
    """
    try:
        with open_image(path) as image:
            image.load()
            _check_pixel_type(image)
            return _samples(ImageOps.exif_transpose(image))
    except _UNREADABLE as error:
        raise DatasetError("An image cannot be read.", [Problem(path, str(error))]) from error
    except UnusableImageError as error:
        raise DatasetError("An image cannot be read.", [Problem(path, str(error))]) from error


def read_grey(path: Path) -> np.ndarray:
    """(H, W) float32 in [0, 1]; a colour file whose channels differ is reduced to its BT.601 luma."""
    return _as_grey(read_samples(path))


def read_rgb(path: Path) -> np.ndarray:
    """(H, W, 3) float32 RGB in [0, 1]; a grey file gives three equal channels."""
    return _as_rgb(read_samples(path))


def load_pair(record: PairRecord) -> Pair:
    """Read the pixels of a pair: ``ir`` (1,H,W), ``vi`` (3,H,W), float32 in [0, 1] on the CPU; see :class:`Pair`.

    Raises:
        DatasetError: a file has become unreadable, or has another size than when the dataset was checked.
    """
    import torch

    first, vi = read_samples(record.ir), read_rgb(record.vi)
    ir = _as_grey(first)
    gives_color = TASKS[record.task].joint_chroma and not (_is_grey(first) and _is_grey(vi))
    changed = [
        Problem(file, f"is {array.shape[1]}×{array.shape[0]} now, was {record.width}×{record.height} when checked")
        for file, array in ((record.ir, ir), (record.vi, vi))
        if array.shape[:2] != (record.height, record.width)
    ]
    if changed:
        raise DatasetError(f"Pair {record.stem} has changed since it was checked.", changed)
    return Pair(
        stem=record.stem,
        ir=torch.from_numpy(ir)[None],
        vi=_planes(vi),
        boxes=record.boxes,
        condition=record.condition,
        ir_rgb=_planes(_as_rgb(first)) if gives_color else None,
    )


def image_size(path: Path) -> tuple[int, int]:
    """(width, height) from the header alone, after EXIF rotation; the pixels are not decoded.

    Raises:
        UnusableImageError: not an image.
    """
    try:
        with open_image(path) as image:
            return _upright_size(image)
    except _UNREADABLE as error:
        raise UnusableImageError(f"is not a readable image: {error}") from error


def _as_grey(samples: np.ndarray) -> np.ndarray:
    """(H,W) of what :func:`read_samples` gives."""
    if samples.ndim == 2:
        return samples
    if _is_grey(samples):
        return np.ascontiguousarray(samples[..., 0])
    return samples @ np.array([0.299, 0.587, 0.114], dtype=np.float32)


def _as_rgb(samples: np.ndarray) -> np.ndarray:
    """(H,W,3) of the same."""
    return np.repeat(samples[..., None], 3, axis=2) if samples.ndim == 2 else samples


def _is_grey(samples: np.ndarray) -> bool:
    return samples.ndim == 2 or bool((samples[..., :1] == samples[..., 1:]).all())


def _planes(rgb: np.ndarray) -> torch.Tensor:
    import torch

    return torch.from_numpy(np.ascontiguousarray(rgb.transpose(2, 0, 1)))


def _samples(image: Image.Image) -> np.ndarray:
    if image.mode == "I" or image.mode.startswith("I;16"):
        return np.asarray(image).astype(np.float32) / np.float32(65535)
    if image.mode in ("1", "L", "LA"):
        return np.asarray(image.convert("L")).astype(np.float32) / np.float32(255)
    return np.asarray(image.convert("RGB")).astype(np.float32) / np.float32(255)


def _check_pixel_type(image: Image.Image) -> None:
    if image.mode == "F":
        raise UnusableImageError("holds floating-point pixels, whose scale is unknown; save it as 8 or 16 bit")
    if image.mode == "I":  # 32-bit container: older Pillows read 16-bit PNG so, but a true 32-bit file has no scale
        low, high = _extrema(image)
        if low < 0 or high > 65535:
            raise UnusableImageError(f"holds values from {low} to {high}, beyond 16 bit; save it as 8 or 16 bit")


def _extrema(image: Image.Image) -> Sequence[float]:
    values = np.asarray(image)
    return float(values.min()), float(values.max())


def _upright_size(image: Image.Image) -> tuple[int, int]:
    rotated = image.getexif().get(_EXIF_ORIENTATION, 1) in (5, 6, 7, 8)
    return (image.height, image.width) if rotated else (image.width, image.height)
