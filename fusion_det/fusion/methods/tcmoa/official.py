"""What the published script of TC-MoA does with a pair of image files."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from fusion_det.errors import MethodError
from fusion_det.fusion.methods.tcmoa.network import SIZE_MULTIPLE, TCMoANet
from fusion_det.fusion.methods.tcmoa.windows import fuse_in_windows, fuse_whole, goes_in_windows


@torch.no_grad()
def fuse_officially(network: TCMoANet, ir: np.ndarray, vi: np.ndarray, task: int = 0) -> np.ndarray:
    """From stored pixels to stored pixels: in windows, or resized to the next multiples of 112; all channels stretched together.

    Args:
        ir, vi: uint8 (H,W) or (H,W,3) RGB, of one size.

    Returns:
        uint8 (H,W,3) RGB.

    Raises:
        MethodError: the fused image has no contrast that could be stretched.
    """
    device = next(network.parameters()).device
    height, width = vi.shape[:2]
    if goes_in_windows(height, width):
        infrared, visible = (as_tensor(image).to(device) for image in (ir, vi))
        fused = fuse_in_windows(network, infrared, visible, task)
    else:
        size = width + -width % SIZE_MULTIPLE, height + -height % SIZE_MULTIPLE
        squeezed = (np.array(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR)) for image in (ir, vi))
        infrared, visible = (as_tensor(image).to(device) for image in squeezed)
        fused = fuse_whole(network, infrared, visible, task)
        fused = F.interpolate(fused, (height, width), mode="bilinear", align_corners=False)
    return stretched_colours(fused[0].permute(1, 2, 0).cpu().numpy())


def as_tensor(image: np.ndarray) -> torch.Tensor:
    """uint8 (H,W) or (H,W,3) to float32 (1,3,H,W) in [0,1]."""
    channels = np.broadcast_to(image[..., None], (*image.shape[:2], 3)) if image.ndim == 2 else image
    return torch.from_numpy(np.ascontiguousarray(channels.transpose(2, 0, 1)) / np.float32(255))[None]


def stretched_colours(image: np.ndarray) -> np.ndarray:
    """255·(x - min)/(max - min) over all channels, rounded half up: float (H,W,3) to uint8. Raises as fuse_officially."""
    low, high = float(image.min()), float(image.max())
    if not low < high:
        raise MethodError(
            "tcmoa fused a pair to an image without contrast, which its published procedure cannot stretch; use the common "
            "protocol for such pairs"
        )
    return (255.0 / (high - low) * (image.astype(np.float64) - low) + 0.5).clip(0, 255).astype(np.uint8)
