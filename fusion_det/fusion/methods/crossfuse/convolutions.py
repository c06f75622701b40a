"""The convolutional parts of CrossFuse (Li & Wu 2024, arXiv:2406.10581). Maps are (B,C,H,W); names are the published ones.

There is no activation anywhere: convolutions, batch norms and the largest of 2 × 2 pixels, no more.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from fusion_det.fusion.methods.crossfuse.config import CrossFuseConfig
from fusion_det.fusion.strips import by_strips


class MirroredConvolution(nn.Module):
    """A convolution of the map mirrored at its borders, followed by batch norm if asked; keeps H and W."""

    def __init__(self, inputs: int, outputs: int, size: int = 3, *, norm: bool = False) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(inputs, outputs, size, padding=size // 2, padding_mode="reflect")]
        if norm:
            layers.append(nn.BatchNorm2d(outputs))
        self.conv2d = nn.Sequential(*layers)

        self.reach = size // 2

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return by_strips(self.conv2d, x, halo=self.reach)


class DenseBlock(nn.Module):
    """Three convolutions, each of all maps so far, and one of all of them."""

    REACH = 4

    def __init__(self, inputs: int, config: CrossFuseConfig) -> None:
        super().__init__()
        self.dense_conv0, self.dense_conv1, self.dense_conv2 = (
            MirroredConvolution(inputs + i * config.dense, config.dense) for i in range(3)
        )
        self.adjust_conv = MirroredConvolution(inputs + 3 * config.dense, config.deep)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return by_strips(self._dense, x, halo=self.REACH)

    def _dense(self, x: torch.Tensor) -> torch.Tensor:
        for layer in (self.dense_conv0, self.dense_conv1, self.dense_conv2):
            x = torch.cat((x, layer.conv2d(x)), dim=1)
        y: torch.Tensor = self.adjust_conv.conv2d(x)
        return y


class Encoder(nn.Module):
    """An image (B,1,H,W) in [0,1] to features of every pixel and of every eighth. Halving drops an odd last row or column."""

    def __init__(self, config: CrossFuseConfig) -> None:
        super().__init__()
        self.conv1 = MirroredConvolution(1, config.shallow)
        self.dense_blocks = nn.Sequential(
            DenseBlock(config.shallow, config), nn.MaxPool2d(2), DenseBlock(config.deep, config), nn.MaxPool2d(2)
        )
        if config.level is not None:
            nn.init.constant_(self.get_parameter("dense_blocks.2.adjust_conv.conv2d.0.bias"), config.level)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The shallow features (B,shallow,H,W) and the deep ones (B,deep,⌊⌊⌊H/2⌋/2⌋/2⌋,…)."""
        shallow = self.conv1(image)
        return shallow, self.dense_blocks(F.max_pool2d(shallow, 2))

    def deep(self, image: torch.Tensor) -> torch.Tensor:
        """The deep ones alone; nothing holds the shallow ones meanwhile."""
        y: torch.Tensor = self.dense_blocks(F.max_pool2d(self.conv1(image), 2))
        return y


class RebuildingDecoder(nn.Module):
    """Features back to the image they are of; for training alone."""

    def __init__(self, config: CrossFuseConfig) -> None:
        super().__init__()
        self.conv1 = MirroredConvolution(config.deep, config.dense)
        self.conv_block = nn.Sequential(
            MirroredConvolution(config.dense, config.dense),
            nn.Upsample(scale_factor=2),
            MirroredConvolution(config.dense, config.shallow),
            nn.Upsample(scale_factor=2),
        )
        self.conv_last = MirroredConvolution(config.shallow, 1, 1)

    def forward(self, shallow: torch.Tensor, deep: torch.Tensor) -> torch.Tensor:
        """(B,1,H,W), about 1 where the image is white."""
        x = self.conv_block(enlarge(self.conv1(deep)))
        return self.conv_last(matched(x, shallow) + shallow)


class AutoEncoder(nn.Module):
    """Of one modality. A published ``auto_encoder_…`` file is its state dict."""

    def __init__(self, config: CrossFuseConfig) -> None:
        super().__init__()
        self.fea_encoder1 = Encoder(config)
        self.recon_decoder1 = RebuildingDecoder(config)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """An image (B,1,H,W) in [0,1], H and W at least 16, as it is rebuilt."""
        rebuilt: torch.Tensor = self.recon_decoder1(*self.fea_encoder1(image))
        return rebuilt


def enlarge(x: torch.Tensor) -> torch.Tensor:
    """Every pixel as 2 × 2."""
    return F.interpolate(x, scale_factor=2.0)


def matched(x: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """``x`` mirrored at its borders up to the size of ``like``: what halving dropped, the smaller half before the map."""
    missing = [wanted - found for wanted, found in zip(like.shape[-2:], x.shape[-2:], strict=True)]
    if not any(missing):
        return x
    top, left = (size // 2 for size in missing)
    return F.pad(x, (left, missing[1] - left, top, missing[0] - top), mode="reflect")
