"""The brighter of the two images at every pixel."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fusion_det.fusion.method import FusionMethod, MethodCard
from fusion_det.fusion.registry import register_method

if TYPE_CHECKING:
    import torch

CARD = MethodCard(
    name="max",
    label="Maximum",
    abbreviation="Max",
    title="Pixelwise maximum of infrared and visible luma",
    family="arithmetic",
    fuses="luma",
    order=1010,
)


@register_method(CARD)
class Maximum(FusionMethod):
    """``max(ir, vi)``."""

    card = CARD

    def fuse(self, ir: torch.Tensor, vi: torch.Tensor) -> torch.Tensor:
        return ir.maximum(vi)
