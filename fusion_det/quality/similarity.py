"""SSIM and MS-SSIM between the fused image and each source."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F

from fusion_det.quality.comparison import Comparison, measure
from fusion_det.quality.table import Profile
from fusion_det.quality.windows import gaussian_window, halved, window_statistics

LEVEL_EXPONENTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Of MS-SSIM, finest level first (Wang, Simoncelli, Bovik 2003)."""


def ssim(ir: torch.Tensor, vi: torch.Tensor, fused: torch.Tensor, *, profile: Profile = "paper") -> torch.Tensor:
    """SSIM: the **sum** S(F,A) + S(F,B) of the structural similarities, each at most 1. Higher is better.

    S is the mean over all windows inside the image of (2μxμy+C1)(2c+C2) / ((μx²+μy²+C1)(vx+vy+C2)) with C1 = (0.01 L)²,
    C2 = (0.03 L)². Range −2 to 2.

    ``paper``, ``cddfuse``: uniform 7×7 window, sample variances, L = 2 on grey levels 0..255 (scikit-image 0.19's range of
    floats). ``zoo``: Gaussian 11×11, σ = 1.5, population variances, L = 1 on grey levels 0..255. ``standard``: as ``zoo`` with
    the L = 255 its authors meant; values are about 0.4 higher and do not compare with those fusion papers print.

    Args:
        ir, vi, fused: (B,1,H,W), whole grey levels 0..255 in any dtype; at least 7×7 pixels (11×11 in ``zoo``, ``standard``).

    Returns:
        (B,) float64.

    Source: Wang, Bovik, Sheikh, Simoncelli, IEEE TIP 13(4), 2004.
    """
    return measure({"SSIM": ssim_of}, fused, ir, vi, profile=profile)["SSIM"]


def ms_ssim(ir: torch.Tensor, vi: torch.Tensor, fused: torch.Tensor, *, profile: Profile = "paper") -> torch.Tensor:
    """MS_SSIM: the **sum** over both sources of the multi-scale structural similarity, each 0 to 1. Higher is better.

    Five levels with the Gaussian window of :func:`ssim`: the mean contrast-structure (2c+C2)/(vx+vy+C2) of levels 1..4 and
    the mean S of level 5, negative ones as 0, to the powers 0.0448, 0.2856, 0.3001, 0.2363, 0.1333, multiplied. Between
    levels 2×2 pixels are averaged; an odd side gets a row or column of zeros at its start.

    ``standard``: L = 255. The other profiles: L = 1 on grey levels 0..255, as in IVIF_ZOO.

    Args:
        ir, vi, fused: (B,1,H,W), whole grey levels 0..255 in any dtype; at least 161×161 pixels.

    Returns:
        (B,) float64.

    Source: Wang, Simoncelli, Bovik, Asilomar 2003.
    """
    return measure({"MS_SSIM": ms_ssim_of}, fused, ir, vi, profile=profile)["MS_SSIM"]


def ssim_of(images: Comparison) -> float:
    if images.profile in ("paper", "cddfuse"):
        whole, _ = _similarity(images.images, [1 / 7] * 7, dynamic_range=2, unbias=49 / 48)
    else:
        whole, _ = images.shared(finest_similarity)
    return sum(whole)


def ms_ssim_of(images: Comparison) -> float:
    levels = images.images
    whole, structure = images.shared(finest_similarity)
    products = [max(0.0, value) ** LEVEL_EXPONENTS[0] for value in structure]
    for number, exponent in enumerate(LEVEL_EXPONENTS[1:], start=2):
        height, width = levels.shape[-2:]
        levels = halved(F.pad(levels, (width % 2, 0, height % 2, 0)), (0.5, 0.5))
        whole, structure = _gaussian_similarity(levels, images)
        values = whole if number == len(LEVEL_EXPONENTS) else structure
        products = [p * max(0.0, value) ** exponent for p, value in zip(products, values, strict=True)]
    return math.fsum(products)


def finest_similarity(images: Comparison) -> tuple[list[float], list[float]]:
    """SSIM and contrast-structure at full size under the Gaussian window: what SSIM and MS-SSIM have in common."""
    return _gaussian_similarity(images.images, images)


def _gaussian_similarity(levels: torch.Tensor, images: Comparison) -> tuple[list[float], list[float]]:
    return _similarity(levels, gaussian_window(11, 1.5), dynamic_range=255 if images.profile == "standard" else 1)


def _similarity(
    levels: torch.Tensor, taps: Sequence[float], dynamic_range: float, unbias: float = 1.0
) -> tuple[list[float], list[float]]:
    """Mean SSIM and mean contrast-structure of (3,H,W) for (infrared, visible)."""
    c1, c2 = (0.01 * dynamic_range) ** 2, (0.03 * dynamic_range) ** 2
    whole, structure = torch.zeros(2, 2, dtype=torch.float64, device=levels.device)
    windows = 0
    for mean_fused, mean, variance_fused, variance, covariance in window_statistics(levels, taps):
        contrast = covariance.mul_(2 * unbias).add_(c2).div_((variance + variance_fused).mul_(unbias).add_(c2))
        luminance = (mean * mean_fused).mul_(2).add_(c1).div_(mean.square().add_(mean_fused.square()).add_(c1))
        structure += contrast.sum((-2, -1))
        whole += luminance.mul_(contrast).sum((-2, -1))
        windows += mean_fused.numel()
    return (whole / windows).tolist(), (structure / windows).tolist()
