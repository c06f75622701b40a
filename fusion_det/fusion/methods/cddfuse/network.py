"""The CDDFuse networks (Zhao et al. 2023, arXiv:2211.14461): an encoder that takes an image apart into base and detail
features, one fusion layer for each of both, and a decoder. Maps are (B,C,H,W); parameters have the published names.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from fusion_det.fusion.methods.cddfuse.config import CDDFuseConfig
from fusion_det.fusion.restormer import GlobalBlock, RestormerBlock, conv
from fusion_det.fusion.strips import by_strips


class Features(NamedTuple):
    """What the encoder makes of an image, (B,C,H,W) each."""

    base: torch.Tensor
    detail: torch.Tensor


class InvertedResidual(nn.Module):
    """1 × 1 to twice the channels, depthwise 3 × 3 of the mirrored map, 1 × 1 back; ReLU6 in between."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = 2 * channels
        self.bottleneckBlock = nn.Sequential(
            conv(channels, inner, 1),
            nn.ReLU6(inplace=True),
            nn.ReflectionPad2d(1),
            nn.Conv2d(inner, inner, 3, groups=inner, bias=False),
            nn.ReLU6(inplace=True),
            conv(inner, channels, 1),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return by_strips(self.bottleneckBlock, x)


class DetailNode(nn.Module):
    """One step of an invertible network: each half of the channels changes by what is computed from the other."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.theta_phi, self.theta_rho, self.theta_eta = (InvertedResidual(half) for _ in range(3))
        self.shffleconv = nn.Conv2d(channels, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = by_strips(self.shffleconv, x, halo=0)
        z1, z2 = y.chunk(2, dim=1)
        if y.requires_grad:
            z2 = z2 + self.theta_phi(z1)
            return torch.cat((z1 * self.theta_rho(z2).exp() + self.theta_eta(z2), z2), dim=1)
        z2.add_(self.theta_phi(z1))
        z1.mul_(self.theta_rho(z2).exp_()).add_(self.theta_eta(z2))
        return y


class DetailFeature(nn.Module):
    """``nodes`` of them in turn."""

    def __init__(self, channels: int, nodes: int) -> None:
        super().__init__()
        self.net = nn.Sequential(*(DetailNode(channels) for _ in range(nodes)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.net(x)
        return y


class PatchEmbedding(nn.Module):
    """The names of the published first convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.proj = conv(1, channels, 3)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.proj(image).contiguous(memory_format=torch.channels_last)


class Encoder(nn.Module):
    """An image (B,1,H,W) in [0,1] of either modality to its features."""

    def __init__(self, config: CDDFuseConfig) -> None:
        super().__init__()
        self.patch_embed = PatchEmbedding(config.width)
        self.encoder_level1 = nn.Sequential(*restormer_blocks(config))
        self.baseFeature = GlobalBlock(config.width, config.heads)
        self.detailFeature = DetailFeature(config.width, config.detail_nodes)

    def forward(self, image: torch.Tensor) -> Features:
        shared = self.encoder_level1(self.patch_embed(image))
        detail = self.detailFeature(shared)
        return Features(self.baseFeature(shared), detail)


class Decoder(nn.Module):
    """Features to an image (B,1,H,W): σ(o + skip), o the last layer's output. The published skip is the visible image."""

    def __init__(self, config: CDDFuseConfig) -> None:
        super().__init__()
        width = config.width
        self.reduce_channel = conv(2 * width, width, 1)
        self.encoder_level2 = nn.Sequential(*restormer_blocks(config))
        self.output = nn.Sequential(
            conv(width, width // 2, 3), nn.LeakyReLU(0.01, inplace=True), conv(width // 2, 1, 3)
        )

    def forward(self, features: Features, skip: torch.Tensor | None = None) -> torch.Tensor:
        mixed = self.encoder_level2(self.reduce(features))
        image = by_strips(self.output, mixed, halo=2)
        return torch.sigmoid(image if skip is None else image + skip)

    def reduce(self, features: Features) -> torch.Tensor:
        """Both features in as many channels as one of them has."""
        for_base, for_detail = self.reduce_channel.weight.chunk(2, dim=1)
        # One after the other: a map of both is the largest there would be.
        base = by_strips(lambda part: F.conv2d(part, for_base), features.base, halo=0)
        return _sum(base, by_strips(lambda part: F.conv2d(part, for_detail), features.detail, halo=0))


class CDDFuseNet(nn.Module):
    """All four networks. A published file holds their state dicts under the names that they have here."""

    def __init__(self, config: CDDFuseConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or CDDFuseConfig()
        self.DIDF_Encoder = Encoder(config)
        self.DIDF_Decoder = Decoder(config)
        self.BaseFuseLayer = GlobalBlock(config.width, config.heads)
        self.DetailFuseLayer = DetailFeature(config.width, nodes=1)

    def forward(self, ir: torch.Tensor, vi: torch.Tensor) -> torch.Tensor:
        """Fuse.

        Args:
            ir, vi: (B,1,H,W) infrared image and visible luma in [0,1], H and W at least 2.

        Returns:
            (B,1,H,W) in (0,1); about ½ to 0.73 where the network adds nothing, for the visible image goes through a sigmoid.
        """
        # Nothing may hold on to the sources' features while they are fused, or these lines take a third more memory.
        features = self.fuse_features(self._summed_features(ir, vi))
        return self.DIDF_Decoder(features, skip=vi)

    def fuse_features(self, summed: Features) -> Features:
        """The features of the fused image, from the sums of both sources' features."""
        return Features(self.BaseFuseLayer(summed.base), self.DetailFuseLayer(summed.detail))

    def _summed_features(self, ir: torch.Tensor, vi: torch.Tensor) -> Features:
        from_vi, from_ir = self.DIDF_Encoder(vi), self.DIDF_Encoder(ir)
        return Features(*(_sum(x, y) for x, y in zip(from_vi, from_ir, strict=True)))


def restormer_blocks(config: CDDFuseConfig) -> Iterator[RestormerBlock]:
    """``depth`` of them, as encoder and decoder begin."""
    return (RestormerBlock(config.width, config.heads, 2 * config.width) for _ in range(config.depth))


def _sum(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """x + y, in the place of x where no gradient is recorded."""
    return x + y if x.requires_grad or y.requires_grad else x.add_(y)
