"""What the published scripts of FusionMamba do with a pair of image files: the one that fuses, and the one that adds colour."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from PIL import Image

from fusion_det.errors import MethodError
from fusion_det.fusion.methods.fusionmamba.network import FusionMambaNet

SIDE = 256


def fuse_officially(network: FusionMambaNet, ir: np.ndarray, vi: np.ndarray) -> np.ndarray:
    """From stored pixels to stored pixels.

    Args:
        ir, vi: uint8 (H,W) or (H,W,3) RGB, of one size.

    Returns:
        uint8 (H,W,3) RGB if ``vi`` is in colour, else (H,W).
    """
    fused = stretched_bytes(fuse_square(network, ir, vi)[0, 0])
    height, width = vi.shape[:2]
    fused = cv2.resize(fused, (width, height), interpolation=cv2.INTER_LINEAR)
    if vi.ndim == 2:
        return fused
    ycrcb = cv2.cvtColor(np.ascontiguousarray(vi), cv2.COLOR_RGB2YCrCb)
    ycrcb[..., 0] = fused
    return cv2.cvtColor(ycrcb, cv2.COLOR_YCrCb2RGB)


@torch.no_grad()
def fuse_square(network: FusionMambaNet, ir: np.ndarray, vi: np.ndarray, side: int = SIDE) -> torch.Tensor:
    """What the network makes of a pair that is resized to a square, (1,1,side,side)."""
    device = next(network.parameters()).device
    infrared, visible = (
        torch.from_numpy(resized_grey(image, side).astype(np.float32) / np.float32(255))[None, None].to(device)
        for image in (ir, vi)
    )
    return network(infrared, visible)


def resized_grey(image: np.ndarray, side: int) -> np.ndarray:
    """OpenCV's 8-bit grey of uint8 (H,W) or RGB (H,W,3), resized by Pillow (bicubic, of 8 bits), uint8 (side,side)."""
    grey = image if image.ndim == 2 else cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY)
    return np.asarray(Image.fromarray(grey).resize((side, side), Image.Resampling.BICUBIC))


def stretched_bytes(fused: torch.Tensor) -> np.ndarray:
    """(H,W) clamped to [0,1], stretched over all of 8 bits, cut off to whole numbers.

    Raises:
        MethodError: all pixels are equal, and the published division is by zero.
    """
    values = fused.float().clamp(0, 1).cpu().numpy()
    low, high = values.min(), values.max()
    if not low < high:
        raise MethodError(
            "fusionmamba fused a pair to an image without contrast, which its published procedure cannot stretch; use the "
            "common protocol for such pairs"
        )
    return ((values - low) / (high - low) * np.float32(255)).astype(np.uint8)
