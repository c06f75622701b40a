"""What the published script of U2Fusion does with a pair of image files."""

from __future__ import annotations

import numpy as np
import torch

from fusion_det.fusion.methods.u2fusion.network import U2FusionNet

_TO_YCBCR = np.array([[0.299, 0.587, 0.114], [-0.1687, -0.3313, 0.5], [0.5, -0.4187, -0.0813]])
_TO_RGB = np.array([[1, 0, 1.402], [1, -0.34414, -0.71414], [1, 1.772, 0]])
"""As JFIF prints them; the constant that the script adds to the chroma and takes off again is left out."""


def fuse_officially(network: U2FusionNet, ir: np.ndarray, vi: np.ndarray) -> np.ndarray:
    """From stored pixels to stored pixels.

    Colour is restored if exactly one of the two is a colour file; an infrared file with three (equal) channels counts as one,
    so that the result of two such files is grey.

    Args:
        ir, vi: uint8 (H,W) or (H,W,3) RGB.

    Returns:
        uint8 (H,W) or (H,W,3) RGB, stretched so that the largest value is 255.
    """
    infrared, visible = (_luma_and_chroma(image) for image in (ir, vi))
    device = next(network.parameters()).device
    with torch.no_grad():
        planes = (torch.from_numpy(luma).float()[None, None].to(device) for luma, _ in (infrared, visible))
        fused = network(*planes)[0, 0].cpu().numpy().astype(np.float64)
    chroma = [found for _, found in (infrared, visible) if found is not None]
    if len(chroma) == 1:
        fused = np.concatenate((fused[..., None], chroma[0]), axis=2) @ _TO_RGB.T
    peak = fused.max()
    if peak > 0:
        fused *= 255 / peak
    return np.floor(fused.clip(0, 255) + 0.5).astype(np.uint8)


def _luma_and_chroma(image: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Luma (H,W) in [0,1], and Cb and Cr (H,W,2) around zero; None for a grey image."""
    values = image / 255
    if values.ndim == 2:
        return values, None
    ycbcr = values @ _TO_YCBCR.T
    return ycbcr[..., 0], ycbcr[..., 1:]
