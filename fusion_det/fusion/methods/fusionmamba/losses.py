"""The training loss of FusionMamba (Xie et al. 2024, arXiv:2404.09498).

Images are (B,1,H,W) floats in [0,1], H and W at least 16; losses are tensors without dimensions.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F

from fusion_det.fusion.training.terms import C1, C2, SIGMA, WINDOW, sobel

STRUCTURE, INTENSITY, EDGES = 10.0, 10.0, 1.0
"""Weights of the terms."""
LEVEL_WEIGHTS = 0.0448, 0.2856, 0.3001, 0.2363, 0.1333
MIN_SIZE = 2 ** (len(LEVEL_WEIGHTS) - 1)


class FusionTerms(NamedTuple):
    """Not weighted. structure: how unlike the sources. intensity: the squared distance from the brighter source. edges: the
    distance from the stronger edge.
    """

    structure: torch.Tensor
    intensity: torch.Tensor
    edges: torch.Tensor

    @property
    def total(self) -> torch.Tensor:
        return STRUCTURE * self.structure + INTENSITY * self.intensity + EDGES * self.edges


def fusion_loss(ir: torch.Tensor, vi: torch.Tensor, fused: torch.Tensor) -> FusionTerms:
    """The loss of a batch."""
    return FusionTerms(
        1 - (similarity(fused, vi) + similarity(fused, ir)) / 2,
        (torch.maximum(vi, ir) - fused).square().mean(),
        (torch.maximum(sobel(vi), sobel(ir)) - sobel(fused)).abs().mean(),
    )


def similarity(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Multi-scale SSIM as the authors compute it, in [0,1].

    Every level's mean SSIM and contrast-structure term is moved to [0,1]. The last level's SSIM is a factor of the product over
    the levels before it, so it enters to the fourth power.
    """
    contrasts = []
    for level in range(len(LEVEL_WEIGHTS)):
        if level:
            x, y = F.avg_pool2d(x, 2), F.avg_pool2d(y, 2)
        ssim, contrast = ssim_and_contrast(x, y)
        contrasts.append((contrast + 1) / 2)
    product = ((ssim + 1) / 2) ** (LEVEL_WEIGHTS[-1] * (len(LEVEL_WEIGHTS) - 1))
    for weight, contrast in zip(LEVEL_WEIGHTS, contrasts[:-1], strict=False):
        product = product * contrast**weight
    return product


def ssim_and_contrast(x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Means of SSIM and of its factor of contrast and structure, where the window fits into the images."""
    window = min(WINDOW, *x.shape[-2:])
    offsets = torch.arange(window, device=x.device, dtype=x.dtype) - window // 2
    taps = torch.exp(-offsets.square() / (2 * SIGMA**2))
    taps = taps / taps.sum()
    maps = torch.cat((x, y, x * x, y * y, x * y))
    means = F.conv2d(F.conv2d(maps, taps.view(1, 1, 1, -1)), taps.view(1, 1, -1, 1))
    mean_x, mean_y, xx, yy, xy = means.chunk(5)
    products, squares = mean_x * mean_y, mean_x.square() + mean_y.square()
    contrast = (2 * (xy - products) + C2) / (xx + yy - squares + C2)
    return ((2 * products + C1) / (squares + C1) * contrast).mean(), contrast.mean()
