"""The SemLA networks (Xie et al. 2023): one that finds what corresponds in two images, and a small one that fuses.

Maps are (B,C,H,W); parameters have the published names.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from fusion_det.fusion.methods.semla.blocks import HaarTransform, JConv, SemanticCalibration, SpatialRelation
from fusion_det.fusion.methods.semla.config import SemLAConfig
from fusion_det.fusion.strips import by_strips

STRIDE = 8
"""Pixels between two places of the registration network's maps."""
TEMPERATURE = 0.1
"""Of the similarity of two places."""
GATE = 1.5
SCENE = 0.6, 0.6
"""Factors on both sources' features; they do not add up to one."""
SALIENT = 0.7, 0.6
"""Of the infrared and visible features where a pair is fused by what is salient."""
_REACH = 6
"""Rows around a pixel that its fused value depends on: four convolutions, and two of the last block."""
_LONGER = 8
"""Strips are so many times as long as usual: the channels are few, and each strip computes twelve rows twice."""


class Registered(NamedTuple):
    """What the registration network makes of a pair: features to match (B,C,h,w), saliency in (0,1) (B,1,h,w)."""

    features_vi: torch.Tensor
    features_ir: torch.Tensor
    salient_vi: torch.Tensor
    salient_ir: torch.Tensor


