"""Blocks of Restormer (Zamir et al. 2022, arXiv:2111.09881) as EMMA and CDDFuse have them: attention between the channels
of a map, not between its pixels, and a gated MLP. Maps are (B,C,H,W), best in torch's channels-last layout; parameters have the
published names.

What is computed is what was published, by less work and with fewer maps:

- Channels are compared by the products of their q and k and divided by their lengths afterwards; no normalised copies are made.
- The attention A is a small matrix for each head, and what follows it a 1 × 1 convolution P: P·A is computed, and applied
  to v, instead of A to v and P to that.
- A 1 × 1 convolution and a 3 × 3 convolution with nothing in between, not even a bias (so that zeros beyond the border stay
  zeros), are one 3 × 3 convolution with the product of their weights: a third of the multiply-adds.
- Without gradients, on a CPU, maps go through in strips of rows (:mod:`fusion_det.fusion.strips`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

from fusion_det.fusion.strips import by_strips, strips_of

Padding = Literal["zeros", "reflect"]
Maps = Callable[[torch.Tensor], torch.Tensor]

_SHORTEST = 1e-12
"""Channels are divided by their length or by this, whichever is longer."""


def conv(inputs: int, outputs: int, size: int, groups: int = 1, padding_mode: Padding = "zeros") -> nn.Conv2d:
    """A convolution without bias that keeps H and W."""
    return nn.Conv2d(inputs, outputs, size, padding=size // 2, groups=groups, bias=False, padding_mode=padding_mode)


class ChannelNorm(nn.Module):
    """Layer norm over the channels of each pixel, (B,C,H,W) to the same in channels-last layout."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.LayerNorm(channels, eps=1e-5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        normed: torch.Tensor = self.body(x.permute(0, 2, 3, 1))
        return normed.permute(0, 3, 1, 2)


class DepthwiseAttention(nn.Module):
    """Restormer's attention: q, k, v by a 1 × 1 and a depthwise 3 × 3 convolution.

    Args:
        heads: into which the channels are divided, neighbours together.
    """

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))
        self.qkv = conv(channels, 3 * channels, 1)
        self.qkv_dwconv = conv(3 * channels, 3 * channels, 3, groups=3 * channels)
        self.project_out = conv(channels, channels, 1)

    def forward(self, x: torch.Tensor, norm: nn.Module) -> torch.Tensor:
        """x + attention(norm(x))."""
        return attend(x, lambda part: self.qkv_dwconv(self.qkv(norm(part))), self.temperature, self.project_out.weight)


