"""What the published script of CDDFuse for infrared and visible images does with a pair of image files."""

from __future__ import annotations

import numpy as np
import torch

from fusion_det.fusion.methods.cddfuse.network import CDDFuseNet
from fusion_det.fusion.official import rounded_gray, saved_by_skimage, stretched


@torch.no_grad()
def fuse_officially(network: CDDFuseNet, ir: np.ndarray, vi: np.ndarray) -> np.ndarray:
    """From stored pixels to stored pixels: grey, stretched over all of 8 bits.

    Args:
        ir, vi: uint8 (H,W) or (H,W,3) RGB, of one size.

    Returns:
        uint8 (H,W).
    """
    device = next(network.parameters()).device
    infrared, visible = (
        torch.from_numpy(rounded_gray(image) / np.float32(255))[None, None].to(device) for image in (ir, vi)
    )
    fused = network(infrared, visible)[0, 0].cpu().numpy()
    return saved_by_skimage(stretched(fused, "cddfuse"))
