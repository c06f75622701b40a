"""The diffusion prior of DDFM: the U-Net of guided diffusion (Dhariwal and Nichol 2021, arXiv:2105.05233), for any width.

Maps are (B,C,H,W), channels last on CPUs; parameters have the names of the published file.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Literal, TypeVar

import torch
import torch.nn.functional as F
from torch import nn

from fusion_det.fusion.methods.ddfm.config import DDFMConfig

Resampling = Literal["down", "up", "none"]
Layer = TypeVar("Layer", bound=nn.Module)

MAX_PERIOD = 10_000


class ResidualBlock(nn.Module):
    """Two convolutions beside a skip. The time scales and shifts what the second one gets.

    Args:
        embedding: length of the time's embedding.
        resampling: block and skip see the image at half, or at twice, its size.
    """

    def __init__(
        self, channels: int, out_channels: int, embedding: int, groups: int, resampling: Resampling = "none"
    ) -> None:
        super().__init__()
        self.resampling = resampling
        self.in_layers = nn.Sequential(
            nn.GroupNorm(groups, channels), nn.SiLU(inplace=True), nn.Conv2d(channels, out_channels, 3, padding=1)
        )
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(embedding, 2 * out_channels))
        # Published with a dropout of 0 between activation and convolution, whose place in the names stays.
        self.out_layers = nn.Sequential(
            nn.GroupNorm(groups, out_channels),
            nn.SiLU(inplace=True),
            nn.Identity(),
            zeroed(nn.Conv2d(out_channels, out_channels, 3, padding=1)),
        )
        self.skip_connection = (
            nn.Identity() if channels == out_channels else nn.Conv2d(channels, out_channels, kernel_size=1)
        )

    def forward(self, x: torch.Tensor, embedding: torch.Tensor) -> torch.Tensor:
        """embedding: (B,E), or (1,E) of a time that the whole batch shares."""
        norm, activation, convolution = self.in_layers
        h = convolution(self._resampled(activation(norm(x))))
        x = self.skip_connection(self._resampled(x))
        norm, *rest = self.out_layers
        h = _modulated(norm, h, *self.emb_layers(embedding).chunk(2, dim=1))
        for layer in rest:
            h = layer(h)
        return h.add_(x)

    def _resampled(self, x: torch.Tensor) -> torch.Tensor:
        if self.resampling == "down":
            return F.avg_pool2d(x, 2)
        return F.interpolate(x, scale_factor=2.0, mode="nearest") if self.resampling == "up" else x


class AttentionBlock(nn.Module):
    """Every position looks at all others; the channels of a head are together: query, key, value."""

    def __init__(self, channels: int, head_width: int, groups: int) -> None:
        super().__init__()
        self.heads = channels // head_width
        self.norm = nn.GroupNorm(groups, channels)
        self.qkv = nn.Conv1d(channels, 3 * channels, 1)
        self.proj_out = zeroed(nn.Conv1d(channels, channels, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        height = x.shape[-2]
        tokens = self.norm(x).flatten(2).mT  # (B,HW,C), for maps with the channels last without a copy
        qkv = F.linear(tokens, self.qkv.weight[..., 0], self.qkv.bias)
        q, k, v = qkv.unflatten(2, (self.heads, 3, -1)).permute(3, 0, 2, 1, 4)
        attended = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        added = F.linear(attended, self.proj_out.weight[..., 0], self.proj_out.bias)
        return x + added.mT.unflatten(2, (height, -1))


class Stage(nn.ModuleList):
    """What happens between two places where maps are kept for the way up, or taken from it: one entry of the published lists."""

    def forward(self, x: torch.Tensor, embedding: torch.Tensor) -> torch.Tensor:
        for layer in self:
            x = layer(x, embedding) if isinstance(layer, ResidualBlock) else layer(x)
        return x


class UNet(nn.Module):
    """Tells the noise in an image of which it is told how noisy it is. It knows nothing of fusion.

    Initialised as published: what closes a block, and the network, is zero.
    """

    def __init__(self, config: DDFMConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or DDFMConfig()
        width, embedding = config.width, 4 * config.width
        self.time_embed = nn.Sequential(nn.Linear(width, embedding), nn.SiLU(), nn.Linear(embedding, embedding))
        self.input_blocks = nn.ModuleList(_way_down(config))
        bottom = config.multipliers[-1] * width
        self.middle_block = Stage(
            [
                ResidualBlock(bottom, bottom, embedding, config.groups),
                AttentionBlock(bottom, config.head_width, config.groups),
                ResidualBlock(bottom, bottom, embedding, config.groups),
            ]
        )
        self.output_blocks = nn.ModuleList(_way_up(config))
        self.out = nn.Sequential(
            nn.GroupNorm(config.groups, width), nn.SiLU(inplace=True), zeroed(nn.Conv2d(width, 6, 3, padding=1))
        )

    def forward(self, x: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        """Predict.

        Args:
            x: (B,3,H,W), the noisy RGB image; H and W multiples of ``config.size_multiple``.
            timesteps: (B,), or (1,) for the whole batch, from 0 (hardly any noise) to 999.

        Returns:
            (B,6,H,W): the noise, and what the published training makes of its variance, which no sampler here asks for.
        """
        if x.device.type == "cpu":
            x = x.contiguous(memory_format=torch.channels_last)
        embedding = self.time_embed(embedded(timesteps, self.config.width).to(x.dtype))
        kept = []
        for stage in self.input_blocks:
            x = stage(x, embedding)
            kept.append(x)
        x = self.middle_block(x, embedding)
        for stage in self.output_blocks:
            x = torch.cat((x, kept.pop()), dim=1)  # on a line of its own: nothing may hold on to the maps that it joins
            x = stage(x, embedding)
        predicted: torch.Tensor = self.out(x)
        return predicted


def embedded(timesteps: torch.Tensor, length: int) -> torch.Tensor:
    """(B,) to (B,length) float32: cosines, then sines, of frequencies that fall geometrically from 1 towards 1 / 10000."""
    half = length // 2
    exponents = torch.arange(half, dtype=torch.float32, device=timesteps.device) / half
    angles = timesteps.float()[:, None] * torch.exp(-math.log(MAX_PERIOD) * exponents)
    return torch.cat((angles.cos(), angles.sin()), dim=1)


def zeroed(layer: Layer) -> Layer:
    """A layer whose parameters begin at zero."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


