"""Training patches as EMMA and CDDFuse cut them: a fixed grid over each pair, without patches that show nothing."""

from __future__ import annotations

import torch

SIZE, STRIDE = 128, 200
LEAST_CONTRAST = 0.1


def patch_corners(height: int, width: int, size: int = SIZE, stride: int = STRIDE) -> list[tuple[int, int]]:
    """(top, left) of every patch of an image: 6 of 480 × 640 pixels; none where the image is smaller than a patch."""
    return [(top, left) for top in range(0, height - size + 1, stride) for left in range(0, width - size + 1, stride)]


def has_contrast(patch: torch.Tensor, least: float = LEAST_CONTRAST) -> bool:
    """Whether (P90 - P10) / P90 of all values is at least ``least``, P10 and P90 being percentiles of values ≥ 0.

    An all but black patch, whose P90 is 0, has none. A pair is dropped where either of its patches has none.
    """
    low, high = torch.quantile(patch.flatten().float(), patch.new_tensor([0.1, 0.9], dtype=torch.float32)).tolist()
    return high > 0 and (high - low) / high >= least
