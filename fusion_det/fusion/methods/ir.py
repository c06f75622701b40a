"""The infrared image alone: the first control of Table VI."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fusion_det.fusion.method import FusionMethod, MethodCard
from fusion_det.fusion.registry import register_method

if TYPE_CHECKING:
    import torch

CARD = MethodCard(
    name="ir",
    label="Infrared",
    abbreviation="IR",
    title="Infrared image, unfused",
    family="control",
    fuses="rgb",
    table_vi=73.8,
    order=10,
    notes="Control: the infrared image, grey in three channels.",
)


@register_method(CARD)
class Infrared(FusionMethod):
    """Returns the infrared image in three equal channels."""

    card = CARD

    def fuse(self, ir: torch.Tensor, vi: torch.Tensor) -> torch.Tensor:
        return ir.expand_as(vi)
