"""Metrics of the fused image's own detail: SF and AG."""

from __future__ import annotations

import math

import torch

from fusion_det.quality.comparison import Comparison, measure
from fusion_det.quality.table import Profile
from fusion_det.quality.windows import row_strips


def spatial_frequency(fused: torch.Tensor) -> torch.Tensor:
    """SF: root of the mean squared differences between neighbours along rows and along columns. Higher is better.

    SF = sqrt(⟨(F(i,j) − F(i,j−1))²⟩ + ⟨(F(i,j) − F(i−1,j))²⟩), each mean over its own number of differences. Range 0
    (constant) to 360.6. The same in every profile.

    Args:
        fused: (B,1,H,W), whole grey levels 0..255 in any dtype; at least 2×2 pixels.

    Returns:
        (B,) float64.

    Source: Eskicioglu, Fisher, IEEE Trans. Commun. 43(12), 1995.
    """
    return measure({"SF": spatial_frequency_of}, fused, profile="paper")["SF"]


def average_gradient(fused: torch.Tensor, *, profile: Profile = "paper") -> torch.Tensor:
    """AG: mean of sqrt((gx² + gy²)/2), with central differences inside and one-sided ones at the border. Higher is better.

    The sum over all H·W pixels is divided by (H−1)(W−1) in ``paper`` and ``standard``, by H·W in ``cddfuse`` and ``zoo``.
    0 for a constant image.

    Args:
        fused: (B,1,H,W), whole grey levels 0..255 in any dtype; at least 2×2 pixels.

    Returns:
        (B,) float64.

    Source: Cui et al., Opt. Commun. 341, 2015.
    """
    return measure({"AG": average_gradient_of}, fused, profile=profile)["AG"]


def spatial_frequency_of(images: Comparison) -> float:
    levels = images.images[0].float()  # differences of 8-bit levels and their squares are exact
    rows, columns = (levels.diff(dim=dim).square_() for dim in (1, 0))
    return math.sqrt(sum(float(d.sum(dtype=torch.float64)) / d.numel() for d in (rows, columns)))


def average_gradient_of(images: Comparison) -> float:
    levels = images.images[0].float()
    height, width = levels.shape
    down, right = torch.gradient(levels)  # halves of whole numbers: exact, as are their squares
    squares = down.square_().add_(right.square_())
    total = sum(float(squares[a:b].double().div_(2).sqrt_().sum()) for a, b in row_strips(height, width, levels.device))
    if images.profile in ("cddfuse", "zoo"):
        return total / (height * width)
    return total / ((height - 1) * (width - 1))
