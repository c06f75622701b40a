"""Two-scale fusion with guided filtering.

S. Li, X. Kang, J. Hu, "Image Fusion With Guided Filtering", IEEE TIP 22(7), 2013; equation numbers are theirs.
"""

from __future__ import annotations

import math

import torch

from fusion_det.fusion.filters import convolve, extend
from fusion_det.fusion.methods.gff.guided_filter import box_mean, guided_filter

BASE_RADIUS = 15  # the average filter of Eq. 1 is 31 × 31
SALIENCY_RADIUS, SALIENCY_SIGMA = 5, 5.0  # Eq. 4
R1, EPS1 = 45, 0.3  # guided filter for the weights of the base, Eq. 6
R2, EPS2 = 7, 1e-6  # for those of the details, Eq. 7


def saliency(image: torch.Tensor) -> torch.Tensor:
    """Local average of the magnitude of the 3 × 3 Laplacian (Eqs. 3 and 4), borders replicated; (B,1,H,W) → same."""
    padded = extend(image, (1, 1, 1, 1), "replicate")
    inner_rows, inner_columns = padded[..., 1:-1, :], padded[..., 1:-1]
    laplacian = convolve(inner_rows, (1, -2, 1), -1) + convolve(inner_columns, (1, -2, 1), -2)
    r = SALIENCY_RADIUS
    gaussian = [math.exp(-0.5 * (i / SALIENCY_SIGMA) ** 2) for i in range(-r, r + 1)]
    gaussian = [tap / sum(gaussian) for tap in gaussian]
    magnitude = extend(laplacian.abs(), (r, r, r, r), "replicate")
    return convolve(convolve(magnitude, gaussian, -2), gaussian, -1)


def _normalise(weights: torch.Tensor) -> torch.Tensor:
    """Make (2,…) weights nonnegative with a sum of one; equal where both vanish."""
    weights = weights.clamp(0, 1)
    total = weights.sum(0, keepdim=True)
    return torch.where(total > 1e-6, weights / total.clamp_min(1e-6), 0.5)


def fuse_two_scale(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Fuse two (B,1,H,W) images in [0,1]; the result is of their dtype and device.

    Computed in float64: with eps2 = 1e-6 the variances of flat regions would drown in float32 rounding.
    """
    # Apple's GPUs have no float64.
    device = torch.device("cpu") if a.device.type == "mps" else a.device
    sources = torch.stack([a, b]).to(device, torch.float64)  # (2,B,1,H,W)
    flat = sources.flatten(0, 1)
    base = box_mean(flat, BASE_RADIUS)  # Eq. 1
    detail = flat - base  # Eq. 2
    salient = saliency(flat).view_as(sources)
    # Eq. 5; where both are equally salient both weigh, and normalising makes that an average.
    chosen = (salient == salient.amax(0, keepdim=True)).to(flat.dtype).flatten(0, 1)
    weights_base = _normalise(guided_filter(flat, chosen, R1, EPS1).view_as(sources))  # Eq. 6
    weights_detail = _normalise(guided_filter(flat, chosen, R2, EPS2).view_as(sources))  # Eq. 7
    fused = weights_base * base.view_as(sources) + weights_detail * detail.view_as(sources)  # Eqs. 8 and 9
    return fused.sum(0).to(a.device, a.dtype)  # Eq. 10
