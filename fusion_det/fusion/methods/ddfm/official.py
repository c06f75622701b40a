"""What the published script of DDFM does with a pair of image files."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from fusion_det.errors import MethodError
from fusion_det.fusion.methods.ddfm.network import UNet
from fusion_det.fusion.methods.ddfm.sampler import sample, start_noise
from fusion_det.fusion.official import rounded_gray, stretched

MULTIPLE = 32
"""Of both sides; what is left over at the right and at the bottom is cut off."""
_LUMA = 0.299, 0.587, 0.114


def fuse_officially(
    network: UNet, ir: np.ndarray, vi: np.ndarray, steps: int, after_step: Callable[[], None] | None = None
) -> np.ndarray:
    """From stored pixels to stored pixels: cropped, grey, stretched over all of 8 bits.

    Args:
        ir, vi: uint8 (H,W) or (H,W,3) RGB, of one size, H and W at least 32.

    Returns:
        uint8 (H - H mod 32, W - W mod 32).

    Raises:
        MethodError: a smaller pair.
    """
    return np.rint(fused_gray(network, rounded_gray(ir), rounded_gray(vi), steps, after_step)).astype(np.uint8)


def refuse_cropping(height: int, width: int) -> None:
    """Raise unless the published picture has the pair's own size, without which boxes and sources do not fit it.

    Raises:
        MethodError: it has not.
    """
    if height % MULTIPLE or width % MULTIPLE:
        raise MethodError(
            f"the published procedure of ddfm crops to multiples of {MULTIPLE} pixels, and with a pair of {width} × {height} its "
            "picture would no longer lie on the sources; use the common protocol, which pads such pairs, or crop them beforehand"
        )


@torch.no_grad()
def fused_gray(
    network: UNet,
    ir: np.ndarray,
    vi: np.ndarray,
    steps: int,
    after_step: Callable[[], None] | None = None,
    noise: torch.Tensor | None = None,
) -> np.ndarray:
    """Grey sources, float32 (H,W) in 0 … 255, to the stretched grey image before it is rounded. noise: x_T, if another."""
    height, width = (side - side % MULTIPLE for side in ir.shape)
    if not (height and width):
        raise MethodError(
            f"the published procedure of ddfm takes pairs from {MULTIPLE} × {MULTIPLE} pixels on, not {ir.shape[1]} × "
            f"{ir.shape[0]}; use the common protocol for such pairs"
        )
    device = next(network.parameters()).device
    infrared, visible = (
        torch.from_numpy(np.float32(2) * image[:height, :width] / np.float32(255) - np.float32(1))[None, None].to(
            device
        )
        for image in (ir, vi)
    )
    noise = start_noise(height, width) if noise is None else noise
    image = sample(network, infrared, visible, noise.to(device), steps, after_step).image[0]
    luma = sum(weight * channel for weight, channel in zip(_LUMA, image, strict=True))
    return stretched(luma.cpu().numpy(), "ddfm")  # type: ignore[union-attr]
