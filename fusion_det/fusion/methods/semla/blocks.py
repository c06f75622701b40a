"""What the SemLA networks are made of (Xie et al. 2023). Maps are (B,C,H,W); parameters have the published names."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn


class NormedConvolution(nn.Module):
    """3 × 3 convolution, batch norm, ReLU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.after(self.conv(x))

    def after(self, convolved: torch.Tensor) -> torch.Tensor:
        """What follows the convolution."""
        return self.bn(convolved).relu_()


class DepthwiseConvolution(nn.Module):
    """Depthwise 3 × 3 convolution, batch norm, ReLU, 1 × 1 convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.group_conv3x3 = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        self.projection = nn.Conv2d(channels, channels, 1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.projection(self.norm(self.group_conv3x3(x)).relu_())


class PixelMlp(nn.Module):
    """1 × 1 convolution to twice the channels, ReLU, 1 × 1 convolution back."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 2 * channels, 1)
        self.conv2 = nn.Conv2d(2 * channels, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv2(self.conv1(x).relu_())


class JConv(nn.Module):
    """A convolution that changes the number of channels, then depthwise and pixelwise convolutions beside what they refine."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.feat_trans = NormedConvolution(inputs, outputs)
        self.dwconv = DepthwiseConvolution(outputs)
        self.norm = nn.BatchNorm2d(outputs)
        self.mlp = PixelMlp(outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.refine(self.feat_trans(x))

    def refine(self, x: torch.Tensor) -> torch.Tensor:
        """All but the first convolution, (B,outputs,H,W) to the same."""
        x = x + self.dwconv(x)
        return x + self.mlp(self.norm(x))


class HaarTransform(nn.Module):
    """Haar's wavelets of every channel, (B,C,H,W) to (B,4C,H/2,W/2): all means of 2 × 2 pixels (doubled), then all differences
    down, across and diagonally.

    The published filters are squares of 1/√2 in float32, a little less than one half; they are in the state dict.
    """

    def __init__(self) -> None:
        super().__init__()
        half = torch.tensor(1 / math.sqrt(2)).square()
        signs = {"ll": ((1, 1), (1, 1)), "lh": ((1, 1), (-1, -1)), "hl": ((1, -1), (1, -1)), "hh": ((1, -1), (-1, 1))}
        for band, rows in signs.items():
            self.register_buffer(f"w_{band}", half * torch.tensor(rows)[None, None])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        filters = torch.cat([self.get_buffer(f"w_{band}") for band in ("ll", "lh", "hl", "hh")])  # (4,1,2,2)
        batch, channels, height, width = x.shape
        bands = F.conv2d(x.reshape(batch * channels, 1, height, width), filters, stride=2)
        return bands.unflatten(0, (batch, channels)).transpose(1, 2).flatten(1, 2)


class TokenMlp(nn.Module):
    """Linear to twice the channels, GELU, linear back."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc = nn.Sequential(nn.Linear(channels, 2 * channels), nn.GELU(), nn.Linear(2 * channels, channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.fc(x)
        return y


class SemanticCalibration(nn.Module):
    """Tokens (B,L,C) change by as much as what is salient in the other image is like them."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.qkv = nn.Linear(channels, channels, bias=False)
        self.proj_out = nn.Linear(channels, channels)
        self.norm1, self.norm2 = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.mlp = TokenMlp(channels)

    def forward(self, tokens: torch.Tensor, gate: torch.Tensor) -> torch.Tensor:
        """gate: (B,L), a factor on every token."""
        tokens = tokens + self.proj_out(gate[..., None] * self.qkv(self.norm1(tokens)))
        return tokens + self.mlp(self.norm2(tokens))


class LinearAttention(nn.Module):
    """Attention of (B,L,C) to itself by the kernel φ(q)·φ(k), φ = ELU + 1, which costs L·C²/heads and not L²."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj, self.k_proj, self.v_proj, self.merge = (
            nn.Linear(channels, channels, bias=False) for _ in range(4)
        )
        self.mlp = nn.Sequential(
            nn.Linear(2 * channels, channels, bias=False), nn.ReLU(), nn.Linear(channels, channels, bias=False)
        )
        self.norm1, self.norm2 = nn.LayerNorm(channels), nn.LayerNorm(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        length = x.shape[1]
        q, k, v = (
            part(x).unflatten(2, (self.heads, -1)).transpose(1, 2)  # (B,heads,L,d)
            for part in (self.q_proj, self.k_proj, self.v_proj)
        )
        q, k = F.elu(q) + 1, F.elu(k) + 1
        # v over the length and the result times it: so half precision holds the sums.
        keys_values = k.mT @ (v / length)  # (B,heads,d,d)
        weights = q @ k.sum(2)[..., None] + 1e-6  # (B,heads,L,1)
        attended = (q @ keys_values / weights * length).transpose(1, 2).flatten(2)
        message = self.norm1(self.merge(attended))
        return x + self.norm2(self.mlp(torch.cat((x, message), dim=2)))


class SpatialRelation(nn.Module):
    """Where the salient places of both images lie, relative to each other: maps (B,C,h,w) from two of saliency (B,1,h,w)."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.grid_embedding = JConv(2, channels)
        self.semantic_embedding = JConv(channels, channels)
        self.attention = LinearAttention(channels, heads)

    def forward(self, salient_vi: torch.Tensor, salient_ir: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        height, width = salient_vi.shape[-2:]
        # In training the batch norms see the same grid once for each image, as published.
        grid = self.grid_embedding(_positions(height, width, salient_vi).expand(len(salient_vi), -1, -1, -1))
        first, second = (self._relate(grid * salient) for salient in (salient_vi, salient_ir))
        return first, second

    def _relate(self, placed: torch.Tensor) -> torch.Tensor:
        x = self.semantic_embedding(placed)
        y: torch.Tensor = self.attention(x.flatten(2).mT).mT.unflatten(2, x.shape[-2:])
        return y


def _positions(height: int, width: int, like: torch.Tensor) -> torch.Tensor:
    """(1,2,height,width): row and column, from 0 to 1."""
    rows, columns = (
        torch.arange(size, device=like.device, dtype=like.dtype) / max(1, size - 1) for size in (height, width)
    )
    return torch.stack((rows[:, None].expand(height, width), columns.expand(height, width)))[None]
