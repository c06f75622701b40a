"""Gaussian and Laplacian pyramids.

P. J. Burt and E. H. Adelson, "The Laplacian Pyramid as a Compact Image Code", IEEE Trans. Communications 31(4), 1983:
REDUCE is their Eq. (1), EXPAND Eq. (2), the Laplacian levels Eq. (3), reconstruction Eq. (4).
"""

from __future__ import annotations

import torch

from fusion_det.fusion.filters import Border, convolve, extend

GENERATING_KERNEL = (0.05, 0.25, 0.4, 0.25, 0.05)
"""w(-2 … 2) with a = 0.4, the most Gaussian-like member of their family (their Fig. 3)."""

COARSEST_SIDE = 16
"""Shorter side, in pixels, below which the base is not reduced further."""


def levels_for(height: int, width: int) -> int:
    """Detail levels for an image: as many as leave the base's shorter side at ``COARSEST_SIDE`` or more (0 for small ones)."""
    side, levels = min(height, width), 0
    while -(-side // 2) >= COARSEST_SIDE:
        side, levels = -(-side // 2), levels + 1
    return levels


def reduce(image: torch.Tensor) -> torch.Tensor:
    """(B,1,H,W) → (B,1,⌈H/2⌉,⌈W/2⌉): blur, borders mirrored, and keep every second pixel."""
    rows = convolve(extend(image, (0, 0, 2, 2), "reflect"), GENERATING_KERNEL, -2, stride=2)
    return convolve(extend(rows, (2, 2, 0, 0), "reflect"), GENERATING_KERNEL, -1, stride=2)


def expand(image: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """(B,1,⌈height/2⌉,⌈width/2⌉) → (B,1,height,width): zeros between the pixels, blurred with four times the kernel.

    Computed without the zeros: the even taps make the even pixels, the odd taps those between.
    """
    return _expand_axis(_expand_axis(image, -2, height), -1, width)


def _expand_axis(image: torch.Tensor, dim: int, size: int) -> torch.Tensor:
    if size == 1:
        return image
    outer, inner, centre = (2 * tap for tap in GENERATING_KERNEL[:3])
    # Mirroring the spread-out signal keeps pixels on even places, so it is a mirror of the small image: about its last
    # pixel when that pixel is the last of the large one (odd size), otherwise about the zero that follows it.
    last: Border = "reflect" if size % 2 else "replicate"
    before, after = ((1, 0, 0, 0), (0, 1, 0, 0)) if dim == -1 else ((0, 0, 1, 0), (0, 0, 0, 1))
    padded = extend(extend(image, before, "reflect"), after, last)
    even = convolve(padded, (outer, centre, outer), dim)
    odd = convolve(padded.narrow(dim, 1, padded.shape[dim] - 1), (inner, inner), dim)
    shape = list(image.shape)
    shape[dim] = size
    large = image.new_empty(shape)
    step = (..., slice(None, None, 2)) if dim == -1 else (..., slice(None, None, 2), slice(None))
    between = (..., slice(1, None, 2)) if dim == -1 else (..., slice(1, None, 2), slice(None))
    large[step] = even
    large[between] = odd.narrow(dim, 0, size // 2)
    return large


def laplacian_pyramid(image: torch.Tensor, levels: int) -> list[torch.Tensor]:
    """``levels`` detail images, finest first, then the base. (B,1,H,W) each, halved (rounding up) from one to the next."""
    pyramid = []
    for _ in range(levels):
        smaller = reduce(image)
        pyramid.append(image - expand(smaller, image.shape[-2], image.shape[-1]))
        image = smaller
    return [*pyramid, image]


def reconstruct(pyramid: list[torch.Tensor]) -> torch.Tensor:
    """The image whose Laplacian pyramid this is; exact but for rounding."""
    image = pyramid[-1]
    for detail in reversed(pyramid[:-1]):
        image = detail + expand(image, detail.shape[-2], detail.shape[-1])
    return image


def fuse_pyramids(a: torch.Tensor, b: torch.Tensor, levels: int) -> torch.Tensor:
    """Fuse two (B,1,H,W) images: of each detail coefficient the one of larger magnitude, of the base the average."""
    *details_a, base_a = laplacian_pyramid(a, levels)
    *details_b, base_b = laplacian_pyramid(b, levels)
    details = [torch.where(x.abs() > y.abs(), x, y) for x, y in zip(details_a, details_b, strict=True)]
    return reconstruct([*details, 0.5 * (base_a + base_b)])
