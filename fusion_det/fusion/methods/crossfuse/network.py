"""The CrossFuse networks (Li & Wu 2024, arXiv:2406.10581): an auto-encoder of each modality, and a network that fuses.

Maps are (B,C,H,W); parameters have the published names.
"""

from __future__ import annotations

import copy
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from fusion_det.fusion.methods.crossfuse.attention import CrossAttentionModule
from fusion_det.fusion.methods.crossfuse.config import CrossFuseConfig
from fusion_det.fusion.methods.crossfuse.convolutions import (
    AutoEncoder,
    Encoder,
    MirroredConvolution,
    enlarge,
    matched,
)
from fusion_det.fusion.strips import strips_of

MIN_SIZE = 136
"""Deep features of 17 × 17, the smallest that can be mirrored up to a tile."""
LITTLE = 1e-6
INFRARED = 0.5
"""Factor on the shallow features of the infrared image, as in the published code."""


class Pair(NamedTuple):
    """Infrared and visible maps."""

    ir: torch.Tensor
    vi: torch.Tensor


class BoxFilter(nn.Module):
    """A 3 × 3 convolution of all channels to as many, with weights that nothing changes: one ninth each.

    So all channels of the result are the same, the means of 3 × 3 pixels of the sum of all channels; one is computed.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((channels, channels, 3, 3), 1 / 9), requires_grad=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B,C,H,W) to (B,1,H,W), or (B,C,H,W) where a checkpoint holds weights that are not all the same."""
        first = self.weight.flatten()[0]
        if bool((self.weight == first).all()):
            return F.avg_pool2d(x.sum(1, keepdim=True), 3, stride=1, padding=1) * (9 * first)
        return F.conv2d(x, self.weight, padding=1)


class FixedWeights(nn.Module):
    """How much of each source's features is kept, from box filters. Results are (B,1,H,W); see :class:`BoxFilter`."""

    def __init__(self, config: CrossFuseConfig) -> None:
        super().__init__()
        self.conv_sh = BoxFilter(config.shallow)
        self.conv_de = BoxFilter(config.deep)

    def of_deep(self, deep: Pair) -> Pair:
        """Shares of the box-filtered features. Both may be negative, and large where their sum is nearly nothing."""
        return _shares(Pair(*(self.conv_de(features) for features in deep)))

    def of_shallow(self, shallow: Pair) -> Pair:
        """Shares, in [0,1], of how far the features are from the box-filtered ones."""
        return _shares(Pair(*((features - self.conv_sh(features)).abs_() for features in shallow)))


def _shares(values: Pair) -> Pair:
    total = values.ir + values.vi + LITTLE
    return Pair(values.ir / total, values.vi / total)


class Decoder(nn.Module):
    """Features of both sources, and what attention made of the deep ones, to the fused image before it is stretched."""

    def __init__(self, config: CrossFuseConfig) -> None:
        super().__init__()
        shallow, dense, deep = config.shallow, config.dense, config.deep
        self.conv1 = MirroredConvolution(deep, dense, norm=True)
        last = MirroredConvolution(shallow, shallow, norm=True)
        nn.init.constant_(last.get_parameter("conv2d.1.weight"), config.gain)
        self.conv_block = nn.Sequential(
            MirroredConvolution(dense, dense, norm=True),
            nn.Upsample(scale_factor=2),
            MirroredConvolution(dense, shallow, norm=True),
            nn.Upsample(scale_factor=2),
            last,
        )
        self.conv_last = MirroredConvolution(shallow, 1, 1, norm=True)
        self.weight = FixedWeights(config)

    def from_deep(self, attended: torch.Tensor, deep: Pair) -> torch.Tensor:
        """Deep features (B,C,h,w) to (B,shallow,8h,8w)."""
        share = self.weight.of_deep(deep)
        x = attended + share.ir * deep.ir + share.vi * deep.vi
        y: torch.Tensor = self.conv_block(enlarge(self.conv1(x)))
        return y

    def with_shallow(self, x: torch.Tensor, shallow: Pair) -> torch.Tensor:
        """(B,shallow,H,W), and as many shallow features, to (B,1,H,W)."""
        share = self.weight.of_shallow(shallow)
        return self.conv_last(x + INFRARED * share.ir * shallow.ir + share.vi * shallow.vi)


