"""The training loss of DeFusion: photographs with parts torn out of them are to be taken apart, and made whole again.

Images are (B,3,H,W) floats in [0,1], masks (B,1,H,W) of zeros and ones. ``step`` counts the evaluations of the loss from 0 on, as
the published schedule does.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from fusion_det.fusion.methods.defusion.network import Parts

MASKED_UNTIL, GROWN_AT, DAMPED_FROM = 3_000, 7_000, 40_000
FUSED_FROM, RAMP_FROM, RAMP_STEPS = 17_000, 10_000, 14_000


@dataclass(frozen=True)
class DecompositionLoss:
    """The loss of a batch (a sum over its samples), and its terms (means over them); tensors without dimensions."""

    total: torch.Tensor
    common: torch.Tensor
    unique_1: torch.Tensor
    unique_2: torch.Tensor
    fusion: torch.Tensor


def decomposition_loss(
    parts: Parts, clean: torch.Tensor, mask_1: torch.Tensor, mask_2: torch.Tensor, step: int
) -> DecompositionLoss:
    """Distances between what the network made of two damaged copies of an image, and what it should have.

    Args:
        parts: with ``unique_ir`` and ``unique_vi`` of the first and the second copy.
        clean: the image. mask_1, mask_2: 1 where a copy shows it; at every pixel one of them does.
    """
    common = mask_1 * mask_2
    wanted = (
        (parts.common, common),
        (parts.unique_ir, mask_1 * (1 - common)),
        (parts.unique_vi, mask_2 * (1 - common)),
    )
    outside = outside_weight(step)
    # A part counts where it should be and, later on, a little beside it.
    terms = [_distance(part * (outside + (1 - outside) * mask), mask * clean) for part, mask in wanted]
    terms.append(fusion_weight(step) * _distance(parts.fused, clean))
    return DecompositionLoss(sum(term.sum() for term in terms), *(term.mean() for term in terms))  # type: ignore[arg-type]


def outside_weight(step: int) -> float:
    """How much of what a part shows beside its mask counts."""
    if step < MASKED_UNTIL:
        return 0.0
    weight = 0.15 * (min(step, GROWN_AT) / GROWN_AT) ** 2
    return 0.1 * weight if step > DAMPED_FROM else weight


def fusion_weight(step: int) -> float:
    """Weight of the fused image's own term."""
    if step < FUSED_FROM:
        return 0.0
    return min((step - RAMP_FROM) / RAMP_STEPS, 1.0) ** 2


def _distance(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Mean absolute difference of each sample, (B,)."""
    return (x - y).abs().mean((1, 2, 3))