class FullAttention(nn.Module):
    """The attention of EMMA and of CDDFuse's base features: q, k, v by a 1 × 1 and a full 3 × 3 convolution."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(heads, 1, 1))
        self.qkv1 = conv(channels, 3 * channels, 1)
        self.qkv2 = conv(3 * channels, 3 * channels, 3)
        self.proj = conv(channels, channels, 1)

    def forward(self, x: torch.Tensor, norm: nn.Module) -> torch.Tensor:
        """x + attention(norm(x))."""
        kernel = torch.einsum("omyx,mi->oiyx", self.qkv2.weight, self.qkv1.weight[..., 0, 0])
        if len(self.scale) < x.shape[1]:
            return attend(x, lambda part: F.conv2d(norm(part), kernel, padding=1), self.scale, self.proj.weight)
        # A head of one channel has nothing to choose from: A is 1 whatever q, k and the scale are, and all is one convolution.
        to_values = torch.einsum("om,miyx->oiyx", self.proj.weight[..., 0, 0], kernel.chunk(3)[2])
        return by_strips(lambda part: F.conv2d(norm(part), to_values, padding=1), x, residual=True)


def attend(x: torch.Tensor, to_qkv: Maps, scale: torch.Tensor, projection: torch.Tensor) -> torch.Tensor:
    """x + P softmax(scale · q̂ k̂ᵀ) v, where q̂ and k̂ are the channels of q and k over their length.

    Args:
        x: (B,C,H,W).
        to_qkv: makes q, k, v, below each other (B,3C,H,W), of x; looks one pixel around.
        scale: (heads,1,1). The softmax is over a row of each head's (C/heads,C/heads) matrix.
        projection: P, the weight of a 1 × 1 convolution (C,C,1,1).
    """
    heads, strips = len(scale), strips_of(x)
    values, products, lengths = [], [], []
    for strip in strips:
        qkv = _pixels(strip.inside(to_qkv(strip.cut(x))))  # (B,n,3C)
        channels = qkv.shape[-1] // 3
        qk, v = qkv.split((2 * channels, channels), dim=-1)
        # A strip's v shall not keep its q and k alive.
        values.append(v if len(strips) == 1 else v.clone())
        q, k = qk.to(_accurate(qk.dtype)).unflatten(-1, (2, heads, -1)).unbind(2)
        products.append(torch.einsum("bnhd,bnhe->bhde", q, k))
        lengths.append(torch.linalg.vector_norm(qk, dim=1, dtype=q.dtype))
    length = torch.linalg.vector_norm(torch.stack(lengths), dim=0).clamp_min(_SHORTEST).unflatten(-1, (2, heads, -1))
    product = torch.stack(products).sum(0) / (length[:, 0, ..., None] * length[:, 1, :, None])
    attention = (product * scale.to(product.dtype)).softmax(-1)  # (B,heads,d,d)
    by_head = projection[..., 0, 0].to(product.dtype).unflatten(1, (heads, -1))
    matrix = torch.einsum("ohd,bhde->bheo", by_head, attention).flatten(1, 2).to(x.dtype)  # (B,C,C), transposed
    if len(strips) == 1:
        return _map(torch.baddbmm(_pixels(x), values[0], matrix), x.shape[-1])
    out = torch.empty_like(x, memory_format=torch.channels_last)
    for strip in strips:
        torch.baddbmm(_pixels(strip.of(x)), values.pop(0), matrix, out=_pixels(strip.of(out)))
    return out


def _accurate(dtype: torch.dtype) -> torch.dtype:
    """What sums over all pixels are kept in: half precision would overflow."""
    return torch.promote_types(dtype, torch.float32)


def _pixels(x: torch.Tensor) -> torch.Tensor:
    """(B,C,H,W) as (B,H·W,C); a view, if the layout is channels last, of strips too."""
    return x.permute(0, 2, 3, 1).flatten(1, 2)


def _map(pixels: torch.Tensor, width: int) -> torch.Tensor:
    """(B,H·W,C) as (B,C,H,W); a view."""
    return pixels.unflatten(1, (-1, width)).permute(0, 3, 1, 2)


class GatedMlp(nn.Module):
    """1 × 1 to twice ``hidden`` channels, grouped 3 × 3, GELU of the first half times the second, 1 × 1 back."""

    def __init__(self, channels: int, hidden: int, groups: int, padding_mode: Padding = "zeros") -> None:
        super().__init__()
        self.project_in = conv(channels, 2 * hidden, 1)
        self.dwconv = conv(2 * hidden, 2 * hidden, 3, groups, padding_mode)
        self.project_out = conv(hidden, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gate, values = self.dwconv(self.project_in(x)).chunk(2, dim=1)
        gate = F.gelu(gate)
        gated = gate * values if gate.requires_grad else gate.mul_(values)
        out: torch.Tensor = self.project_out(gated)
        return out


class RestormerBlock(nn.Module):
    """x + attention, then x + MLP with depthwise convolutions, each of a normed x; (B,C,H,W) to the same."""

    def __init__(self, channels: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.norm1 = ChannelNorm(channels)
        self.attn = DepthwiseAttention(channels, heads)
        self.norm2 = ChannelNorm(channels)
        self.ffn = GatedMlp(channels, hidden, groups=2 * hidden)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.attn(x, self.norm1)
        return by_strips(lambda part: self.ffn(self.norm2(part)), x, residual=True)


class GlobalBlock(nn.Module):
    """x + full attention, then x + MLP with two inputs an output, each of a normed x; (B,C,H,W) to the same.

    EMMA's global features and CDDFuse's base features, which are the same but for the MLP's ``padding_mode``.
    """

    def __init__(self, channels: int, heads: int, padding_mode: Padding = "zeros") -> None:
        super().__init__()
        self.norm1 = ChannelNorm(channels)
        self.attn = FullAttention(channels, heads)
        self.norm2 = ChannelNorm(channels)
        self.mlp = GatedMlp(channels, channels, channels, padding_mode)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.attn(x, self.norm1)
        return by_strips(lambda part: self.mlp(self.norm2(part)), x, residual=True)
