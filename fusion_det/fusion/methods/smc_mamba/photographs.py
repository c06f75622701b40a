"""Two foci or two exposures made of one photograph: there are few real pairs of them, and many photographs.

Luma images are (B,1,H,W) floats in [0,1]; what is drawn is drawn for each image by itself, with torch's own random numbers.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from fusion_det.fusion.methods.smc_mamba.losses import MULTI_EXPOSURE, MULTI_FOCUS
from fusion_det.fusion.training.recipe import Sources
from fusion_det.fusion.training.terms import gaussian_means

_BLUR = 0.7, 3.0
"""σ of what is out of focus, in pixels."""
_STOPS = 0.5, 2.5
"""By how many stops the light of an exposure is too much or too little."""
_GAMMA = 2.2
"""Of the display: light is grey level to this power."""


def two_photographs(image: torch.Tensor) -> Sources:
    """The same number of pairs of one of the tasks, either as likely."""
    task, make = (MULTI_FOCUS, two_foci) if torch.rand(()) < 0.5 else (MULTI_EXPOSURE, two_exposures)
    pairs = [make(one[None]) for one in image]
    first, second = (torch.cat(images) for images in zip(*pairs, strict=True))
    return Sources(first, second.expand(-1, 3, -1, -1), second, task)


def two_foci(image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """An image (1,1,H,W) sharp here in the first and there in the second, by regions of random shape."""
    sigma = _between(*_BLUR)
    window = 2 * round(3 * sigma) + 1
    blurred = gaussian_means(image, window, sigma, "replicate")
    cells = int(torch.randint(2, 6, ()))
    hills = F.interpolate(torch.randn(1, 1, cells, cells), image.shape[-2:], mode="bicubic", align_corners=True)
    near = torch.sigmoid((hills - hills.median()) * _between(5, 100)).to(image)
    return blurred + near * (image - blurred), image + near * (blurred - image)


def two_exposures(image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """An image (1,1,H,W) overexposed and underexposed: what exceeds the range is lost, and what is between 8-bit levels."""
    light = image**_GAMMA
    over, under = (light * 2**stops for stops in (_between(*_STOPS), -_between(*_STOPS)))
    first, second = ((exposed.clamp(0, 1) ** (1 / _GAMMA) * 255).round() / 255 for exposed in (over, under))
    return first, second


def _between(low: float, high: float) -> float:
    return low + (high - low) * float(torch.rand(()))
