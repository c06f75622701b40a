"""The losses of IRFS (arXiv:2305.09999, Sec. 3.4; the published code where the text is silent).

Images and masks are (B,1,H,W) floats: sources and masks in [0,1], the fused image as the network gives it, not clipped.
Losses are tensors without dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F

L1_WEIGHT, GRADIENT_WEIGHT = 20.0, 5.0
REFERENCE_IR, REFERENCE_VI = 0.9, 0.6
"""What of each weighted source the fused image is compared with."""
SMALLEST = 16
"""Height and width below which five levels of MS-SSIM do not fit."""

_LEVELS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
_WINDOW, _SIGMA = 11, 1.5
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
_MASK_WINDOW = 31


class SourceWeights(NamedTuple):
    """How much each pixel of a source counts, (B,1,H,W) in [0,1]."""

    ir: torch.Tensor
    vi: torch.Tensor


def contrast(image: torch.Tensor) -> torch.Tensor:
    """How far each pixel's grey level is from those of all others of its image, the farthest being 1.

    S(v) = Σ over all pixels p of |v − p|, on 8-bit levels, divided by the largest S of the image (0 if that is 0).

    Args:
        image: (B,1,H,W) in [0,1], rounded to 8 bits here.

    Returns:
        (B,1,H,W) float64.
    """
    levels = image.mul(255).round().clamp(0, 255).long().flatten(1)  # (B,HW)
    every = torch.arange(256, device=image.device)
    counts = torch.zeros(len(levels), 256, dtype=torch.long, device=image.device)
    counts.scatter_add_(1, levels, torch.ones_like(levels))
    distances = (counts[:, None] * (every[:, None] - every).abs()).sum(2)  # exact: (B,256) integers
    sums = distances.gather(1, levels).double()
    largest = sums.amax(1, keepdim=True)
    return (sums / largest.clamp(min=1)).view(image.shape)


def source_weights(ir: torch.Tensor, vi: torch.Tensor) -> SourceWeights:
    """Softmax over the two sources of 5 × :func:`contrast`, in steps of 1/255, cut off: the authors store it as 8-bit images.

    (Theirs have the sources' names, and so JPEG's losses where these are JPEG files; ours have not.)
    """
    # As e^a / (e^a + e^b) and its complement, in the order in which they are published: a step of 1/255 depends on it.
    powers_ir, powers_vi = (5 * contrast(ir)).exp(), (5 * contrast(vi)).exp()
    weight = powers_ir / (powers_ir + powers_vi)
    stored = ((255 * part).floor().div(255).to(ir.dtype) for part in (weight, 1 - weight))
    return SourceWeights(*stored)


def l1_loss(fused: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """mean |fused − reference|."""
    return (fused - reference).abs().mean()


def laplacian(image: torch.Tensor) -> torch.Tensor:
    """Mean of the eight neighbours minus the pixel, halved; the image is mirrored beyond its border."""
    return 9 / 16 * (F.avg_pool2d(F.pad(image, (1, 1, 1, 1), mode="reflect"), 3, stride=1) - image)


def gradient_loss(ir: torch.Tensor, vi: torch.Tensor, fused: torch.Tensor) -> torch.Tensor:
    """mean | max(|ΔI|, |ΔV|) − |ΔF| | with Δ = :func:`laplacian`."""
    return (torch.maximum(laplacian(ir).abs(), laplacian(vi).abs()) - laplacian(fused).abs()).abs().mean()


def ms_ssim_loss(fused: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """1 − MS-SSIM over five levels, as published: the constants are those of levels 0 to 255, while the images have 0 to 1.

    So it is close to zero for any two images. Zeros beyond the border; a window as large as the image at most.

    Raises:
        ValueError: images smaller than ``SMALLEST``.
    """
    if min(fused.shape[-2:]) < SMALLEST:
        raise ValueError(f"MS-SSIM needs at least {SMALLEST}×{SMALLEST} pixels, not {tuple(fused.shape[-2:])}")
    value = fused.new_ones(())
    for level, weight in enumerate(_LEVELS):
        if level:
            fused, reference = F.avg_pool2d(fused, 2), F.avg_pool2d(reference, 2)
        structure, whole = _ssim(fused, reference)
        value = value * (whole if level == len(_LEVELS) - 1 else structure) ** weight
    return 1 - value


def _ssim(x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Means of the contrast-structure map and of the SSIM map of (B,1,H,W) images."""
    size = min(*x.shape[-2:], _WINDOW)
    offsets = torch.arange(size, device=x.device, dtype=x.dtype) - size // 2
    taps = torch.exp(-offsets.square() / (2 * (_SIGMA * size / _WINDOW) ** 2))
    taps = taps / taps.sum()
    maps = torch.cat((x, y, x * x, y * y, x * y))
    rows = F.conv2d(maps, taps.view(1, 1, 1, -1), padding=(0, size // 2))
    mean_x, mean_y, xx, yy, xy = F.conv2d(rows, taps.view(1, 1, -1, 1), padding=(size // 2, 0)).chunk(5)
    products, squares = mean_x * mean_y, mean_x.square() + mean_y.square()
    structure = (2 * (xy - products) + _C2) / (xx + yy - squares + _C2)
    return structure.mean(), (structure * (2 * products + _C1) / (squares + _C1)).mean()


@dataclass(frozen=True)
class FusionTerms:
    """The fusion loss of a batch, and its three terms before they are weighted."""

    total: torch.Tensor
    ms_ssim: torch.Tensor
    l1: torch.Tensor
    gradient: torch.Tensor


def fusion_loss(ir: torch.Tensor, vi: torch.Tensor, fused: torch.Tensor, weights: SourceWeights) -> FusionTerms:
    """MS-SSIM + 20 L1 + 5 gradients; the first two compare with 0.9 w_ir·ir + 0.6 w_vi·vi."""
    reference = REFERENCE_IR * weights.ir * ir + REFERENCE_VI * weights.vi * vi
    ms_ssim, l1 = ms_ssim_loss(fused, reference), l1_loss(fused, reference)
    gradient = gradient_loss(ir, vi, fused)
    return FusionTerms(ms_ssim + L1_WEIGHT * l1 + GRADIENT_WEIGHT * gradient, ms_ssim, l1, gradient)


def mask_loss(logits: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Binary cross-entropy, and one minus the weighted overlap of a salient-object map and its mask.

    The weight of a pixel is 1 + 5·|mean of the mask in 31×31 pixels − mask|: contours and small parts count for more. The
    cross-entropy is a plain mean, as published: dividing by the sum of weights after the mean has made it so.

    Args:
        logits, mask: (B,1,H,W).
    """
    near = F.avg_pool2d(mask, _MASK_WINDOW, stride=1, padding=_MASK_WINDOW // 2)
    weight = 1 + 5 * (near - mask).abs()
    found = logits.sigmoid()
    both = (weight * found * mask).sum((2, 3))
    either = (weight * (found + mask)).sum((2, 3)) - both
    overlap = 1 - (both + 1) / (either + 1)
    return F.binary_cross_entropy_with_logits(logits, mask) + overlap.mean()


class SaliencyMaps(NamedTuple):
    """What FGCCNet gives for B pairs: logits, (B,1,H,W) but for ``coarse``, which is (3B,1,H/32,W/32)."""

    coarse: torch.Tensor
    visible: torch.Tensor
    thermal: torch.Tensor
    joint: torch.Tensor
    final: torch.Tensor


def guidance_loss(maps: SaliencyMaps, mask: torch.Tensor) -> torch.Tensor:
    """What a fixed FGCCNet tells the fusion network from the second stage on; beside :func:`fusion_loss`."""
    parts = torch.cat((maps.visible, maps.thermal, maps.joint))
    return mask_loss(maps.final, mask) + mask_loss(parts, mask.repeat(3, 1, 1, 1))


def saliency_loss(maps: SaliencyMaps, mask: torch.Tensor) -> torch.Tensor:
    """What FGCCNet itself is trained with: its coarse maps, its result, the joint map, and the two sources' maps."""
    coarse = F.interpolate(mask, maps.coarse.shape[-2:], mode="bilinear", align_corners=True).repeat(3, 1, 1, 1)
    sources = torch.cat((maps.visible, maps.thermal))
    return (
        mask_loss(maps.coarse, coarse)
        + mask_loss(maps.final, mask)
        + mask_loss(maps.joint, mask)
        + mask_loss(sources, mask.repeat(2, 1, 1, 1))
    )


def planes_to_rgb(luma: torch.Tensor, cr: torch.Tensor, cb: torch.Tensor) -> torch.Tensor:
    """RGB (B,3,H,W) of planes (B,1,H,W) in [0,1], by the coefficients of the authors' training, which are rounded."""
    red = luma + 1.403 * (cr - 0.5)
    green = luma - 0.714 * (cr - 0.5) - 0.344 * (cb - 0.5)
    blue = luma + 1.773 * (cb - 0.5)
    return torch.cat((red, green, blue), dim=1)
