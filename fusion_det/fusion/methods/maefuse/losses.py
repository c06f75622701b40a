"""The training losses of MAEFuse (Li et al. 2025, arXiv:2404.11016). All are tensors without dimensions.

Grey images are (B,1,H,W) floats in [0,1]; tokens are (B,N,C).
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from fusion_det.fusion.filters import extend
from fusion_det.fusion.training.terms import sobel

GRADIENT_WEIGHT, LAPLACIAN_WEIGHT = 1.0, 2.0
LEVELS = 255.0
"""Published losses are of images from 0 to 255."""
GREY = (0.2989, 0.587, 0.114)


class FusionTerms(NamedTuple):
    """Distances of edges, and of finer structure, from the stronger ones of both sources."""

    gradient: torch.Tensor
    laplacian: torch.Tensor

    @property
    def total(self) -> torch.Tensor:
        return GRADIENT_WEIGHT * self.gradient + LAPLACIAN_WEIGHT * self.laplacian


def mean_loss(tokens: torch.Tensor, ir: torch.Tensor, vi: torch.Tensor) -> torch.Tensor:
    """mean (t - (v + i)/2)² of fused tokens and of those that the encoder gave of both sources."""
    return (tokens - (vi + ir) / 2).square().mean()


def fusion_loss(fused: torch.Tensor, ir: torch.Tensor, vi: torch.Tensor) -> FusionTerms:
    """mean |max(S(vi), S(ir)) - S(f)| and mean |max(Λ(vi), Λ(ir)) - Λ(f)|, with S = |Sobel across| + |Sobel down|; no brightness.

    The larger Laplacian is the greater number, not the greater magnitude: dark spots lose against what is beside bright ones.
    """
    fused, ir, vi = (LEVELS * image for image in (fused, ir, vi))
    gradient = (torch.maximum(sobel(vi), sobel(ir)) - sobel(fused)).abs().mean()
    finer = (torch.maximum(laplacian(vi), laplacian(ir)) - laplacian(fused)).abs().mean()
    return FusionTerms(gradient, finer)


def laplacian(image: torch.Tensor) -> torch.Tensor:
    """Λ: the sum of a pixel's eight neighbours less eight times itself; zeros beyond the border."""
    padded = extend(image, (1, 1, 1, 1), "zero")
    rows = padded[..., :-2, :] + padded[..., 1:-1, :] + padded[..., 2:, :]
    return rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:] - 9 * image


def grey(image: torch.Tensor) -> torch.Tensor:
    """(B,3,H,W) RGB to (B,1,H,W), by the coefficients of the authors' training."""
    return (image * image.new_tensor(GREY).view(3, 1, 1)).sum(1, keepdim=True)