def _modulated(norm: nn.Module, x: torch.Tensor, scale: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
    """norm(x) · (1 + scale) + shift, for scale and shift (B,C) or (1,C)."""
    if not isinstance(norm, nn.GroupNorm):
        raise TypeError(f"{type(norm).__name__} is no group norm")
    if len(scale) > 1:
        return norm(x) * (1 + scale[..., None, None]) + shift[..., None, None]
    # As the norm's own scale and shift, two passes over the map fewer.
    weight, bias = norm.weight * (1 + scale[0]), torch.addcmul(shift[0], norm.bias, 1 + scale[0])
    return F.group_norm(x, norm.num_groups, weight, bias, norm.eps)


def _way_down(config: DDFMConfig) -> Iterator[nn.Module]:
    width, embedding = config.width, 4 * config.width
    channels = config.multipliers[0] * width
    yield Stage([nn.Conv2d(3, channels, 3, padding=1)])
    for level, multiplier in enumerate(config.multipliers):
        for _ in range(config.depth):
            out_channels = multiplier * width
            yield Stage(
                [
                    ResidualBlock(channels, out_channels, embedding, config.groups),
                    *_attention(config, level, out_channels),
                ]
            )
            channels = out_channels
        if level + 1 < len(config.multipliers):
            yield Stage([ResidualBlock(channels, channels, embedding, config.groups, "down")])


def _way_up(config: DDFMConfig) -> Iterator[nn.Module]:
    width, embedding = config.width, 4 * config.width
    kept = list(_kept_channels(config))
    channels = kept[-1]
    for level, multiplier in reversed(list(enumerate(config.multipliers))):
        for i in range(config.depth + 1):
            out_channels = multiplier * width
            layers: list[nn.Module] = [
                ResidualBlock(channels + kept.pop(), out_channels, embedding, config.groups),
                *_attention(config, level, out_channels),
            ]
            if level and i == config.depth:
                layers.append(ResidualBlock(out_channels, out_channels, embedding, config.groups, "up"))
            yield Stage(layers)
            channels = out_channels


def _kept_channels(config: DDFMConfig) -> Iterator[int]:
    """Of the maps kept on the way down, in the order in which they are made."""
    yield config.multipliers[0] * config.width
    for level, multiplier in enumerate(config.multipliers):
        smaller = level + 1 < len(config.multipliers)
        yield from [multiplier * config.width] * (config.depth + smaller)


def _attention(config: DDFMConfig, level: int, channels: int) -> Iterable[nn.Module]:
    if 2**level in config.attention:
        yield AttentionBlock(channels, config.head_width, config.groups)
