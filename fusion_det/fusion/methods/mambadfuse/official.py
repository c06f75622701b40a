"""What the published script of MambaDFuse does with a pair of image files."""

from __future__ import annotations

import cv2
import numpy as np
import torch

from fusion_det.fusion.methods.mambadfuse.network import MambaDFuseNet

MULTIPLE = 8


@torch.no_grad()
def fuse_officially(network: MambaDFuseNet, ir: np.ndarray, vi: np.ndarray) -> np.ndarray:
    """From stored pixels to stored pixels: grey.

    Args:
        ir, vi: uint8 (H,W) or (H,W,3) RGB, of one size.

    Returns:
        uint8 (H,W).
    """
    fused = before_clamping(network, ir, vi)[0, 0].clamp(0, 1).cpu().numpy()
    return np.rint(fused * np.float32(255)).astype(np.uint8)


@torch.no_grad()
def before_clamping(network: MambaDFuseNet, ir: np.ndarray, vi: np.ndarray) -> torch.Tensor:
    """What the network makes of a pair, of the pair's size, (1,1,H,W)."""
    device = next(network.parameters()).device
    infrared, visible = (
        mirrored(torch.from_numpy(grey(image).astype(np.float32) / np.float32(255))[None, None]).to(device)
        for image in (ir, vi)
    )
    height, width = ir.shape[:2]
    return network(infrared, visible)[..., :height, :width]


def grey(image: np.ndarray) -> np.ndarray:
    """OpenCV's 8-bit grey of uint8 RGB (H,W,3); grey images as they are. (The visible luma is prepared outside the script.)"""
    return image if image.ndim == 2 else cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY)


def mirrored(image: torch.Tensor) -> torch.Tensor:
    """Extended at the bottom and the right to the multiple of 8 above its size, by 8 rows where it is one already.

    The outermost rows and columns are repeated. The script mirrors once, so images below 4 pixels become only twice as large.
    """
    for axis in (-2, -1):
        size = image.shape[axis]
        wanted = (size // MULTIPLE + 1) * MULTIPLE
        image = torch.cat((image, image.flip(axis)), dim=axis).narrow(axis, 0, min(wanted, 2 * size))
    return image
