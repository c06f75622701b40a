"""What the released script of S4Fusion does with a pair of image files."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from PIL import Image

from fusion_det.data.color import luma
from fusion_det.fusion.frame import pad_for, padding_margins, to_eight_bit
from fusion_det.fusion.method import FusionMethod


def fuse_officially(method: FusionMethod, ir: np.ndarray, vi: np.ndarray) -> np.ndarray:
    """From stored pixels to stored pixels: padded with zeros, grey. (The script repeats the grey channel three times.)

    Args:
        ir, vi: uint8 (H,W) or (H,W,3) RGB; infrared in colour becomes grey as PIL's mode "L" does it.

    Returns:
        uint8 (H,W).
    """
    if method.network is None:
        raise TypeError("a method without its network")
    grey = np.asarray(Image.fromarray(ir).convert("L"))
    colour = np.broadcast_to(vi[..., None], (*vi.shape, 3)) if vi.ndim == 2 else vi
    device = next(method.network.parameters()).device
    infrared = torch.from_numpy(grey.copy())[None, None].to(device) / 255
    visible = luma(torch.from_numpy(colour.copy()).permute(2, 0, 1)[None].to(device) / 255)
    card = replace(method.card, padding="zero")
    height, width = grey.shape
    left, _, top, _ = padding_margins(card, height, width)
    with torch.no_grad():
        fused = method.fuse(pad_for(card, infrared), pad_for(card, visible))[
            ..., top : top + height, left : left + width
        ]
    return to_eight_bit(fused)[0, 0].cpu().numpy()
