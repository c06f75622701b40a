"""The FusionMamba network (Xie et al. 2024, arXiv:2404.09498): an encoder that both images go through, fusion at each level, one
decoder.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from fusion_det.fusion.methods.fusionmamba.blocks import (
    CrossBlock,
    DVSSBlock,
    PatchEmbedding,
    PatchExpanding,
    PatchMerging,
)
from fusion_det.fusion.methods.fusionmamba.config import FusionMambaConfig


class EncoderLayer(nn.Module):
    """Blocks, then patch merging except in the last layer."""

    def __init__(self, width: int, drops: list[float], states: int, *, merge: bool) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(DVSSBlock(width, states, drop) for drop in drops))
        self.downsample = PatchMerging(width) if merge else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.downsample(self.blocks(x))
        return y


class DecoderLayer(nn.Module):
    """Patch expanding except in the first layer, then blocks."""

    def __init__(self, width: int, drops: list[float], states: int, *, expand: bool) -> None:
        super().__init__()
        self.upsample = PatchExpanding(2 * width, width, 2) if expand else nn.Identity()
        self.blocks = nn.Sequential(*(DVSSBlock(width, states, drop) for drop in drops))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.blocks(self.upsample(x))
        return y


class FusionMambaNet(nn.Module):
    """The network; a published file is its state dict.

    As released, what ``Cross_block.0`` makes of the finest features is not used; here it is not computed, and its parameters
    are there to be loaded.
    """

    def __init__(self, config: FusionMambaConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or FusionMambaConfig()
        dims, states, last = config.dims, config.states, len(config.dims) - 1
        self.patch_embed1, self.patch_embed2 = (PatchEmbedding(dims[0], config.patch) for _ in range(2))
        drops = rising(config.drop_path, config.depths)
        self.layers = nn.ModuleList(
            EncoderLayer(width, drops[level], states, merge=level < last) for level, width in enumerate(dims)
        )
        self.Cross_block = nn.ModuleList(CrossBlock(width, states) for width in dims)
        drops = rising(config.drop_path, config.decoder_depths)
        self.layers_up = nn.ModuleList(
            DecoderLayer(width, drops[i], states, expand=i > 0) for i, width in enumerate(reversed(dims))
        )
        inner = 4 * dims[0] // config.patch**2
        self.final_up = PatchExpanding(dims[0], inner, config.patch)
        self.final_conv = nn.Conv2d(inner, 1, 1)

    def forward(self, ir: torch.Tensor, vi: torch.Tensor) -> torch.Tensor:
        """Fuse.

        Args:
            ir, vi: (b,1,H,W) infrared image and visible luma in [0,1], H and W multiples of ``config.size_multiple``.

        Returns:
            (b,1,H,W), the raw output: near [0,1] after training, but not clipped. An untrained network adds little to twice the
            sum of both sources.

        Raises:
            ValueError: sizes that do not go through the network, or differ.
        """
        multiple, (height, width) = self.config.size_multiple, ir.shape[-2:]
        if ir.shape != vi.shape or ir.dim() != 4 or ir.shape[1] != 1:
            raise ValueError(f"ir and vi are (b,1,H,W) of one size, not {tuple(ir.shape)} and {tuple(vi.shape)}")
        if min(height, width) < 1 or height % multiple or width % multiple:
            raise ValueError(f"H and W are multiples of {multiple}, not {height} and {width}")
        levels = self.encode(ir, vi)
        z = self.layers_up[0](sum(levels.pop().chunk(2)))
        for level in range(len(levels) - 1, 0, -1):
            z = self.layers_up[len(self.layers) - level](z + self.Cross_block[level](*levels.pop().chunk(2)))
        return self.project(z) + 2 * (vi + ir)

    def encode(self, ir: torch.Tensor, vi: torch.Tensor) -> list[torch.Tensor]:
        """What comes into each encoder layer, the finest first, and what leaves the last one: (2b,h,w,C), visible images first.

        Both go through together, as they go through the same layers.
        """
        levels = [torch.cat((self.patch_embed1(vi), self.patch_embed2(ir)))]
        for layer in self.layers:
            levels.append(layer(levels[-1]))
        return levels

    def project(self, z: torch.Tensor) -> torch.Tensor:
        """The image of the last features, (b,h,w,C) → (b,1,P·h,P·w): the last 1 × 1 convolution comes before the rearranging."""
        squares = F.linear(self.final_up.squares(z), self.final_conv.weight.flatten(1), self.final_conv.bias)
        return squares.squeeze(-1).transpose(2, 3).flatten(3, 4).flatten(1, 2)[:, None]


def rising(highest: float, depths: tuple[int, ...]) -> list[list[float]]:
    """Rates from 0 to ``highest`` in equal steps over all blocks, by layer."""
    total = sum(depths)
    rates = iter([highest * i / max(1, total - 1) for i in range(total)])
    return [[next(rates) for _ in range(depth)] for depth in depths]
