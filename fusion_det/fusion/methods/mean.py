"""Average of the two images: what every fusion should beat."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fusion_det.fusion.method import FusionMethod, MethodCard
from fusion_det.fusion.registry import register_method

if TYPE_CHECKING:
    import torch

CARD = MethodCard(
    name="mean",
    label="Mean",
    abbreviation="Mean",
    title="Average of infrared and visible luma",
    family="arithmetic",
    fuses="luma",
    order=1000,
)


@register_method(CARD)
class Mean(FusionMethod):
    """``(ir + vi) / 2``."""

    card = CARD

    def fuse(self, ir: torch.Tensor, vi: torch.Tensor) -> torch.Tensor:
        return 0.5 * (ir + vi)
