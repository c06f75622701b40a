"""What several methods and the runner do to images: continue them beyond their borders, and convolve one axis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F

Border = Literal["reflect", "replicate", "zero"]


def extend(image: torch.Tensor, margins: tuple[int, int, int, int], border: Border) -> torch.Tensor:
    """Extend (…,H,W) by ``margins`` = (left, right, top, bottom) pixels.

    Args:
        border: "reflect" mirrors about the outermost pixel without repeating it (dcb|abcd|cba), again and again if the
            margin is wider than the image, which torch's own padding refuses; "replicate" repeats the outermost pixel;
            "zero" puts zeros.
    """
    if not any(margins):
        return image
    left, right, top, bottom = margins
    if border == "zero":
        return F.pad(image, (left, right, top, bottom))
    height, width = image.shape[-2:]
    if top or bottom:
        image = image.index_select(-2, _source(height, top, bottom, border, image.device))
    if left or right:
        image = image.index_select(-1, _source(width, left, right, border, image.device))
    return image


def _source(size: int, before: int, after: int, border: Border, device: torch.device) -> torch.Tensor:
    """Which of ``size`` pixels stands at each position from ``-before`` to ``size + after - 1``."""
    position = torch.arange(-before, size + after, device=device)
    if border == "replicate" or size == 1:
        return position.clamp(0, size - 1)
    phase = position.remainder(2 * (size - 1))
    return torch.minimum(phase, 2 * (size - 1) - phase)


def convolve(image: torch.Tensor, taps: Sequence[float], dim: int, stride: int = 1) -> torch.Tensor:
    """Correlate (…,H,W) with ``taps`` along ``dim``, inside the image only, keeping every ``stride``-th result.

    The size along ``dim`` shrinks to ``(size - len(taps)) // stride + 1``. A sum of shifted images: for one channel and
    a short kernel several times faster on a CPU than ``conv2d``.
    """
    size = (image.shape[dim] - len(taps)) // stride + 1
    span = (size - 1) * stride + 1

    def shifted(offset: int) -> torch.Tensor:
        part = image.narrow(dim, offset, span)
        if stride == 1:
            return part
        return part[..., ::stride] if dim == -1 else part[..., ::stride, :]

    total = shifted(0) * taps[0]
    for offset, tap in enumerate(taps[1:], start=1):
        total.add_(shifted(offset), alpha=tap)
    return total
