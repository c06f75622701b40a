"""The training losses of CDDFuse (Zhao et al. 2023, arXiv:2211.14461): of reconstruction first, of fusion then.

Images are (B,1,H,W) floats in [0,1]; losses are tensors without dimensions.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from fusion_det.fusion.methods.cddfuse.network import Features
from fusion_det.fusion.training.terms import correlation, slope_distance, sobel, ssim_map

STRUCTURE = 5.0
DECOMPOSITION = 2.0
SLOPES = 5.0
EDGES = 10.0
"""Weights of the terms."""


class ReconstructionTerms(NamedTuple):
    """Of phase I. visible, infrared: R of both modalities. decomposition: D. slopes: G of the visible image."""

    visible: torch.Tensor
    infrared: torch.Tensor
    decomposition: torch.Tensor
    slopes: torch.Tensor

    @property
    def total(self) -> torch.Tensor:
        return self.visible + self.infrared + DECOMPOSITION * self.decomposition + SLOPES * self.slopes


class FusionTerms(NamedTuple):
    """Of phase II. intensity: the distance from the brighter source. edges: from the stronger edge. decomposition: D."""

    intensity: torch.Tensor
    edges: torch.Tensor
    decomposition: torch.Tensor

    @property
    def total(self) -> torch.Tensor:
        return self.intensity + EDGES * self.edges + DECOMPOSITION * self.decomposition


def reconstruction_loss(
    ir: torch.Tensor,
    vi: torch.Tensor,
    rebuilt_ir: torch.Tensor,
    rebuilt_vi: torch.Tensor,
    from_ir: Features,
    from_vi: Features,
) -> ReconstructionTerms:
    """Phase I: what the decoder makes of each image's own features, with that image as the skip, against the image."""
    return ReconstructionTerms(
        reconstruction(vi, rebuilt_vi),
        reconstruction(ir, rebuilt_ir),
        decomposition(from_ir, from_vi),
        slope_distance(vi, rebuilt_vi),
    )


def fusion_loss(
    ir: torch.Tensor, vi: torch.Tensor, fused: torch.Tensor, from_ir: Features, from_vi: Features
) -> FusionTerms:
    """Phase II: the fused image against the brighter pixel and the stronger edge of both sources."""
    return FusionTerms(
        (fused - torch.maximum(ir, vi)).abs().mean(),
        (sobel(fused) - torch.maximum(sobel(ir), sobel(vi))).abs().mean(),
        decomposition(from_ir, from_vi),
    )


def reconstruction(image: torch.Tensor, rebuilt: torch.Tensor) -> torch.Tensor:
    """R = 5 · Dssim + mean squared error."""
    return STRUCTURE * structural_dissimilarity(image, rebuilt) + (image - rebuilt).square().mean()


def structural_dissimilarity(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Dssim = mean of (1 - SSIM) / 2, where a pixel of negative SSIM counts as one of none."""
    return (1 - ssim_map(x, y)).clamp(0, 1).mean() / 2


def decomposition(from_ir: Features, from_vi: Features) -> torch.Tensor:
    """D = c(detail)² / (1.01 + c(base)), c the correlation of both modalities: base features shall agree, details differ."""
    detail = correlation(from_vi.detail, from_ir.detail)
    return detail.square() / (1.01 + correlation(from_vi.base, from_ir.base))
