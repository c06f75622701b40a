"""The training loss of MambaDFuse (Li et al. 2024, arXiv:2404.08406).

Images are (B,1,H,W) floats in [0,1]; losses are tensors without dimensions.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from fusion_det.fusion.training.terms import gaussian_means, sobel, ssim_of_means

INTENSITY, EDGES, STRUCTURE = 20.0, 20.0, 10.0
"""Weights of the terms."""


class FusionTerms(NamedTuple):
    """Weighted. intensity: the distance from the brighter source. edges: from the stronger edge. structure: of both sources'."""

    intensity: torch.Tensor
    edges: torch.Tensor
    structure: torch.Tensor

    @property
    def total(self) -> torch.Tensor:
        return self.intensity + self.edges + self.structure


def fusion_loss(ir: torch.Tensor, vi: torch.Tensor, fused: torch.Tensor) -> FusionTerms:
    """The loss of a batch.

    How much the structure of a source counts is its share of all edges in the whole batch.
    """
    edges_ir, edges_vi = sobel(ir), sobel(vi)
    total = edges_ir.mean() + edges_vi.mean()
    similarity = (edges_ir.mean() * mean_ssim(ir, fused) + edges_vi.mean() * mean_ssim(vi, fused)) / total
    return FusionTerms(
        INTENSITY * (fused - torch.maximum(ir, vi)).abs().mean(),
        EDGES * (sobel(fused) - torch.maximum(edges_ir, edges_vi)).abs().mean(),
        STRUCTURE * (1 - similarity),
    )


def mean_ssim(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Over all pixels; there is black beyond the borders."""
    maps = torch.cat((x, y, x * x, y * y, x * y), dim=1)
    return ssim_of_means(*gaussian_means(maps, border="zero").chunk(5, dim=1)).mean()
