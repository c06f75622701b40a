"""The DeFusion network (Liang et al., ECCV 2022): two images are taken apart into what they share and what each has alone.

One encoder serves both images, one decoder the parts of both; the fused image is made of the sum of all parts' last features.
The published state dict names the shared modules twice, "upper" (infrared) and "lower" (visible).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from fusion_det.fusion.methods.defusion.blocks import Size, Stage, conv3x3, enlarge
from fusion_det.fusion.methods.defusion.config import DeFusionConfig


class Features(NamedTuple):
    """The last features of the common part, the infrared's own and the visible's own; (b,2w,H,W) each."""

    common: torch.Tensor
    unique_ir: torch.Tensor
    unique_vi: torch.Tensor


class Parts(NamedTuple):
    """What two images were taken apart into, and what was made of it; all (b,3,H,W), at least 0."""

    common: torch.Tensor
    unique_ir: torch.Tensor
    unique_vi: torch.Tensor
    fused: torch.Tensor


class Encoded(NamedTuple):
    """An image's features, (b,8w,⌈H/2⌉,⌈W/2⌉), (b,16w,⌈H/4⌉,⌈W/4⌉) and (b,32w,⌈H/8⌉,⌈W/8⌉) for a width w (8)."""

    half: torch.Tensor
    quarter: torch.Tensor
    eighth: torch.Tensor


class DeFusionNet(nn.Module):
    """The network under its published names. Published initialisation: normal, σ² = 2 / (kernel's pixels · outputs)."""

    def __init__(self, config: DeFusionConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or DeFusionConfig()
        w, blocks = config.width, config.encoder_blocks
        self.encoder_upper = nn.Sequential(
            conv3x3(3, 2 * w), nn.ReLU(), Stage(2 * w, w, blocks[0], pooled=True, shortcut="encoder")
        )
        self.upper_encoder_layer1 = Stage(4 * w, 2 * w, blocks[1], shortcut="encoder")
        self.upper_encoder_layer2 = Stage(8 * w, 4 * w, blocks[2], stride=2, pooled=True, shortcut="encoder")
        self.upper_encoder_layer3 = Stage(16 * w, 8 * w, blocks[3], stride=2, pooled=True, shortcut="encoder")
        self.encoder_lower = self.encoder_upper
        self.lower_encoder_layer1 = self.upper_encoder_layer1
        self.lower_encoder_layer2 = self.upper_encoder_layer2
        self.lower_encoder_layer3 = self.upper_encoder_layer3
        self.common_encoder = nn.Sequential(Stage(64 * w, 32 * w, config.shared_blocks, shortcut="encoder"))
        blocks = config.common_blocks
        self.decoder_common_layer1 = Stage(192 * w, 8 * w, blocks[0])
        self.decoder_common_layer2 = Stage(64 * w, 2 * w, blocks[1])
        self.decoder_common_layer3 = Stage(24 * w, w // 2, blocks[2])
        self.decoder_common_layer4 = nn.Sequential(Stage(2 * w, w // 2, blocks[3]))
        self.decoder_common_projection_layer = nn.Sequential(conv3x3(2 * w, 3), nn.ReLU())
        blocks = config.unique_blocks
        self.decoder_upper_layer1 = Stage(160 * w, 12 * w, blocks[0])
        self.decoder_upper_layer2 = Stage(64 * w, 4 * w, blocks[1])
        self.decoder_upper_layer3 = Stage(24 * w, 2 * w, blocks[2])
        self.decoder_upper_layer4 = nn.Sequential(Stage(8 * w, w // 2, blocks[3]))
        self.decoder_upper_projection_layer = nn.Sequential(conv3x3(2 * w, 3), nn.ReLU())
        self.decoder_lower_layer1 = self.decoder_upper_layer1
        self.decoder_lower_layer2 = self.decoder_upper_layer2
        self.decoder_lower_layer3 = self.decoder_upper_layer3
        self.decoder_lower_layer4 = self.decoder_upper_layer4
        self.decoder_lower_projection_layer = self.decoder_upper_projection_layer
        self.fusion_rule = nn.Sequential(conv3x3(2 * w, 3), nn.ReLU())
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=math.sqrt(2 / (math.prod(module.kernel_size) * module.out_channels)))

    def forward(self, ir: torch.Tensor, vi: torch.Tensor) -> torch.Tensor:
        """The fused image (b,3,H,W), at least 0, of infrared and visible images of any size, (b,3,H,W) or (b,1,H,W) in [0,1]."""
        return self.fuse(self.features(ir, vi))

    def fuse(self, features: Features) -> torch.Tensor:
        """The fused image (b,3,H,W) of the parts' last features."""
        fused: torch.Tensor = self.fusion_rule(summed(features))
        return fused

    def decompose(self, ir: torch.Tensor, vi: torch.Tensor, *, training: bool = False, slope: float = 0.0) -> Parts:
        """All that the network makes of two images, given as to :meth:`forward`.

        training: project the common part as in the published training, by a layer of its own. The published inference projects
        all parts by one layer. slope: of values below 0, which are otherwise cut off.
        """
        common, ir, vi = features = self.features(ir, vi)
        project = self.decoder_upper_projection_layer
        project_common = self.decoder_common_projection_layer if training else project
        layers = ((project_common, common), (project, ir), (project, vi), (self.fusion_rule, summed(features)))
        return Parts(*(F.leaky_relu(layer[0](maps), slope) for layer, maps in layers))

    def features(self, ir: torch.Tensor, vi: torch.Tensor) -> Features:
        """The last features of each part."""
        size = size_of(ir)
        infrared, visible = self._encode(ir), self._encode(vi)
        deepest = self.common_encoder(torch.cat((infrared.eighth, visible.eighth), dim=1))
        t = self.decoder_common_layer1(torch.cat((deepest, infrared.eighth, visible.eighth), dim=1))
        t = self.decoder_common_layer2.merge(t, (infrared.quarter, visible.quarter), size_of(visible.quarter))
        t = self.decoder_common_layer3.merge(t, (infrared.half, visible.half), size_of(visible.half))
        common = self.decoder_common_layer4(enlarge(t, size))
        return Features(common, self._decode(deepest, infrared, size), self._decode(deepest, visible, size))

    def _encode(self, image: torch.Tensor) -> Encoded:
        """In torch's channels-last layout, in which everything that follows takes a fifth less time on a CPU."""
        rgb = image.expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)
        half = self.upper_encoder_layer1(F.max_pool2d(self.encoder_upper(rgb), 3, 2, 1))
        quarter = self.upper_encoder_layer2(half)
        return Encoded(half, quarter, self.upper_encoder_layer3(quarter))

    def _decode(self, deepest: torch.Tensor, own: Encoded, size: Size) -> torch.Tensor:
        t = self.decoder_upper_layer1(torch.cat((deepest, own.eighth), dim=1))
        t = self.decoder_upper_layer2.merge(t, (own.quarter,), size_of(own.quarter))
        t = self.decoder_upper_layer3.merge(t, (own.half,), size_of(own.half))
        maps: torch.Tensor = self.decoder_upper_layer4[0].merge(t, (), size)  # type: ignore[operator]
        return maps


def summed(features: Features) -> torch.Tensor:
    """What the fused image is made of."""
    return features.unique_ir + features.unique_vi + features.common


def size_of(maps: torch.Tensor) -> Size:
    """(H, W)."""
    return maps.shape[-2], maps.shape[-1]
