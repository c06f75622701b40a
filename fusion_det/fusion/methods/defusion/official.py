"""What the published script of DeFusion does with a pair of image files."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image

from fusion_det.fusion.filters import extend
from fusion_det.fusion.methods.defusion.network import DeFusionNet

MARGIN = 16
"""Pixels that are mirrored about each border, and cut off the result."""


@torch.no_grad()
def fuse_officially(network: DeFusionNet, ir: np.ndarray, vi: np.ndarray) -> np.ndarray:
    """From stored pixels to stored pixels; all sources in grey.

    Args:
        ir, vi: uint8 (H,W) or (H,W,3) RGB, of one size.

    Returns:
        uint8 (H,W,3), nearly grey.
    """
    return (before_clamping(network, ir, vi).clamp(0, 1) * 255).to(torch.uint8)[0].permute(1, 2, 0).cpu().numpy()


def before_clamping(network: DeFusionNet, ir: np.ndarray, vi: np.ndarray) -> torch.Tensor:
    """The fused image (1,3,H,W) as the network gives it."""
    device = next(network.parameters()).device
    margins = (MARGIN, MARGIN, MARGIN, MARGIN)
    infrared, visible = (
        extend(torch.from_numpy(grey(image) / np.float32(255))[None, None].to(device), margins, "reflect")
        for image in (ir, vi)
    )
    return network(infrared, visible)[..., MARGIN:-MARGIN, MARGIN:-MARGIN]


def grey(image: np.ndarray) -> np.ndarray:
    """Pillow's luma, uint8 (H,W)."""
    return np.array(Image.fromarray(image).convert("L"))
