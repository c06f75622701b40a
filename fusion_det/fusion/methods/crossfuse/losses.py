"""The training losses of CrossFuse (Li & Wu 2024, arXiv:2406.10581), as published code has them.

Images are (B,1,H,W) floats in 0 … 255; losses are tensors without dimensions.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F

from fusion_det.fusion.filters import convolve

STRUCTURE = 10_000.0
"""Weight of the structural term of reconstruction."""
EDGES = 10.0
"""Weight of the gradient term of fusion."""
LEVEL_WEIGHTS = 0.0448, 0.2856, 0.3001, 0.2363, 0.1333
"""Of MS-SSIM (Wang et al. 2003)."""
WINDOW, SIGMA = 11, 1.5
NEIGHBOURHOOD = 11


class RebuiltTerms(NamedTuple):
    """Of a rebuilt image. pixels: mean squared error. structure: 1 - MS-SSIM."""

    pixels: torch.Tensor
    structure: torch.Tensor

    @property
    def total(self) -> torch.Tensor:
        return self.pixels + STRUCTURE * self.structure


class FusionTerms(NamedTuple):
    """Of a fused image. pixels: distance from the brighter source. edges: from the stronger edge."""

    pixels: torch.Tensor
    edges: torch.Tensor

    @property
    def total(self) -> torch.Tensor:
        return self.pixels + EDGES * self.edges


def rebuilding_loss(rebuilt: torch.Tensor, image: torch.Tensor) -> RebuiltTerms:
    """How far a rebuilt image is from what it shall be."""
    return RebuiltTerms(F.mse_loss(rebuilt, image), 1 - multi_scale_ssim(rebuilt, image))


def fusion_loss(fused: torch.Tensor, ir: torch.Tensor, vi: torch.Tensor) -> FusionTerms:
    """Pixels shall be those of the source that is brighter around them (11 × 11), edges the stronger of both."""
    brighter = torch.where(_neighbourhood(ir) > _neighbourhood(vi), ir, vi)
    edges = torch.maximum(ridges(ir), ridges(vi))
    return FusionTerms(F.mse_loss(fused, brighter), F.mse_loss(ridges(fused), edges))


def ridges(image: torch.Tensor) -> torch.Tensor:
    """The Laplacian where it is positive: how much darker than its four neighbours a pixel is. Zeros beyond the border."""
    x = F.pad(image, (1, 1, 1, 1))
    around = x[..., :-2, 1:-1] + x[..., 2:, 1:-1] + x[..., 1:-1, :-2] + x[..., 1:-1, 2:]
    return (around - 4 * image).relu()


def multi_scale_ssim(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """MS-SSIM over five scales as the published code has it.

    What is usually Π cs_l^w_l · ssim_5^w_5 over four scales l is here Π (cs_l^w_l · ssim_5^w_5), and both are mapped from [-1,1]
    to [0,1] before. Windows lie inside the images, and are as small as these. The range of values is guessed from ``x``.
    """
    contrasts = []
    similarity = x.new_zeros(())
    for level in range(len(LEVEL_WEIGHTS)):
        if level:
            x, y = F.avg_pool2d(x, 2), F.avg_pool2d(y, 2)
        similarity, contrast = ((value + 1) / 2 for value in _ssim(x, y))
        contrasts.append(contrast)
    last = similarity ** LEVEL_WEIGHTS[-1]
    factors = [contrast**weight * last for contrast, weight in zip(contrasts[:-1], LEVEL_WEIGHTS[:-1], strict=True)]
    return torch.stack(factors).prod()


def _ssim(x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Means of SSIM and of its factor for contrast and structure."""
    with torch.no_grad():
        span = (255.0 if x.max() > 128 else 1.0) + (1.0 if x.min() < -0.5 else 0.0)
    c1, c2 = (0.01 * span) ** 2, (0.03 * span) ** 2
    maps = torch.cat((x, y, x * x, y * y, x * y), dim=1)
    taps = _taps(min(WINDOW, *x.shape[-2:]))
    mean_x, mean_y, xx, yy, xy = _separable(maps, taps).chunk(5, dim=1)
    products, squares = mean_x * mean_y, mean_x.square() + mean_y.square()
    contrast = (2 * (xy - products) + c2) / (xx + yy - squares + c2)
    return ((2 * products + c1) / (squares + c1) * contrast).mean(), contrast.mean()


def _taps(size: int) -> torch.Tensor:
    """Of the Gaussian; for an even size its middle is the second of the two."""
    taps = torch.exp(-(torch.arange(size) - size // 2).square() / (2 * SIGMA**2))
    return taps / taps.sum()


def _separable(maps: torch.Tensor, taps: torch.Tensor) -> torch.Tensor:
    """Correlation with taps over rows and over columns, inside the maps only."""
    flat = maps.flatten(0, 1)[:, None]
    taps = taps.to(maps)
    means = F.conv2d(F.conv2d(flat, taps.view(1, 1, 1, -1)), taps.view(1, 1, -1, 1))
    return means.unflatten(0, maps.shape[:2])[:, :, 0]


def _neighbourhood(image: torch.Tensor) -> torch.Tensor:
    """Sums over 11 × 11 pixels; zeros beyond the border."""
    half, ones = NEIGHBOURHOOD // 2, (1.0,) * NEIGHBOURHOOD
    return convolve(convolve(F.pad(image, (half,) * 4), ones, -1), ones, -2)
