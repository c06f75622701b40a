"""FGCCNet, which finds salient objects with the help of fused images (arXiv:2305.09999, Sec. 3.3). For training alone.

Its parameters have their published names; a released ``model_sod.pth`` is its state dict. Two decoders work on the visible and
on the thermal features; a third, on the sum of what these two have found, gives the joint map.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models import resnet34

from fusion_det.fusion.methods.irfs.attention import CrossAttention, FusedGuidance
from fusion_det.fusion.methods.irfs.losses import SaliencyMaps

MULTIPLE = 32
"""Height and width are multiples of this."""

_WIDTHS, _REDUCTIONS, _COMPRESSED = (64, 128, 256, 512), (4, 4, 2, 1), (64, 64, 96, 128)
_WIDTH, _NARROW = 64, 32


class ConvNorm(nn.Sequential):
    """Convolution without bias and batch norm, no activation; the size stays as it is."""

    def __init__(self, inside: int, outside: int, kernel: int | tuple[int, int], dilation: int = 1) -> None:
        conv = nn.Conv2d(inside, outside, kernel, padding="same", dilation=dilation, bias=False)
        super().__init__(OrderedDict(conv=conv, bn=nn.BatchNorm2d(outside)))


class Context(nn.Module):
    """Branches with fields of view of several sizes, put together."""

    def __init__(self, inside: int) -> None:
        super().__init__()
        self.branch0 = nn.Sequential(ConvNorm(inside, _WIDTH, 1))
        self.branch1, self.branch2, self.branch3 = (
            nn.Sequential(
                ConvNorm(inside, _WIDTH, 1),
                ConvNorm(_WIDTH, _WIDTH, (1, size)),
                ConvNorm(_WIDTH, _WIDTH, (size, 1)),
                ConvNorm(_WIDTH, _WIDTH, 3, dilation=size),
            )
            for size in (3, 5, 7)
        )
        self.conv_cat = ConvNorm(4 * _WIDTH, _WIDTH, 3)
        self.conv_res = ConvNorm(inside, _WIDTH, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        branches = torch.cat([branch(x) for branch in (self.branch0, self.branch1, self.branch2, self.branch3)], dim=1)
        return (self.conv_cat(branches) + self.conv_res(x)).relu()


class JointEncoder(nn.Module):
    """ResNet-34 over all three images, which meet after each of its layers; four maps of 64 channels come out."""

    def __init__(self) -> None:
        super().__init__()
        backbone: Any = resnet34()
        backbone.maxpool = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        backbone.avgpool = backbone.fc = nn.Identity()
        self.backbone = backbone
        self.CP = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, between, 3, padding=1), nn.ReLU(), Context(between))
            for width, between in zip(_WIDTHS, _COMPRESSED, strict=True)
        )
        for stage, (width, reduction) in enumerate(zip(_WIDTHS, _REDUCTIONS, strict=True), start=2):
            self.add_module(f"att_block{stage}", CrossAttention(width, reduction))
            self.add_module(f"att_block{stage}_1", FusedGuidance(width))

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        net = self.backbone
        x = net.maxpool(net.relu(net.bn1(net.conv1(images))))
        found = []
        for stage, compress in enumerate(self.CP, start=2):
            visible, thermal, fused = net.get_submodule(f"layer{stage - 1}")(x).chunk(3)
            sources = self.get_submodule(f"att_block{stage}_1")(visible, thermal, fused)
            x = torch.cat((*self.get_submodule(f"att_block{stage}")(*sources), fused))
            # The largest map reaches no output, but its batch norms learn their statistics, as published.
            found.append(compress(x))
        return found


class Aggregation(nn.Module):
    """From the three coarser maps of a source, (B,32,·,·), to one of an eighth of the image's size."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_upsample1, self.conv_upsample2, self.conv_upsample3, self.conv_upsample4 = (
            ConvNorm(_NARROW, _NARROW, 3) for _ in range(4)
        )
        self.conv_upsample5 = ConvNorm(2 * _NARROW, 2 * _NARROW, 3)
        self.conv_concat2 = ConvNorm(2 * _NARROW, 2 * _NARROW, 3)  # published, and never used
        self.conv_concat3 = ConvNorm(3 * _NARROW, 3 * _NARROW, 3)
        self.conv4 = ConvNorm(3 * _NARROW, _NARROW, 3)
        self.conv5 = nn.Conv2d(_NARROW, 1, 1)

    def forward(
        self, coarsest: torch.Tensor, coarse: torch.Tensor, fine: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(features (B,32,h,w), map (B,1,h,w)), at the size of ``fine``."""
        coarsest_up, coarse_up = _enlarged(coarsest, 2), _enlarged(coarse, 2)
        joined = self.conv_upsample1(coarsest_up) * coarse
        joined = torch.cat((joined, self.conv_upsample4(coarsest_up)), dim=1)
        product = self.conv_upsample2(_enlarged(coarsest_up, 2)) * self.conv_upsample3(coarse_up) * fine
        whole = torch.cat((product, self.conv_upsample5(_enlarged(joined, 2))), dim=1)
        features = self.conv4(self.conv_concat3(whole))
        return features, self.conv5(features)


class DecoderBlock(nn.Module):
    """A residual block of 32 channels; with ``enlarge`` the second convolution and the shortcut double the size."""

    def __init__(self, *, enlarge: bool) -> None:
        super().__init__()
        width = _NARROW
        self.conv1, self.bn1 = nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv2: nn.Module
        self.upsample: nn.Module
        if enlarge:
            self.conv2 = nn.ConvTranspose2d(width, width, 3, stride=2, padding=1, output_padding=1, bias=False)
            shortcut = nn.ConvTranspose2d(width, width, 2, stride=2, bias=False)
            self.upsample = nn.Sequential(shortcut, nn.BatchNorm2d(width))
        else:
            self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
            self.upsample = nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inner = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))
        return (inner + self.upsample(x)).relu()


class FGCCNet(nn.Module):
    """The network under its published names.

    Its backbone is torchvision's ResNet-34 but for the pooling, and is to begin with torchvision's ImageNet weights.
    """

    def __init__(self) -> None:
        super().__init__()
        self.JLModule = JointEncoder()
        self.score_JL = nn.Conv2d(_WIDTH, 1, 1)
        for source in ("rfb", "thm"):
            for level in (2, 3, 4):
                self.add_module(f"{source}{level}_1", nn.Conv2d(_WIDTH, _NARROW, 1))
        self.agg1, self.thm_agg1 = Aggregation(), Aggregation()
        self.conv_s_f = ConvNorm(_WIDTH, _NARROW, 3)  # published, and never used
        self.agant1, self.agant2 = (
            nn.Sequential(nn.Conv2d(_NARROW, _NARROW, 1, bias=False), nn.BatchNorm2d(_NARROW), nn.ReLU())
            for _ in range(2)
        )
        self.deconv1, self.deconv2 = (
            nn.Sequential(*(DecoderBlock(enlarge=last) for last in (False, False, True))) for _ in range(2)
        )
        self.out2_conv = nn.Conv2d(_NARROW, 1, 1)

    def forward(self, visible: torch.Tensor, thermal: torch.Tensor, fused: torch.Tensor) -> SaliencyMaps:
        """Find salient objects.

        Args:
            visible: (B,3,H,W) RGB, normalised as for ImageNet when this network is trained or tested, and in [0,1] when it
                teaches the fusion network (as published). thermal: (B,1,H,W), fused: (B,3,H,W) RGB, both in [0,1]. H and W
                are multiples of ``MULTIPLE``.

        Raises:
            ValueError: other sizes.
        """
        height, width = visible.shape[-2:]
        if height % MULTIPLE or width % MULTIPLE:
            raise ValueError(f"H and W are multiples of {MULTIPLE}, not {height} and {width}")
        levels = self.JLModule(torch.cat((visible, thermal.expand_as(visible), fused)))
        coarse = self.score_JL(levels[-1])
        seen = self._decode(levels, 0, "rfb", self.agg1)
        warm = self._decode(levels, 1, "thm", self.thm_agg1)
        joint = self.deconv1(self.agant1(_enlarged(seen[0] + warm[0], 2)))
        joint = self.out2_conv(self.deconv2(self.agant2(joint)))
        from_visible, from_thermal = _enlarged(seen[1], 8), _enlarged(warm[1], 8)
        return SaliencyMaps(coarse, from_visible, from_thermal, joint, from_visible + from_thermal + joint)

    def _decode(
        self, levels: list[torch.Tensor], source: int, prefix: str, aggregate: nn.Module
    ) -> tuple[torch.Tensor, torch.Tensor]:
        fine, coarse, coarsest = (
            self.get_submodule(f"{prefix}{level}_1")(levels[level - 1].chunk(3)[source]) for level in (2, 3, 4)
        )
        return aggregate(coarsest, coarse, fine)


def _enlarged(x: torch.Tensor, times: int) -> torch.Tensor:
    return F.interpolate(x, scale_factor=times, mode="bilinear", align_corners=True)
