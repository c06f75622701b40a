"""Pairs that are out of place, made of aligned ones, and which places of them correspond: what registration learns from."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from fusion_det.fusion.methods.semla.network import STRIDE

DEGREES = 25.0
SCALES = 0.3, 2.2
PERSPECTIVE = 0.2
"""How much nearer one edge of an image may come than its middle, or farther (not published)."""


def draw_homographies(count: int, size: tuple[int, int], degrees: float = DEGREES) -> torch.Tensor:
    """(count,3,3): where pixels (x,y) of images of (height, width) go. Turned, scaled and tilted about the middle, at random."""
    middle = [(extent - 1) / 2 for extent in size[::-1]]
    angle = (torch.rand(count) * 2 - 1) * math.radians(degrees)
    smallest, largest = (math.log(scale) for scale in SCALES)
    scale = (smallest + (largest - smallest) * torch.rand(count)).exp()
    tilt = (torch.rand(count, 2) * 2 - 1) * PERSPECTIVE / torch.tensor(middle).clamp_min(1)
    moved = torch.eye(3).repeat(count, 1, 1)
    moved[:, 0, 0] = moved[:, 1, 1] = scale * angle.cos()
    moved[:, 1, 0] = scale * angle.sin()
    moved[:, 0, 1] = -moved[:, 1, 0]
    moved[:, 2, :2] = tilt
    to_middle = torch.eye(3)
    to_middle[:2, 2] = -torch.tensor(middle)
    return to_middle.inverse() @ moved @ to_middle


def warp(images: torch.Tensor, homographies: torch.Tensor) -> torch.Tensor:
    """Images (B,C,H,W) after homographies (B,3,3); bilinear, 0 where nothing comes to lie."""
    height, width = images.shape[-2:]
    rows, columns = torch.meshgrid(
        *(torch.arange(size, device=images.device, dtype=images.dtype) for size in (height, width)), indexing="ij"
    )
    pixels = torch.stack((columns, rows), dim=-1).flatten(0, 1)
    source = _moved(pixels, homographies.inverse().to(images.device))
    grid = source / pixels.new_tensor([max(1, width - 1), max(1, height - 1)]) * 2 - 1
    return F.grid_sample(images, grid.unflatten(1, (height, width)), align_corners=True)


def corresponding_places(homographies: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Which places of the maps of an image and of the warped one show the same, for images of (height, width).

    Those whose middle is more than eight pixels inside, before and after.

    Returns:
        int64 (n,3): image, place before, place after; places are counted row by row.
    """
    height, width = size[0] // STRIDE, size[1] // STRIDE
    place = torch.arange(height * width)
    middles = torch.stack((place % width, place // width), dim=1) * STRIDE + STRIDE / 2
    moved = _moved(middles, homographies)  # (B,L,2)
    largest = torch.tensor([size[1], size[0]]) - STRIDE
    inside = [((points > STRIDE) & (points < largest)).all(-1) for points in (middles.expand_as(moved), moved)]
    image, before = (inside[0] & inside[1]).nonzero(as_tuple=True)
    column, row = (moved[image, before] / STRIDE).long().unbind(1)
    return torch.stack((image, before, row * width + column), dim=1)


def _moved(points: torch.Tensor, homographies: torch.Tensor) -> torch.Tensor:
    """(n,2) by (B,3,3) to (B,n,2). Points that go through infinity end up far away."""
    homogeneous = F.pad(points, (0, 1), value=1.0) @ homographies.mT
    depth = homogeneous[..., 2:]
    return torch.where(depth > 1e-3, homogeneous[..., :2] / depth.clamp_min(1e-3), -1e6)