class FusionTransformer(nn.Module):
    """The network that fuses. A published ``fusetrans_…`` file is its state dict; ``conv_gra`` is published, and of no use."""

    def __init__(self, config: CrossFuseConfig) -> None:
        super().__init__()
        self.conv_gra = nn.Conv2d(config.shallow, config.shallow, 3, bias=False).requires_grad_(False)
        self.cross_atten_block = CrossAttentionModule(config)
        self.decoder_fusion = Decoder(config)

    def forward(self, shallow: Pair, deep: Pair) -> torch.Tensor:
        """Fuse features of images whose sides are multiples of 16, all places at once, as in training, to (B,1,H,W)."""
        attended = self.cross_atten_block(*deep)
        return self.decoder_fusion.with_shallow(self.decoder_fusion.from_deep(attended, deep), shallow)


class CrossFuseNet(nn.Module):
    """All three networks."""

    def __init__(self, config: CrossFuseConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or CrossFuseConfig()
        self.auto_encoder_ir = AutoEncoder(config)
        # They start alike, so that their features mean the same as long as they have learnt little: one layer reads both.
        self.auto_encoder_vi = copy.deepcopy(self.auto_encoder_ir)
        self.fusion = FusionTransformer(config)

    @property
    def encoders(self) -> tuple[Encoder, Encoder]:
        """Of the infrared and of the visible image."""
        return self.auto_encoder_ir.fea_encoder1, self.auto_encoder_vi.fea_encoder1

    def forward(self, ir: torch.Tensor, vi: torch.Tensor) -> torch.Tensor:
        """Fuse.

        Args:
            ir, vi: (B,1,H,W) infrared image and visible luma in [0,1], H and W at least 136.

        Returns:
            (B,1,H,W), each image stretched so that its darkest pixel is 0 and its brightest 1, as the published network does.

        Raises:
            ValueError: smaller images, or other shapes.
        """
        if ir.shape != vi.shape or ir.dim() != 4 or ir.shape[1] != 1 or min(ir.shape[-2:]) < MIN_SIZE:
            raise ValueError(
                f"ir and vi are (B,1,H,W) of one size from {MIN_SIZE} × {MIN_SIZE} on, not {tuple(ir.shape)} and "
                f"{tuple(vi.shape)}"
            )
        return stretched(torch.cat([self.unstretched(*pair) for pair in zip(ir.split(1), vi.split(1), strict=True)]))

    def unstretched(self, ir: torch.Tensor, vi: torch.Tensor) -> torch.Tensor:
        """The same before it is stretched, of one pair."""
        (encode_ir, encode_vi), decoder = self.encoders, self.fusion.decoder_fusion
        deep = Pair(encode_ir.deep(ir), encode_vi.deep(vi))
        x = decoder.from_deep(self.fusion.cross_atten_block.in_tiles(*deep), deep)
        x = matched(x, ir)
        # The shallow features are the largest maps, and one convolution: they are computed once more, a strip at a time.
        fused = []
        for strip in strips_of(x, halo=2):
            shallow = Pair(encode_ir.conv1.conv2d(strip.cut(ir)), encode_vi.conv1.conv2d(strip.cut(vi)))
            fused.append(strip.inside(decoder.with_shallow(strip.cut(x), shallow)))
        return torch.cat(fused, dim=2)


def stretched(image: torch.Tensor) -> torch.Tensor:
    """(x - min) / (max - min + 1e-6) of every image (B,C,H,W) and channel."""
    low, high = image.amin((2, 3), keepdim=True), image.amax((2, 3), keepdim=True)
    return (image - low) / (high - low + LITTLE)
