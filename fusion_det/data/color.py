"""The one luma/chroma conversion of this project: full-range BT.601, as in JFIF (JPEG).

    Y  =       Kr R + Kg G + Kb B               Kr = 0.299, Kg = 0.587, Kb = 0.114
    Cb = 1/2 + (B - Y) / (2 (1 - Kb))
    Cr = 1/2 + (R - Y) / (2 (1 - Kr))

The JFIF text prints the matrices rounded to five decimals, whose product is off the identity by about 1e-5; here
both directions are computed from Kr and Kb alone, so the inverse is exact up to floating-point rounding (about 1e-7
in float32). Nothing is clipped: Y, Cb, Cr of an RGB image in [0, 1] lie in [0, 1] by construction, but an edited
luma may lead outside the RGB cube, and the caller decides what happens there (the runner clips when it rounds to
8 bits).

Sources: ITU-R BT.601-7, section 2.5.1 (coefficients); JPEG File Interchange Format 1.02, page 3 (full range).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

KR, KG, KB = 0.299, 0.587, 0.114
"""Luma weights of BT.601; they sum to one, so a grey pixel keeps its value and has Cb = Cr = 1/2."""


def luma(rgb: torch.Tensor) -> torch.Tensor:
    """BT.601 luma Y: (B,3,H,W) RGB → (B,1,H,W), same floating dtype and device, [0,1] → [0,1]."""
    _check_three_channels(rgb, "luma")
    return KR * rgb[:, 0:1] + KG * rgb[:, 1:2] + KB * rgb[:, 2:3]


def rgb_to_ycbcr(rgb: torch.Tensor) -> torch.Tensor:
    """(B,3,H,W) RGB in [0,1] → (B,3,H,W) Y, Cb, Cr in [0,1], chroma centred at 1/2; dtype and device kept.

    Raises:
        ValueError: not a (B,3,H,W) floating-point tensor.
    """
    y = luma(rgb)
    cb = 0.5 + (rgb[:, 2:3] - y) / (2 * (1 - KB))
    cr = 0.5 + (rgb[:, 0:1] - y) / (2 * (1 - KR))
    return _stack(y, cb, cr)


def ycbcr_to_rgb(ycbcr: torch.Tensor) -> torch.Tensor:
    """Exact inverse of :func:`rgb_to_ycbcr`, without clipping: an edited Y may give values outside [0,1].

    Raises:
        ValueError: not a (B,3,H,W) floating-point tensor.
    """
    _check_three_channels(ycbcr, "ycbcr_to_rgb")
    y, cb, cr = ycbcr[:, 0:1], ycbcr[:, 1:2] - 0.5, ycbcr[:, 2:3] - 0.5
    red = y + 2 * (1 - KR) * cr
    blue = y + 2 * (1 - KB) * cb
    green = (y - KR * red - KB * blue) / KG
    return _stack(red, green, blue)


def _stack(first: torch.Tensor, second: torch.Tensor, third: torch.Tensor) -> torch.Tensor:
    import torch

    return torch.cat((first, second, third), dim=1)


def _check_three_channels(image: torch.Tensor, function: str) -> None:
    if image.ndim != 4 or image.shape[1] != 3 or not image.is_floating_point():
        raise ValueError(f"{function} wants a floating-point (B,3,H,W) tensor, got {image.dtype} {tuple(image.shape)}")
