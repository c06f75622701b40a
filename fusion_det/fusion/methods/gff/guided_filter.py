"""Box means and the guided filter, in time that does not depend on the radius.

K. He, J. Sun, X. Tang, "Guided Image Filtering", IEEE TPAMI 35(6), 2013; equation numbers are theirs.
"""

from __future__ import annotations

import torch


def window_sum(image: torch.Tensor, radius: int, dim: int) -> torch.Tensor:
    """Sum over the pixels within ``radius`` along ``dim`` that lie inside the image; a new tensor of the same shape.

    A difference of running sums. These grow with the image, so use float64 where small differences matter.
    """
    size = image.shape[dim]
    reach = min(radius, size - 1)
    sums = image.cumsum(dim)
    # Upper ends of the windows: sums[i + reach], and the total for windows that end beyond the border.
    windows = torch.empty_like(sums)
    windows.narrow(dim, 0, size - reach).copy_(sums.narrow(dim, reach, size - reach))
    if reach:
        windows.narrow(dim, size - reach, reach).copy_(
            sums.narrow(dim, size - 1, 1).expand_as(sums.narrow(dim, 0, reach))
        )
    # Less what lies before them: sums[i - reach - 1].
    begun = size - reach - 1
    if begun:
        windows.narrow(dim, reach + 1, begun).sub_(sums.narrow(dim, 0, begun))
    return windows


def inverse_counts(size: int, radius: int, like: torch.Tensor) -> torch.Tensor:
    """1 / (pixels inside the image within ``radius``), for each of ``size`` places; of the dtype and device of ``like``."""
    place = torch.arange(size, device=like.device)
    count = (place + radius).clamp_max(size - 1) - (place - radius).clamp_min(0) + 1
    return count.to(like.dtype).reciprocal()


def box_mean(image: torch.Tensor, radius: int) -> torch.Tensor:
    """Mean over the (2·radius+1)² window around each pixel of (…,H,W), counting only pixels inside the image."""
    height, width = image.shape[-2:]
    rows, columns = inverse_counts(height, radius, image), inverse_counts(width, radius, image)
    return window_sum(window_sum(image, radius, -1), radius, -2).mul_(rows[:, None] * columns)


def guided_filter(guide: torch.Tensor, image: torch.Tensor, radius: int, eps: float) -> torch.Tensor:
    """Smooth ``image`` along the structures of ``guide`` (Eqs. 5, 6 and 8).

    Args:
        guide, image: (B,1,H,W). Variances are differences of means of squares, so with an ``eps`` such as 1e-6 both
            must be float64.
        radius: of the square windows, in pixels. eps: regularisation, in units of squared guide intensity.
    """
    mean_guide, mean_image = box_mean(guide, radius), box_mean(image, radius)
    variance = box_mean(guide * guide, radius).addcmul_(mean_guide, mean_guide, value=-1).clamp_min_(0)
    covariance = box_mean(guide * image, radius).addcmul_(mean_guide, mean_image, value=-1)
    slope = covariance.div_(variance.add_(eps))
    offset = mean_image.addcmul_(slope, mean_guide, value=-1)
    return box_mean(offset, radius).addcmul_(box_mean(slope, radius), guide)
