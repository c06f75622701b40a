"""The visible image alone: the second control of Table VI."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fusion_det.fusion.method import FusionMethod, MethodCard
from fusion_det.fusion.registry import register_method

if TYPE_CHECKING:
    import torch

CARD = MethodCard(
    name="vi",
    label="Visible",
    abbreviation="VI",
    title="Visible image, unfused",
    family="control",
    fuses="rgb",
    table_vi=79.3,
    order=20,
    notes="Control: the visible image, pixel for pixel.",
)


@register_method(CARD)
class Visible(FusionMethod):
    """Returns the visible image; written by the runner, it has exactly the source's 8-bit pixels."""

    card = CARD

    def fuse(self, ir: torch.Tensor, vi: torch.Tensor) -> torch.Tensor:
        return vi
