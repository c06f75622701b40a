"""The published inference of IRFS (its script for a folder of pairs): conversions in 8 bits, fractions cut off."""

from __future__ import annotations

import cv2
import numpy as np
import torch

from fusion_det.fusion.methods.irfs.network import FSFNet


@torch.no_grad()
def fuse_officially(network: FSFNet, ir: np.ndarray, vi: np.ndarray) -> np.ndarray:
    """The fused colour image.

    Args:
        ir, vi: uint8 (H,W) or (H,W,3) RGB, of one size.

    Returns:
        uint8 (H,W,3) RGB.
    """
    grey = ir if ir.ndim == 2 else cv2.cvtColor(ir, cv2.COLOR_RGB2GRAY)
    colour = vi if vi.ndim == 3 else cv2.cvtColor(vi, cv2.COLOR_GRAY2RGB)
    planes = cv2.cvtColor(colour, cv2.COLOR_RGB2YCrCb)
    device = next(network.parameters()).device
    infrared, visible = (torch.from_numpy(plane / np.float32(255)).to(device) for plane in (grey, planes[..., 0]))
    fused = network(infrared[None, None], visible[None, None])[0, 0].clamp(0, 1)
    planes[..., 0] = (fused * 255).to(torch.uint8).cpu().numpy()
    return cv2.cvtColor(planes, cv2.COLOR_YCrCb2RGB)
