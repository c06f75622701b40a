"""EMMA's sensing networks (Zhao et al. 2024, arXiv:2305.11443), needed for training alone.

A_i and A_v guess the infrared and the visible image from a fused one. They are trained first, on images that other methods
fused, and judge the fused images afterwards.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from fusion_det.fusion.methods.emma.network import upsampling

LEVELS = 5
SIZE_MULTIPLE = 2 ** (LEVELS - 1)


class DoubleConvolution(nn.Module):
    """Twice a 3 × 3 convolution, batch norm and ReLU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, padding=1),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
            nn.Conv2d(outputs, outputs, 3, padding=1),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.conv(x)
        return y


class SensingNet(nn.Module):
    """A U-Net. A published ``Ai.pth`` or ``Av.pth`` is its state dict.

    Args:
        width: channels of the finest level; each has twice those of the level above.
    """

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(LEVELS)]
        for level, (inputs, outputs) in enumerate(zip((1, *widths), widths, strict=False), start=1):
            self.add_module(f"down{level}", DoubleConvolution(inputs, outputs))
        for level in range(LEVELS, 1, -1):
            fine, coarse = widths[level - 2], widths[level - 1]
            self.add_module(f"up_sample{level}", upsampling(coarse, fine))
            self.add_module(f"up{level - 1}", DoubleConvolution(coarse, fine))
        self.last = nn.Sequential(nn.Conv2d(width, 1, 3, padding=1), nn.Sigmoid())

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """A fused image (B,1,H,W), H and W multiples of 16, to the source's (B,1,H,W) in (0,1).

        Raises:
            ValueError: another size.
        """
        height, width = image.shape[-2:]
        if height % SIZE_MULTIPLE or width % SIZE_MULTIPLE:
            raise ValueError(f"H and W are multiples of {SIZE_MULTIPLE}, not {height} and {width}")
        maps = [self._part("down1", image)]
        for level in range(2, LEVELS + 1):
            maps.append(self._part(f"down{level}", F.max_pool2d(maps[-1], 2)))
        x = maps.pop()
        for level in range(LEVELS, 1, -1):
            x = torch.cat((self._part(f"up_sample{level}", x), maps.pop()), dim=1)
            x = self._part(f"up{level - 1}", x)
        return self._part("last", x)

    def _part(self, name: str, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.get_submodule(name)(x)
        return y
