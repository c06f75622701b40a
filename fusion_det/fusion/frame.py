"""What the runner does to the pixels around a method: colour, padding, exact size, range, 8 bits.

The same for every method, so that a difference between two rows of a table is a difference between two methods.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch.nn import functional

from fusion_det.data.color import luma, rgb_to_ycbcr, ycbcr_to_rgb
from fusion_det.errors import MethodError
from fusion_det.fusion.filters import extend
from fusion_det.fusion.method import FusionMethod, MethodCard, padded_size

Color = Literal["ycbcr", "gray"]


def padding_margins(card: MethodCard, height: int, width: int) -> tuple[int, int, int, int]:
    """(left, right, top, bottom) pixels by which the runner extends an image of this size for the method."""
    horizontal, vertical = padded_size(width, card) - width, padded_size(height, card) - height
    left, top = (horizontal // 2, vertical // 2) if card.padding_side == "both" else (0, 0)
    return left, horizontal - left, top, vertical - top


def pad_for(card: MethodCard, image: torch.Tensor) -> torch.Tensor:
    """Pad (B,C,H,W) to a size the method accepts, in the way its card says."""
    height, width = image.shape[-2:]
    return extend(image, padding_margins(card, height, width), card.padding)


def fuse_frames(
    method: FusionMethod,
    ir: torch.Tensor,
    vi: torch.Tensor,
    color: Color,
    stems: Sequence[str] = (),
    ir_rgb: torch.Tensor | None = None,
) -> torch.Tensor:
    """Fuse a batch of pairs into 8-bit images of exactly their size.

    A method that fuses luma gets the BT.601 luma of ``vi``; with ``color="ycbcr"`` its result is joined with the chroma
    of ``vi``. A method that fuses RGB gets and returns colour. ``color="gray"`` gives the fused luma, or the luma of the
    fused colour image. With ``ir_rgb`` both sources give colour: the luma of any method's result is joined with
    :func:`joint_chroma`. Values outside [0, 1] are clipped after the colour conversion; then 255·x is rounded half up.

    Args:
        ir: (B,1,H,W), vi: (B,3,H,W), float in [0,1], on the method's device. stems: of the batch, for error messages.
        ir_rgb: (B,3,H,W), the first source in colour, where it too gives some.

    Returns:
        uint8 (B,H,W,3) RGB for "ycbcr", (B,H,W) for "gray".

    Raises:
        MethodError: the method returned another shape than its card declares, not floats, or values that are not finite.
    """
    card = method.card
    height, width = vi.shape[-2:]
    visible = luma(vi) if card.fuses == "luma" else vi
    padded_ir, padded_vi = pad_for(card, ir), pad_for(card, visible)
    dtype = method.dtype or vi.dtype
    fused = method.fuse(padded_ir.to(dtype), padded_vi.to(dtype))
    check_fused(fused, tuple(padded_vi.shape), card, stems)
    left, _, top, _ = padding_margins(card, height, width)
    fused = fused[..., top : top + height, left : left + width].to(vi.dtype)
    if card.fuses == "rgb" and (color == "gray" or ir_rgb is not None):
        fused = luma(fused)
    if color == "ycbcr" and (card.fuses == "luma" or ir_rgb is not None):
        fused = colored(fused, vi, ir_rgb)
    eight_bit = to_eight_bit(fused)
    return eight_bit[:, 0] if color == "gray" else eight_bit.permute(0, 2, 3, 1).contiguous()


def colored(fused: torch.Tensor, vi: torch.Tensor, ir_rgb: torch.Tensor | None = None) -> torch.Tensor:
    """(B,3,H,W) RGB of fused luma (B,1,H,W) with the chroma of ``vi``, or of both sources; not clipped."""
    chroma = rgb_to_ycbcr(vi)[:, 1:] if ir_rgb is None else joint_chroma(ir_rgb, vi, fused)
    return ycbcr_to_rgb(torch.cat((fused, chroma), dim=1))


def joint_chroma(first: torch.Tensor, second: torch.Tensor, fused: torch.Tensor) -> torch.Tensor:
    """(B,2,H,W) Cb and Cr for the luma (B,1,H,W) that was fused from two colour images (B,3,H,W).

    A longer exposure multiplies luma and chroma alike, so it is their ratio that the sources agree on: the fused luma times the
    mean ratio. A source weighs the more, the more detail it has around the pixel (blur has spilt its colour over edges) and the
    brighter it is without being clipped (dark colours are coarse, burnt ones wrong): energy of the luma's Laplacian times the
    square of brightness and headroom.

    Usual is a mean of the chroma weighted by its distance from grey (Prabhakar et al., DeepFuse, ICCV 2017). On nine road scenes
    whose right chroma is known it is wrong by 0.53 of 255 where parts were blurred in turn and by 2.80 where both exposures were
    made of one picture; this by 0.18 and 1.02.
    """
    weights: list[torch.Tensor] = []
    ratios: list[torch.Tensor] = []
    for image in (first, second):
        y, chroma = rgb_to_ycbcr(image).split((1, 2), dim=1)
        headroom = ((1 - image.amax(1, keepdim=True)) / _KNEE).clamp(_CLIPPED, 1)
        weights.append((_detail(y) + _FLAT) * (y * headroom + _BLACK).square())
        ratios.append((chroma - 0.5) / (y + _DARK))
    share = weights[0] / (weights[0] + weights[1])
    return 0.5 + torch.lerp(ratios[1], ratios[0], share) * (fused + _DARK)


_REACH = 5
"""Pixels each way over which detail is averaged."""
_FLAT = 1e-8
"""Energy far below that of one grey level."""
_KNEE, _CLIPPED = 0.12, 0.05
"""Distance to white below which a channel may be clipped, and what a clipped source still weighs."""
_BLACK, _DARK = 0.01, 0.02
"""What keeps weights of black pixels above 0, and ratios of nearly black ones small."""


def _detail(plane: torch.Tensor) -> torch.Tensor:
    """Energy of the difference between a pixel and the mean of its 3 × 3 pixels, averaged over a square; (B,1,H,W) kept."""
    near = functional.avg_pool2d(extend(plane, (1, 1, 1, 1), "reflect"), 3, 1)
    energy = (plane - near).square()
    return functional.avg_pool2d(extend(energy, (_REACH,) * 4, "reflect"), 2 * _REACH + 1, 1)


def to_eight_bit(image: torch.Tensor) -> torch.Tensor:
    """Clip [0,1] floats and round 255·x half up to uint8; exact for every value that came from 8 bits."""
    return image.mul(255).add_(0.5).floor_().clamp_(0, 255).to(torch.uint8)


def check_fused(fused: torch.Tensor, expected: tuple[int, ...], card: MethodCard, stems: Sequence[str]) -> None:
    """Raise MethodError unless ``fused`` is a finite floating-point tensor of the ``expected`` shape."""
    batch = f" for {', '.join(stems)}" if stems else ""
    if not isinstance(fused, torch.Tensor) or not fused.is_floating_point() or tuple(fused.shape) != expected:
        got = f"{fused.dtype} {tuple(fused.shape)}" if isinstance(fused, torch.Tensor) else type(fused).__name__
        raise MethodError(
            f"fusion method {card.name} returned {got}{batch}; its card (fuses={card.fuses!r}) promises floating point "
            f"{expected}"
        )
    # A sum is finite only if all of its terms are, and is several times cheaper to look at.
    if torch.isfinite(fused.sum(dtype=torch.float32)):
        return
    finite = torch.isfinite(fused).flatten(1).all(1).tolist()
    if not all(finite):
        bad = [stem for stem, ok in zip(stems, finite, strict=True) if not ok] if stems else []
        raise MethodError(
            f"fusion method {card.name} returned NaN or infinite values{' for ' + ', '.join(bad) if bad else ''}; "
            "its weights or its arithmetic (a reduced precision?) are broken"
        )
