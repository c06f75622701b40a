"""The S4Fusion network: two encoders, fusion at several levels, one decoder (arXiv:2405.20881, Fig. 2 and Eqs. 5 and 6)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from fusion_det.fusion.methods.s4fusion.ablations import fusion_level
from fusion_det.fusion.methods.s4fusion.blocks import (
    FinalExpansion,
    PatchEmbedding,
    PatchExpanding,
    PatchMerging,
    VSSBlock,
)
from fusion_det.fusion.methods.s4fusion.config import PATCH_SIZE, PATCH_STRIDE, S4FusionConfig


class EncoderLayer(nn.Module):
    """VSS blocks, then patch merging except in the last layer. Returns the features before and after the merging."""

    def __init__(self, width: int, depth: int, config: S4FusionConfig, *, merge: bool) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(VSSBlock(width, config.states, config.expansion) for _ in range(depth)))
        self.downsample = PatchMerging(width) if merge else nn.Identity()

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        features = self.blocks(x)
        return features, self.downsample(features)


class DecoderLayer(nn.Module):
    """Patch expanding except in the first layer, then VSS blocks."""

    def __init__(self, width: int, depth: int, config: S4FusionConfig, *, expand: bool) -> None:
        super().__init__()
        self.upsample = PatchExpanding(width) if expand else nn.Identity()
        self.blocks = nn.Sequential(*(VSSBlock(width, config.states, config.expansion) for _ in range(depth)))

    def forward(self, x: torch.Tensor, fused: torch.Tensor | None = None) -> torch.Tensor:
        """``fused`` is added after the expanding."""
        x = self.upsample(x)
        return self.blocks(x if fused is None else x + fused)


class VMUNet(nn.Module):
    """The network below the published wrapper ``vmunet``; suffix ``_x`` is infrared, ``_y`` visible luma."""

    def __init__(self, config: S4FusionConfig) -> None:
        super().__init__()
        self.config = config
        dims, depths, last = config.dims, config.depths, len(config.dims) - 1
        self.patch_embed_x, self.patch_embed_y = PatchEmbedding(dims[0]), PatchEmbedding(dims[0])
        self.layers_x, self.layers_y = (
            nn.ModuleList(
                EncoderLayer(width, depth, config, merge=level < last)
                for level, (width, depth) in enumerate(zip(dims, depths, strict=True))
            )
            for _ in range(2)
        )
        self.fusion_layers = nn.ModuleList(fusion_level(width, config) for width in dims)
        self.layers_up = nn.ModuleList(
            DecoderLayer(dims[level], depths[level], config, expand=level < last) for level in range(last, -1, -1)
        )
        self.final_up = FinalExpansion(dims[0])
        self.final_conv = nn.Conv2d(dims[0] // 4, 1, 1)

    def forward(self, ir: torch.Tensor, vi: torch.Tensor) -> torch.Tensor:
        levels, deepest = self.encode(ir, vi)
        fused = [self.fusion_layers[level](torch.stack(levels[level])) for level in self.config.fused_levels]
        return self.project(self.decode(deepest, fused))

    def encode(
        self, ir: torch.Tensor, vi: torch.Tensor
    ) -> tuple[list[tuple[torch.Tensor, torch.Tensor]], torch.Tensor]:
        """The infrared and visible features (b,H,W,C) that each level is to fuse, the shallowest first (those of levels whose
        fusion is not used among them), and the sum of the deepest features, with which the decoder begins.
        """
        x, y = self.patch_embed_x(ir), self.patch_embed_y(vi)
        levels = []
        for infrared, visible in zip(self.layers_x, self.layers_y, strict=True):
            came_in = x, y
            x_features, x = infrared(x)
            y_features, y = visible(y)
            levels.append(came_in if self.config.wiring == "released" else (x_features, y_features))
        return levels, x + y

    def decode(self, z: torch.Tensor, fused: Sequence[torch.Tensor]) -> torch.Tensor:
        """The last features (b,h,w,C) from the sum of the deepest and the fused ones of each used level, shallowest first."""
        waiting = list(fused)
        if self.config.wiring == "equations":
            for layer in self.layers_up:
                z = layer(z, waiting.pop())
            return z
        z = self.layers_up[0](z)
        for layer in self.layers_up[1:]:
            z = layer(z + waiting.pop())
        return z

    def project(self, z: torch.Tensor) -> torch.Tensor:
        """The image of the last features, (b,h,w,C) → (b,1,3h+1,3w+1).

        The published code expands to 4C channels, folds these as C/4 maps of overlapping patches (summed, not averaged) and
        mixes the maps by a 1 × 1 convolution. All three are linear: one transposed convolution with the product of their
        weights does the same for a twelfth of the work.
        """
        maps = self.final_conv.in_channels
        patches = self.final_up.expand.weight.view(maps, PATCH_SIZE**2, -1)
        kernel = torch.einsum("m,mkc->kc", self.final_conv.weight.flatten(), patches)
        _, height, width, _ = z.shape
        columns = F.linear(z, kernel).flatten(1, 2).mT
        size = PATCH_STRIDE * height + 1, PATCH_STRIDE * width + 1
        image = F.fold(columns, size, PATCH_SIZE, stride=PATCH_STRIDE)  # (b,1,H,W)
        return image + self.final_conv.bias  # type: ignore[operator]


class S4FusionNet(nn.Module):
    """The network under its published names; a released ``model.pkl`` holds its state dict under the key ``model``."""

    def __init__(self, config: S4FusionConfig | None = None) -> None:
        super().__init__()
        self.vmunet = VMUNet(config or S4FusionConfig())

    @property
    def config(self) -> S4FusionConfig:
        return self.vmunet.config

    def forward(self, ir: torch.Tensor, vi: torch.Tensor) -> torch.Tensor:
        """Fuse.

        Args:
            ir, vi: (b,1,H,W) infrared image and visible luma in [0,1], H and W ≡ 1 modulo ``config.size_multiple`` and
                larger than 1.

        Returns:
            (b,1,H,W), the raw output: near [0,1] after training, but not clipped.

        Raises:
            ValueError: sizes that do not go through the network without a remainder, or differ.
        """
        multiple = self.config.size_multiple
        height, width = ir.shape[-2:]
        if ir.shape != vi.shape or ir.dim() != 4 or ir.shape[1] != 1:
            raise ValueError(f"ir and vi are (b,1,H,W) of one size, not {tuple(ir.shape)} and {tuple(vi.shape)}")
        if min(height, width) <= 1 or height % multiple != 1 or width % multiple != 1:
            raise ValueError(f"H and W are {multiple}k + 1 with k ≥ 1, not {height} and {width}; pad with zeros")
        return self.vmunet(ir, vi)
