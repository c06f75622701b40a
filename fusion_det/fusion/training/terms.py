"""What training losses of several methods are made of: edges, structural similarity, correlation. Pure functions of images.

Papers say "gradient" and "SSIM" and mean many things; each function says which of them it is. Images are (B,C,H,W) floats,
channels are taken by themselves, and means are over everything unless said.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from fusion_det.fusion.filters import Border, extend

WINDOW, SIGMA = 11, 1.5
"""Of the Gaussian under which SSIM is computed (Wang et al. 2004)."""

C1, C2 = 0.01**2, 0.03**2
"""Constants of SSIM for images in [0,1]."""


def sobel_responses(x: torch.Tensor, border: Border = "zero") -> tuple[torch.Tensor, torch.Tensor]:
    """Sobel's filters over columns and over rows, (…,H,W) each: eight times the slope of a ramp.

    Args:
        border: what lies beyond the image's border.
    """
    padded = extend(x, (1, 1, 1, 1), border)
    rows = padded[..., :-2, :] + 2 * padded[..., 1:-1, :] + padded[..., 2:, :]  # (…,H,W+2)
    columns = padded[..., :-2] + 2 * padded[..., 1:-1] + padded[..., 2:]  # (…,H+2,W)
    return rows[..., 2:] - rows[..., :-2], columns[..., 2:, :] - columns[..., :-2, :]


def sobel(x: torch.Tensor) -> torch.Tensor:
    """|gx ∗ x| + |gy ∗ x| of every channel, (…,H,W) to the same; zeros beyond the border."""
    across, down = sobel_responses(x)
    return across.abs() + down.abs()


def slope_distance(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """mean |∇x - ∇y| over both directions together; ∇ is Sobel's filters over 8, the border's pixels being repeated beyond it."""
    across, down = sobel_responses(x - y, "replicate")
    return (across.abs().mean() + down.abs().mean()) / 16


def gaussian_means(
    maps: torch.Tensor, window: int = WINDOW, sigma: float = SIGMA, border: Border = "reflect"
) -> torch.Tensor:
    """Gaussian means around every pixel, (B,C,H,W) to the same.

    Args:
        border: what lies beyond the images' borders. With "reflect" H and W are at least ``window // 2 + 1``.
    """
    half = window // 2
    offsets = torch.arange(window, device=maps.device, dtype=maps.dtype) - half
    taps = torch.exp(-offsets.square() / (2 * sigma**2))
    taps = taps / taps.sum()
    mode = "constant" if border == "zero" else border
    flat = F.pad(maps.flatten(0, 1)[:, None], (half, half, half, half), mode=mode)
    return F.conv2d(F.conv2d(flat, taps.view(1, 1, 1, -1)), taps.view(1, 1, -1, 1)).view(maps.shape)


def ssim_of_means(
    mean_x: torch.Tensor, mean_y: torch.Tensor, xx: torch.Tensor, yy: torch.Tensor, xy: torch.Tensor
) -> torch.Tensor:
    """SSIM at every pixel from the local means of x, y, x², y² and xy, for images in [0,1].

    1e-12 is added to the denominator, as in kornia.
    """
    products, squares = mean_x * mean_y, mean_x.square() + mean_y.square()
    variances, covariance = xx + yy - squares, xy - products
    numerator = (2 * products + C1) * (2 * covariance + C2)
    return numerator / ((squares + C1) * (variances + C2) + 1e-12)


def ssim_map(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """SSIM of images in [0,1] at every pixel, (B,C,H,W), by :func:`gaussian_means`."""
    means = gaussian_means(torch.cat((x, y, x * x, y * y, x * y), dim=1)).chunk(5, dim=1)
    return ssim_of_means(*means)


def correlation(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Pearson's correlation over the pixels of every channel of every image, in [-1,1], averaged.

    A channel without contrast counts as 0, and has no gradient.
    """
    x, y = (maps - maps.mean((-2, -1), keepdim=True) for maps in (x, y))
    lengths = torch.linalg.vector_norm(x, dim=(-2, -1)) * torch.linalg.vector_norm(y, dim=(-2, -1))
    return ((x * y).sum((-2, -1)) / (lengths + torch.finfo(torch.float32).eps)).clamp(-1, 1).mean()
