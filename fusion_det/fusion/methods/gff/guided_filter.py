"""Box means and the guided filter, in time that does not depend on the radius.

K. He, J. Sun, X. Tang, "Guided Image Filtering", IEEE TPAMI 35(6), 2013; equation numbers are theirs.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F


def window_sum(image: torch.Tensor, radius: int, dim: int) -> torch.Tensor:
    """Sum over the pixels within ``radius`` along ``dim`` (-1 or -2) that lie inside the image; same shape.

    A difference of running sums. These grow with the image, so use float64 where small differences matter.
    """
    size = image.shape[dim]
    radius = min(radius, size - 1)
    margins = (radius + 1, radius) if dim == -1 else (0, 0, radius + 1, radius)
    sums = F.pad(image, margins).cumsum(dim)
    return sums.narrow(dim, 2 * radius + 1, size) - sums.narrow(dim, 0, size)


def box_mean(image: torch.Tensor, radius: int) -> torch.Tensor:
    """Mean over the (2·radius+1)² window around each pixel of (…,H,W), counting only pixels inside the image."""
    height, width = image.shape[-2:]
    rows = window_sum(image.new_ones(height, 1), radius, -2)
    columns = window_sum(image.new_ones(1, width), radius, -1)
    return window_sum(window_sum(image, radius, -1) / columns, radius, -2) / rows


def guided_filter(guide: torch.Tensor, image: torch.Tensor, radius: int, eps: float) -> torch.Tensor:
    """Smooth ``image`` along the structures of ``guide`` (Eqs. 5, 6 and 8).

    Args:
        guide, image: (B,1,H,W). Variances are differences of means of squares, so with an ``eps`` such as 1e-6 both
            must be float64.
        radius: of the square windows, in pixels. eps: regularisation, in units of squared guide intensity.
    """
    mean_guide, mean_image = box_mean(guide, radius), box_mean(image, radius)
    variance = box_mean(guide * guide, radius) - mean_guide * mean_guide
    covariance = box_mean(guide * image, radius) - mean_guide * mean_image
    slope = covariance / (variance.clamp_min(0) + eps)
    offset = mean_image - slope * mean_guide
    return box_mean(slope, radius) * guide + box_mean(offset, radius)
