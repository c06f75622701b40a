"""What the published script of CrossFuse does with a pair of image files."""

from __future__ import annotations

import cv2
import numpy as np
import torch

from fusion_det.errors import MethodError
from fusion_det.fusion.methods.crossfuse.network import MIN_SIZE, CrossFuseNet


@torch.no_grad()
def fuse_officially(network: CrossFuseNet, ir: np.ndarray, vi: np.ndarray) -> np.ndarray:
    """From stored pixels to stored pixels: grey, fractions cut off.

    Args:
        ir, vi: uint8 (H,W) or (H,W,3) RGB, of one size, H and W at least 136.

    Returns:
        uint8 (H,W).

    Raises:
        MethodError: a smaller pair.
    """
    if min(ir.shape[:2]) < MIN_SIZE:
        raise MethodError(
            f"the published procedure of crossfuse takes pairs from {MIN_SIZE} × {MIN_SIZE} pixels on, not {ir.shape[1]} × "
            f"{ir.shape[0]}; use the common protocol, which mirrors such pairs at their borders"
        )
    device = next(network.parameters()).device
    grey = (image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in (ir, vi))
    infrared, visible = (torch.from_numpy(plane / np.float32(255))[None, None].to(device) for plane in grey)
    fused = network(infrared, visible)[0, 0]
    return (fused * 255).to(torch.uint8).cpu().numpy()
