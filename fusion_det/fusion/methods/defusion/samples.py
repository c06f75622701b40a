"""What DeFusion learns from: an image, and two copies of it that noise has torn parts out of, each pixel being left in one."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F

PUBLISHED_CROP, PUBLISHED_CELLS = 256, 13
"""Side of the images, and the cells on the side of a coarse grid."""
DIMMEST = 0.1
"""Least factor on brightness, contrast and saturation; the largest is 1."""


class Masks(NamedTuple):
    """Where either copy shows the image; (1,S,S) float32 of zeros and ones, nowhere both zero."""

    first: torch.Tensor
    second: torch.Tensor


class Sample(NamedTuple):
    """Images (B,3,S,S) in [0,1], their copies and the masks (B,1,S,S) by which these were made."""

    clean: torch.Tensor
    first: torch.Tensor
    second: torch.Tensor
    mask_1: torch.Tensor
    mask_2: torch.Tensor


def draw_sample(images: torch.Tensor) -> Sample:
    """Dim images (B,3,S,S), each by itself, and damage two copies of them."""
    clean = torch.stack([dimmed(image) for image in images])
    masks = [draw_masks(images.shape[-1]) for _ in images]
    mask_1, mask_2 = (torch.stack(several).to(images.device) for several in zip(*masks, strict=True))
    return Sample(clean, damaged(clean, mask_1), damaged(clean, mask_2), mask_1, mask_2)


def dimmed(image: torch.Tensor) -> torch.Tensor:
    """An image (3,H,W) in [0,1] with less brightness, contrast and saturation, changed in an order that is drawn."""
    from torchvision.transforms import ColorJitter

    factors = DIMMEST, 1.0
    changed: torch.Tensor = ColorJitter(brightness=factors, contrast=factors, saturation=factors)(image)
    return changed


def damaged(clean: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Noise where the mask is 0: the magnitude of normal numbers, at most 1, for every channel."""
    return clean * mask + torch.randn_like(clean).abs().clamp(max=1) * (1 - mask)


def draw_masks(size: int) -> Masks:
    """A pair of masks of ``size`` × ``size`` pixels, on the CPU.

    Each is where a coarse and a fine grid of random cells both are 1; what neither shows, a third grid shares out. How full
    the grids are is drawn for the pair. Cells are as large as the published ones, whatever the size.
    """
    fill = 0.1 + float(torch.rand(())) / 1.12
    coarse = max(2, round(PUBLISHED_CELLS * size / PUBLISHED_CROP))
    fine, third = (2 * coarse + int(torch.randint(2, ())) for _ in range(2))
    one, other = (_grid(size, coarse, fill) * _grid(size, fine, fill) for _ in range(2))
    kind = int(torch.multinomial(torch.tensor([0.33, 0.33, 0.34]), 1))
    shared = _grid(size, (coarse, fine, third)[kind], fill)
    nowhere = (1 - one) * (1 - other)
    one, other = one + nowhere * shared, other + nowhere * (1 - shared)
    return Masks(one, other) if bool(torch.rand(()) < 0.5) else Masks(other, one)


def _grid(size: int, cells: int, fill: float) -> torch.Tensor:
    """(1,size,size) of ``cells`` × ``cells`` rectangles that are 1 with probability ``fill``, else 0."""
    drawn = (torch.rand(1, 1, cells, cells) < fill).float()
    return F.interpolate(drawn, (size, size), mode="nearest")[0]
