"""Conversions that the published inference scripts of several methods share, to the bit."""

from __future__ import annotations

import cv2
import numpy as np

from fusion_det.errors import MethodError


def rounded_gray(image: np.ndarray) -> np.ndarray:
    """Luma as OpenCV computes it of floats, rounded to whole numbers, half to even.

    Args:
        image: uint8 (H,W) grey or (H,W,3) RGB.

    Returns:
        float32 (H,W) in 0 … 255, whole numbers.
    """
    if image.ndim == 2:
        return image.astype(np.float32)
    # In OpenCV's own order of channels, on which the order of its additions depends, and with it where a half falls.
    bgr = np.ascontiguousarray(image[..., ::-1], dtype=np.float32)
    return np.rint(cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY))


def stretched(fused: np.ndarray, method: str) -> np.ndarray:
    """255 · (x - min) / (max - min), float32 (H,W) to the same.

    Raises:
        MethodError: all pixels are equal, and the published division is by zero.
    """
    low, high = fused.min(), fused.max()
    if not low < high:
        raise MethodError(
            f"{method} fused a pair to an image without contrast, which its published procedure cannot stretch; "
            "use the common protocol for such pairs"
        )
    return (fused - low) / (high - low) * np.float32(255)


def saved_by_skimage(image: np.ndarray) -> np.ndarray:
    """8 bits of floats in 0 … 255 as scikit-image and imageio store them: rounded, halves down."""
    return np.floor(image.astype(np.float64) + 0.499999999).astype(np.uint8)
