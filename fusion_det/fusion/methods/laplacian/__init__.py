"""Laplacian-pyramid fusion (Burt & Adelson 1983)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fusion_det.fusion.method import FusionMethod, MethodCard
from fusion_det.fusion.registry import register_method

if TYPE_CHECKING:
    import torch

CARD = MethodCard(
    name="laplacian",
    label="Laplacian pyramid",
    abbreviation="LP",
    title="The Laplacian Pyramid as a Compact Image Code",
    family="multi-scale",
    fuses="luma",
    authors="P. J. Burt, E. H. Adelson",
    venue="IEEE Transactions on Communications 31(4)",
    year=1983,
    order=1020,
    notes="Generating kernel with a = 0.4; at every scale the detail of larger magnitude, of the base the average. "
    "As many levels as leave the base's shorter side at 16 pixels or more.",
)


@register_method(CARD, sources=("fusion_det.fusion.filters",))
class LaplacianPyramid(FusionMethod):
    """Keeps the stronger detail at every scale; see :func:`fusion_det.fusion.methods.laplacian.pyramid.fuse_pyramids`."""

    card = CARD

    def fuse(self, ir: torch.Tensor, vi: torch.Tensor) -> torch.Tensor:
        from fusion_det.fusion.methods.laplacian.pyramid import fuse_pyramids, levels_for

        return fuse_pyramids(ir, vi, levels_for(ir.shape[-2], ir.shape[-1]))
