"""The training losses of SemLA (Xie et al. 2023), but for those of masks and of a teacher, which no pair of images gives.

Images are (B,1,H,W) floats in [0,1], features (B,C,h,w); losses are tensors without dimensions.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from fusion_det.fusion.methods.semla.network import similarity
from fusion_det.fusion.training.terms import gaussian_means, ssim_of_means

STRUCTURE, INTENSITY = 0.7, 0.3
"""Weights of the terms of reconstruction."""
FOCUS, SHARE = 2, 0.25
"""Of the focal loss."""
_SURE = 1e-6
_INSIDE, _ROUNDS = 0.8, 5


class RebuiltTerms(NamedTuple):
    """Of an image that the fusion network makes of one image alone. structure: by SSIM. intensity: mean distance."""

    structure: torch.Tensor
    intensity: torch.Tensor

    @property
    def total(self) -> torch.Tensor:
        return STRUCTURE * self.structure + INTENSITY * self.intensity


def rebuilding_loss(image: torch.Tensor, rebuilt: torch.Tensor) -> RebuiltTerms:
    """How far an image is from what it shall be."""
    return RebuiltTerms(structural_dissimilarity(image, rebuilt), (image - rebuilt).abs().mean())


def structural_dissimilarity(image: torch.Tensor, rebuilt: torch.Tensor) -> torch.Tensor:
    """Mean of (1 - SSIM) / 2, which is one half at and around pixels that are not positive, and near the border.

    How near: four fifths of what a pixel's Gaussian weighs lie on pixels that count, five times over.
    """
    maps = torch.cat((image, rebuilt, image * image, rebuilt * rebuilt, image * rebuilt), dim=1)
    ssim = ssim_of_means(*gaussian_means(maps, border="zero").chunk(5, dim=1))
    with torch.no_grad():
        counts = ((image > 0) & (rebuilt > 0)).to(image.dtype)
        for _ in range(_ROUNDS):
            counts = (gaussian_means(counts, border="zero") > _INSIDE).to(image.dtype)
    return ((1 - counts * ssim) / 2).clamp(0, 1).mean()


def matching_loss(features_vi: torch.Tensor, features_ir: torch.Tensor, matches: torch.Tensor) -> torch.Tensor:
    """Focal loss -¼ (1-p)² ln p, averaged over the places that correspond; p is how surely each is the other's likest.

    Args:
        matches: int64 (n,3): image of the batch, place in the visible image, place in the infrared one. No places give 0.
    """
    alike = similarity(features_vi, features_ir)
    if len(matches) == 0:
        return alike.sum() * 0
    image, visible, infrared = matches.unbind(1)
    log_p = (alike.log_softmax(1) + alike.log_softmax(2))[image, visible, infrared]
    p = log_p.exp().clamp(_SURE, 1 - _SURE)
    return (-SHARE * (1 - p) ** FOCUS * p.log()).mean()