class RegistrationNet(nn.Module):
    """From two images that need not be aligned to features and saliency at every eighth pixel."""

    def __init__(self, config: SemLAConfig) -> None:
        super().__init__()
        full, half, quarter = config.stem
        width, (hidden, last) = config.width, config.saliency
        self.dwt = HaarTransform()
        self.reg0 = JConv(1, full)
        self.reg1 = JConv(4 * full, half)
        self.reg2 = JConv(4 * half, quarter)
        self.reg3 = JConv(4 * quarter, width)
        self.pred_reg = nn.Sequential(*(JConv(width, width) for _ in range(3)))
        self.sa0 = JConv(width, width)
        self.sa1 = JConv(width, hidden)
        self.sa2 = JConv(hidden, last)
        self.sa3 = JConv(last, 1)
        self.csc0, self.csc1 = (SemanticCalibration(width) for _ in range(2))
        self.ssr = SpatialRelation(width, config.heads)

    def forward(self, ir: torch.Tensor, vi: torch.Tensor) -> Registered:
        """ir, vi: (B,1,H,W) in [0,1], H and W multiples of 8.

        Raises:
            ValueError: another size.
        """
        plain_vi, plain_ir = self.extract(ir, vi)
        salient_ir = self.saliency(plain_ir)
        salient_vi = self.saliency(self.calibrate(plain_vi, plain_ir, salient_ir))
        relation_vi, relation_ir = self.ssr(salient_vi, salient_ir)
        return Registered(plain_vi + relation_vi, plain_ir + relation_ir, salient_vi, salient_ir)

    def extract(self, ir: torch.Tensor, vi: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Features of the visible and of the infrared image, (B,C,H/8,W/8) each, before saliency has a part in them."""
        if ir.shape != vi.shape or ir.dim() != 4 or ir.shape[1] != 1 or ir.shape[2] % STRIDE or ir.shape[3] % STRIDE:
            raise ValueError(
                f"ir and vi are (B,1,H,W) of one size, H and W multiples of {STRIDE}, not {tuple(ir.shape)} and "
                f"{tuple(vi.shape)}"
            )
        x = self.reg0(torch.cat((vi, ir)))
        for block in (self.reg1, self.reg2, self.reg3):
            x = block(self.dwt(x))
        of_vi, of_ir = self.pred_reg(x).chunk(2)
        return of_vi, of_ir

    def saliency(self, features: torch.Tensor) -> torch.Tensor:
        """(B,C,h,w) to (B,1,h,w) in (0,1)."""
        for block in (self.sa0, self.sa1, self.sa2, self.sa3):
            features = block(features)
        return features.sigmoid()

    def calibrate(self, plain_vi: torch.Tensor, plain_ir: torch.Tensor, salient_ir: torch.Tensor) -> torch.Tensor:
        """Visible features as they would be if they knew what is salient in the infrared image, (B,C,h,w)."""
        # Every infrared place spreads its saliency over the visible places that are like it.
        shares = similarity(plain_vi, plain_ir).softmax(1)  # (B,visible,infrared)
        gate = GATE * (shares @ salient_ir.flatten(2).mT)[..., 0]
        tokens = self.csc1(self.csc0(plain_vi.flatten(2).mT, gate), gate)
        return tokens.mT.unflatten(2, plain_vi.shape[-2:])


class Convolution(nn.Module):
    """3 × 3 without bias, then LeakyReLU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.leaky_relu_(self.conv(x), 0.2)


class FusionNet(nn.Module):
    """Four convolutions of each image, a weighted sum, and one block that makes an image of it."""

    def __init__(self, config: SemLAConfig) -> None:
        super().__init__()
        first, second, third, fourth = config.fusion
        self.fuse1 = Convolution(1, first)
        self.fuse2 = Convolution(first, second)
        self.fuse3 = Convolution(second, third)
        self.fuse4 = Convolution(third, fourth)
        self.fuse5 = JConv(sum(config.fusion), 1)

    def forward(self, ir: torch.Tensor, vi: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """Fuse (B,1,H,W) images in [0,1], of any size, to (B,1,H,W) in (0,1).

        Args:
            mask: (B,1,H,W) in [0,1], what is salient: there both sources count, elsewhere the visible one alone. None fuses
                the whole scene in one way.
        """
        sources = torch.cat((ir, vi) if mask is None else (ir, vi, mask), dim=1)
        return by_strips(self._fuse, sources, halo=_REACH, times=_LONGER)

    def rebuild(self, image: torch.Tensor) -> torch.Tensor:
        """An image (B,1,H,W) as the network sees it by itself, without the rule of fusion: what training compares with it."""
        return _to_image(self.fuse5(torch.cat(self._features(image), dim=1)))

    def _fuse(self, sources: torch.Tensor) -> torch.Tensor:
        images, mask = sources[:, :2], sources[:, 2:]
        maps = self._features(images.transpose(0, 1).flatten(0, 1)[:, None])
        halves = (both.chunk(2) for both in maps)
        mixed = torch.cat([_mixed(of_ir, of_vi, mask) for of_ir, of_vi in halves], dim=1)
        return _to_image(self.fuse5(mixed))

    def _features(self, images: torch.Tensor) -> list[torch.Tensor]:
        maps = [self.fuse1(images)]
        for layer in (self.fuse2, self.fuse3, self.fuse4):
            maps.append(layer(maps[-1]))
        return maps


class SemLANet(nn.Module):
    """Both networks under their published names: ``backbone`` registers, ``fusion`` fuses."""

    def __init__(self, config: SemLAConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or SemLAConfig()
        self.backbone = RegistrationNet(config)
        self.fusion = FusionNet(config)

    def forward(self, ir: torch.Tensor, vi: torch.Tensor) -> torch.Tensor:
        """Fuse an aligned pair as a scene: (B,1,H,W) infrared image and visible luma in [0,1] to (B,1,H,W) in (0,1).

        Raises:
            ValueError: other shapes.
        """
        if ir.shape != vi.shape or ir.dim() != 4 or ir.shape[1] != 1:
            raise ValueError(f"ir and vi are (B,1,H,W) of one size, not {tuple(ir.shape)} and {tuple(vi.shape)}")
        return self.fusion(ir, vi)


def similarity(features_vi: torch.Tensor, features_ir: torch.Tensor) -> torch.Tensor:
    """How alike every visible and every infrared place are, (B,C,h,w) twice to (B,h·w,h·w): products over C and 0.1."""
    channels = features_vi.shape[1]
    return (features_vi.flatten(2).mT @ features_ir.flatten(2)) / (channels * TEMPERATURE)


def _mixed(of_ir: torch.Tensor, of_vi: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    if mask.shape[1] == 0:
        return SCENE[0] * of_ir + SCENE[1] * of_vi
    return SALIENT[0] * of_ir * mask + SALIENT[1] * of_vi * mask + of_vi * (1 - mask)


def _to_image(y: torch.Tensor) -> torch.Tensor:
    return (y.tanh() + 1) / 2
