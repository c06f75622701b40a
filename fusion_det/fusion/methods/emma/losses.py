"""The training losses of EMMA (Zhao et al. 2024, arXiv:2305.11443).

Images are (B,1,H,W) floats in [0,1]; losses are tensors without dimensions.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from fusion_det.fusion.training.terms import slope_distance

EQUIVARIANCE = 0.1
"""Weight of the equivariance term."""


class FusionTerms(NamedTuple):
    """infrared, visible: how far what the sensing networks see in the fused image is from the sources. equivariance: how far the
    fused image of transformed sources is from the transformed fused image.
    """

    infrared: torch.Tensor
    visible: torch.Tensor
    equivariance: torch.Tensor

    @property
    def total(self) -> torch.Tensor:
        return self.infrared + self.visible + EQUIVARIANCE * self.equivariance


def image_distance(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """ℓ(x,y) = mean |x - y| + mean |∇x - ∇y|; see :func:`~fusion_det.fusion.training.terms.slope_distance`."""
    return (x - y).abs().mean() + slope_distance(x, y)


def fusion_loss(
    ir: torch.Tensor,
    vi: torch.Tensor,
    sensed_ir: torch.Tensor,
    sensed_vi: torch.Tensor,
    transformed: torch.Tensor,
    fused_again: torch.Tensor,
) -> FusionTerms:
    """The loss of the fusion network F; gradients flow through everything.

    Args:
        sensed_ir, sensed_vi: Ai(F(ir,vi)) and Av(F(ir,vi)), the sensing networks being frozen and in evaluation mode.
        transformed: xt = T(F(ir,vi)), (10·B,1,H,W).
        fused_again: F(Ai(xt), Av(xt)).
    """
    return FusionTerms(
        image_distance(sensed_ir, ir), image_distance(sensed_vi, vi), image_distance(transformed, fused_again)
    )
