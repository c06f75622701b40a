"""The EMMA fusion network "U-Fuser" (Zhao et al. 2024, arXiv:2305.11443): two encoders, fusion at each level, one decoder.

Maps are (B,C,H,W); parameters have the published names.
"""

from __future__ import annotations

import torch
from torch import nn

from fusion_det.fusion.methods.emma.config import EMMAConfig
from fusion_det.fusion.restormer import GlobalBlock

SIZE_MULTIPLE, MIN_SIZE = 8, 16


def mirrored(inputs: int, outputs: int, *, stride: int = 1, bias: bool = False) -> nn.Conv2d:
    """A 3 × 3 convolution of the map mirrored at its borders."""
    return nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=bias, padding_mode="reflect")


class ResidualUnit(nn.Module):
    """x + two convolutions of it with a ReLU in between."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            mirrored(channels, channels, bias=True), nn.ReLU(inplace=True), mirrored(channels, channels, bias=True)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.conv(x)


class LocalFeature(nn.Module):
    """Two residual units."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.Extraction = nn.Sequential(ResidualUnit(channels), ResidualUnit(channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.Extraction(x)
        return y


class Block(nn.Module):
    """A convolution, then attention between channels and convolutions side by side, and a convolution of both."""

    def __init__(self, inputs: int, outputs: int, heads: int) -> None:
        super().__init__()
        self.embed = mirrored(inputs, outputs)
        self.GlobalFeature = GlobalBlock(outputs, heads, padding_mode="reflect")
        self.LocalFeature = LocalFeature(outputs)
        self.FFN = mirrored(2 * outputs, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.embed(x).contiguous(memory_format=torch.channels_last)
        y: torch.Tensor = self.FFN(torch.cat((self.GlobalFeature(x), self.LocalFeature(x)), dim=1))
        return y


class UFuser(nn.Module):
    """The network. A published ``EMMA.pth`` is its state dict."""

    def __init__(self, config: EMMAConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or EMMAConfig()
        heads, (c1, c2, c3, c4) = config.heads, config.widths
        for side in ("V", "I"):
            for level, (inputs, outputs) in enumerate(((1, c1), (c1, c2), (c2, c3), (c3, c4)), start=1):
                self.add_module(f"{side}_en_{level}", Block(inputs, outputs, heads))
            for level, width in enumerate((c1, c2, c3), start=1):
                self.add_module(f"{side}_down{level}", mirrored(width, width, stride=2))
        for level, width in enumerate(config.widths, start=1):
            self.add_module(f"f_{level}", Block(2 * width, width, heads))
        for level, (inputs, outputs) in enumerate(((2 * c1, c1), (2 * c2, c2), (2 * c3, c3), (c4, c4)), start=1):
            self.add_module(f"de_{level}", Block(inputs, outputs, heads))
        for level, (inputs, outputs) in enumerate(((c2, c1), (c3, c2), (c4, c3)), start=2):
            self.add_module(f"up{level}", upsampling(inputs, outputs))
        self.last = nn.Sequential(mirrored(c1, 1, bias=True), nn.Sigmoid())

    def forward(self, ir: torch.Tensor, vi: torch.Tensor) -> torch.Tensor:
        """Fuse.

        Args:
            ir, vi: (B,1,H,W) infrared image and visible luma in [0,1], H and W multiples of 8 and at least 16.

        Returns:
            (B,1,H,W) in (0,1).

        Raises:
            ValueError: sizes that do not go through the network, or differ.
        """
        height, width = ir.shape[-2:]
        if ir.shape != vi.shape or ir.dim() != 4 or ir.shape[1] != 1:
            raise ValueError(f"ir and vi are (b,1,H,W) of one size, not {tuple(ir.shape)} and {tuple(vi.shape)}")
        if min(height, width) < MIN_SIZE or height % SIZE_MULTIPLE or width % SIZE_MULTIPLE:
            raise ValueError(f"H and W are multiples of {SIZE_MULTIPLE}, at least {MIN_SIZE}, not {height} and {width}")
        fused = []
        for level in range(1, 5):
            if level > 1:
                ir, vi = self._part(f"I_down{level - 1}", ir), self._part(f"V_down{level - 1}", vi)
            ir, vi = self._part(f"I_en_{level}", ir), self._part(f"V_en_{level}", vi)
            fused.append(self._part(f"f_{level}", torch.cat((ir, vi), dim=1)))
        del ir, vi
        x = self._part("de_4", fused.pop())
        for level in range(3, 0, -1):
            x = torch.cat((self._part(f"up{level + 1}", x), fused.pop()), dim=1)
            x = self._part(f"de_{level}", x)
        return self._part("last", x)

    def _part(self, name: str, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.get_submodule(name)(x)
        return y


def upsampling(inputs: int, outputs: int) -> nn.Sequential:
    """Twice the height and width by a transposed convolution, then ReLU."""
    return nn.Sequential(nn.ConvTranspose2d(inputs, outputs, 4, 2, padding=1, bias=False), nn.ReLU(inplace=True))
