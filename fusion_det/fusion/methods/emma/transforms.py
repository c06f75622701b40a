"""The transformations T to which EMMA's fusion shall be equivariant (arXiv:2305.11443): shifts, rotations, reflections.

A scene that is shifted, turned or mirrored before it is fused should give the fused image shifted, turned or mirrored.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F

SHIFTS = 3
ANGLES = 10.0, 130.0, 250.0
"""Degrees."""
COPIES = 1 + SHIFTS + len(ANGLES) + 3
"""How many images become of one."""


def draw_shifts(height: int, width: int, generator: torch.Generator | None = None) -> list[tuple[int, int]]:
    """Three shifts (rows, columns), each of ±1 … ±(size - 1), no number of rows or of columns twice.

    Raises:
        ValueError: images of fewer than 3 rows or columns, which have no three shifts.
    """
    if min(height, width) < SHIFTS:
        raise ValueError(f"images of {height}×{width} pixels have no {SHIFTS} shifts")
    rows, columns = (_draw(size, generator) for size in (height, width))
    return list(zip(rows, columns, strict=True))


def _draw(size: int, generator: torch.Generator | None) -> list[int]:
    offsets = [*range(1 - size, 0), *range(1, size)]
    chosen = torch.randperm(len(offsets), generator=generator)[:SHIFTS].tolist()
    return [offsets[index] for index in chosen]


def transform(x: torch.Tensor, shifts: Sequence[tuple[int, int]]) -> torch.Tensor:
    """All of T one after another: (B,C,H,W) to (B · (7 + shifts),C,H,W), differentiable.

    In this order: x; x shifted; x turned by 10°, 130° and 250°; x mirrored left to right, top to bottom, and both.
    """
    shifted = (torch.roll(x, shift, dims=(-2, -1)) for shift in shifts)
    turned = (rotate(x, angle) for angle in ANGLES)
    mirrored = (x.flip(dims) for dims in ((-1,), (-2,), (-2, -1)))
    return torch.cat((x, *shifted, *turned, *mirrored))


def rotate(x: torch.Tensor, degrees: float) -> torch.Tensor:
    """Turn (B,C,H,W) counter-clockwise about its middle; between four pixels bilinear, zeros from outside."""
    height, width = x.shape[-2:]
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    dy = torch.arange(height, dtype=x.dtype, device=x.device)[:, None] - (height - 1) / 2
    dx = torch.arange(width, dtype=x.dtype, device=x.device) - (width - 1) / 2
    # The pixels' positions in grid_sample's units, in which the middles of the outermost pixels are ±1.
    from_x = (cosine * dx - sine * dy) * (2 / max(1, width - 1))
    from_y = (sine * dx + cosine * dy) * (2 / max(1, height - 1))
    grid = torch.stack((from_x, from_y), dim=-1).expand(len(x), -1, -1, -1)
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="zeros", align_corners=True)
