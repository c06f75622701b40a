"""What the published script of EMMA does with a pair of image files."""

from __future__ import annotations

import numpy as np
import torch

from fusion_det.errors import MethodError
from fusion_det.fusion.methods.emma.network import UFuser
from fusion_det.fusion.official import rounded_gray, saved_by_skimage, stretched

MULTIPLE = 32


def fuse_officially(network: UFuser, ir: np.ndarray, vi: np.ndarray) -> np.ndarray:
    """From stored pixels to stored pixels: grey, up to four overlapping passes, stretched over all of 8 bits.

    Args:
        ir, vi: uint8 (H,W) or (H,W,3) RGB, of one size, H and W at least 32.

    Returns:
        uint8 (H,W).

    Raises:
        MethodError: a smaller pair.
    """
    device = next(network.parameters()).device
    infrared, visible = (
        torch.from_numpy(rounded_gray(image) / np.float32(255))[None, None].to(device) for image in (ir, vi)
    )
    fused = fuse_in_passes(network, infrared, visible)[0, 0].cpu().numpy()
    return saved_by_skimage(stretched(fused, "emma"))


@torch.no_grad()
def fuse_in_passes(network: UFuser, ir: torch.Tensor, vi: torch.Tensor) -> torch.Tensor:
    """Fuse (B,1,H,W) of any size from 32 × 32 on, in windows of the next smaller multiples of 32.

    The first window lies at the top left. Where H or W is no such multiple, others at the right and at the bottom give the
    rows and columns that it leaves over.

    Raises:
        MethodError: H or W is below 32.
    """
    height, width = ir.shape[-2:]
    if min(height, width) < MULTIPLE:
        raise MethodError(
            f"the published procedure of emma takes pairs from {MULTIPLE} × {MULTIPLE} pixels on, not {width} × {height}; "
            "use the common protocol for such pairs"
        )
    left_over = height % MULTIPLE, width % MULTIPLE
    fused = torch.empty_like(ir)
    for below in (False, True)[: 1 + (left_over[0] > 0)]:
        for right in (False, True)[: 1 + (left_over[1] > 0)]:
            rows, kept_rows = _window(height, left_over[0], at_end=below)
            columns, kept_columns = _window(width, left_over[1], at_end=right)
            window = network(ir[..., rows, columns], vi[..., rows, columns])
            height_kept, width_kept = kept_rows.stop - kept_rows.start, kept_columns.stop - kept_columns.start
            fused[..., kept_rows, kept_columns] = window[..., -height_kept:, -width_kept:]
    return fused


def _window(size: int, left_over: int, *, at_end: bool) -> tuple[slice, slice]:
    """What a window covers of an axis, and what of it is kept: all at the beginning, at the end only what was left over."""
    if at_end:
        return slice(left_over, size), slice(size - left_over, size)
    return slice(0, size - left_over), slice(0, size - left_over)
