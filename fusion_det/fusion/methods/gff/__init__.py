"""Guided-filter fusion (Li, Kang & Hu, TIP 2013)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fusion_det.fusion.method import FusionMethod, MethodCard
from fusion_det.fusion.registry import register_method

if TYPE_CHECKING:
    import torch

CARD = MethodCard(
    name="gff",
    label="Guided filtering",
    abbreviation="GFF",
    title="Image Fusion With Guided Filtering",
    family="multi-scale",
    fuses="luma",
    authors="S. Li, X. Kang, J. Hu",
    venue="IEEE Transactions on Image Processing 22(7)",
    year=2013,
    order=1030,
    notes="Published parameters (r1 = 45, eps1 = 0.3, r2 = 7, eps2 = 1e-6), on luma. Weights are clipped to [0, 1] before "
    "they are normalised, and windows shrink at the border.",
)


@register_method(CARD, sources=("fusion_det.fusion.filters",))
class GuidedFilterFusion(FusionMethod):
    """Two scales, weighted by saliency refined with guided filters; see ``two_scale.fuse_two_scale``."""

    card = CARD

    def fuse(self, ir: torch.Tensor, vi: torch.Tensor) -> torch.Tensor:
        from fusion_det.fusion.methods.gff.two_scale import fuse_two_scale

        return fuse_two_scale(ir, vi)
