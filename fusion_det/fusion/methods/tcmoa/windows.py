"""TC-MoA learnt squares of 448 pixels, and fuses larger images in such windows, one after the other."""

from __future__ import annotations

import torch

from fusion_det.fusion.mae import normalised, restored
from fusion_det.fusion.methods.tcmoa.network import TCMoANet

SIDE = 448


def goes_in_windows(height: int, width: int) -> bool:
    """Whether an image is higher and wider than a window; any other goes through the network as a whole."""
    return min(height, width) > SIDE


def window_origins(height: int, width: int) -> list[tuple[int, int]]:
    """(row, column) of the windows of an image, row by row. The last ones end at its border, and overlap those before them."""
    rows, columns = ([min(first, extent - SIDE) for first in range(0, extent, SIDE)] for extent in (height, width))
    return [(row, column) for row in rows for column in columns]


def fuse_whole(network: TCMoANet, ir: torch.Tensor, vi: torch.Tensor, task: int = 0) -> torch.Tensor:
    """RGB (B,3,H,W) in [0,1] of (B,1 or 3,H,W) in [0,1], H and W multiples of 112."""
    return restored(network(normalised(ir), normalised(vi), task)).clamp(0, 1)


def fuse_in_windows(network: TCMoANet, ir: torch.Tensor, vi: torch.Tensor, task: int = 0) -> torch.Tensor:
    """As :func:`fuse_whole`, H and W larger than a window; of windows that overlap, the later one counts."""
    pieces: list[tuple[int, int, torch.Tensor]] = []
    for row, column in window_origins(*vi.shape[-2:]):
        ir_part, vi_part = (x[..., row : row + SIDE, column : column + SIDE] for x in (ir, vi))
        pieces.append((row, column, fuse_whole(network, ir_part, vi_part, task)))
    fused = torch.empty_like(vi)
    for row, column, piece in pieces:
        fused[..., row : row + SIDE, column : column + SIDE] = piece
    return fused


def fuse_any(network: TCMoANet, ir: torch.Tensor, vi: torch.Tensor, task: int = 0) -> torch.Tensor:
    """As :func:`fuse_whole`, in windows where it is large enough for them."""
    fuse = fuse_in_windows if goes_in_windows(*vi.shape[-2:]) else fuse_whole
    return fuse(network, ir, vi, task)
