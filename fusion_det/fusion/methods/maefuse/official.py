"""What the published script of MAEFuse does with a pair of image files."""

from __future__ import annotations

import cv2
import numpy as np
import torch

from fusion_det.fusion.mae import MEAN, STD
from fusion_det.fusion.methods.maefuse.network import MAEFuseNet


@torch.no_grad()
def fuse_officially(network: MAEFuseNet, ir: np.ndarray, vi: np.ndarray) -> np.ndarray:
    """From stored pixels to stored pixels: luma fused at 640 × 640, colours squeezed to that size as well, and back by cubics.

    Args:
        ir, vi: uint8 (H,W) or (H,W,3) RGB, of one size.

    Returns:
        uint8 (H,W,3) RGB.
    """
    size = network.config.size
    visible = squeezed(ycrcb(vi), size)
    infrared = network_input(squeezed(rgb(ir), size))
    luma = network_input(np.repeat(visible[..., :1], 3, axis=2))
    device = next(network.parameters()).device
    fused = network(*(torch.from_numpy(image)[None].to(device) for image in (infrared, luma)))[0].cpu().numpy()
    visible[..., 0] = stored_luma(fused)
    colours = cv2.cvtColor(visible, cv2.COLOR_YCrCb2RGB)
    return cv2.resize(colours, vi.shape[1::-1], interpolation=cv2.INTER_CUBIC)


def rgb(image: np.ndarray) -> np.ndarray:
    """uint8 (H,W,3) of that or of (H,W)."""
    return np.repeat(image[..., None], 3, axis=2) if image.ndim == 2 else image


def ycrcb(image: np.ndarray) -> np.ndarray:
    """OpenCV's YCrCb in 8 bits, (H,W,3)."""
    return cv2.cvtColor(rgb(image), cv2.COLOR_RGB2YCrCb)


def squeezed(image: np.ndarray, size: int) -> np.ndarray:
    """uint8 (H,W,3) at size × size, whatever its shape. Bilinear: the script asks for cubics, but where nothing reads it."""
    return cv2.resize(image, (size, size), interpolation=cv2.INTER_LINEAR)


def network_input(image: np.ndarray) -> np.ndarray:
    """float32 (3,H,W), normalised in float64."""
    return ((image / 255.0 - MEAN) / STD).astype(np.float32).transpose(2, 0, 1)


def stored_luma(fused: np.ndarray) -> np.ndarray:
    """The network's image (3,H,W), cut off to 8 bits, and OpenCV's luma of that: uint8 (H,W)."""
    colours = fused.transpose(1, 2, 0) * np.array(STD) + np.array(MEAN)
    return cv2.cvtColor(np.clip(colours * 255, 0, 255).astype(np.uint8), cv2.COLOR_RGB2GRAY)
