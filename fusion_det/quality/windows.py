"""Statistics within a sliding window, for VIF and SSIM, and the strips in which large maps are worked through."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch

from fusion_det.fusion.filters import convolve

_STRIP_PIXELS = {"cpu": 2**15}
"""A CPU is fastest while the maps of a strip fit its caches; other devices want few, large launches."""
_STRIP_PIXELS_ELSEWHERE = 2**22


def gaussian_window(size: int, sigma: float) -> list[float]:
    """``size`` weights of a Gaussian, one a pixel, about the middle one, summing to 1."""
    return normalised_gaussian([offset - (size - 1) / 2 for offset in range(size)], sigma)


def normalised_gaussian(positions: Sequence[float], sigma: float) -> list[float]:
    weights = [math.exp(-(position**2) / (2 * sigma**2)) for position in positions]
    total = math.fsum(weights)
    return [weight / total for weight in weights]


def row_strips(height: int, width: int, device: torch.device) -> Iterator[tuple[int, int]]:
    """(first, past the last) row of strips that cover ``height`` rows."""
    pixels = _STRIP_PIXELS.get(device.type, _STRIP_PIXELS_ELSEWHERE)
    rows = max(16, pixels // width)
    for top in range(0, height, rows):
        yield top, min(top + rows, height)


class WindowStatistics(NamedTuple):
    """Population moments in every full window: of the fused image (1,h,w), of the sources and between both (2,h,w)."""

    mean_fused: torch.Tensor
    mean: torch.Tensor
    variance_fused: torch.Tensor
    variance: torch.Tensor
    covariance: torch.Tensor


def window_statistics(images: torch.Tensor, taps: Sequence[float]) -> Iterator[WindowStatistics]:
    """Moments of (3,H,W) (fused, infrared, visible) under the separable window ``taps``, strip after strip.

    Windows lie inside the image. A variance is a difference of means of squares: float64, since float32 leaves nothing of
    a variance of 1 on a bright ground, and not clipped, so noise of about 1e-11 may make it negative.
    """
    reach = len(taps) - 1
    height, width = images.shape[-2:]
    for top, bottom in row_strips(height - reach, width, images.device):
        block = images[:, top : bottom + reach]
        products = torch.empty((8, *block.shape[1:]), dtype=torch.float64, device=block.device)
        levels = products[:3].copy_(block)
        torch.mul(levels, levels, out=products[3:6])
        torch.mul(levels[1:], levels[:1], out=products[6:])
        means = convolve(convolve(products, taps, -2), taps, -1)
        mean_fused, mean = means[:1], means[1:3]
        yield WindowStatistics(
            mean_fused,
            mean,
            means[3:4].addcmul_(mean_fused, mean_fused, value=-1),
            means[4:6].addcmul_(mean, mean, value=-1),
            means[6:].addcmul_(mean, mean_fused, value=-1),
        )


def halved(images: torch.Tensor, taps: Sequence[float]) -> torch.Tensor:
    """(…,H,W) under the separable window ``taps``, inside the image, every second row and column of it: float64."""
    height, width = images.shape[-2:]
    strips = [
        convolve(convolve(images[..., 2 * top : 2 * bottom + len(taps) - 2, :].double(), taps, -2, 2), taps, -1, 2)
        for top, bottom in row_strips((height - len(taps)) // 2 + 1, width, images.device)
    ]
    return torch.cat(strips, dim=-2)
