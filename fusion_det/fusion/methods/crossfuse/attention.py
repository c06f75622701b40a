"""The cross-attention module of CrossFuse (arXiv:2406.10581, Sec. 3.3): what is unlike in both sources is what counts.

Deep features are taken in tiles of 32 × 32, tiles in tokens of 2 × 2. Tokens do not know where they are, so that the published
roll of the tiles before the second block, which moves whole tokens, changes no number; it is left out.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from fusion_det.fusion.methods.crossfuse.config import CrossFuseConfig

TILE, PATCH = 32, 2
_EPS = 1e-6
_MLP = 4


class Mlp(nn.Module):
    """Linear to four times the channels, GELU, linear back."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(channels, _MLP * channels), nn.Linear(_MLP * channels, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class SelfAttention(nn.Module):
    """Of tokens (B,L,C) to each other."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        return self.proj(_attend(q, k, v, self.heads))


class CrossAttention(SelfAttention):
    """Of tokens (B,L,C) to those of the other source which are *least* like them. ``qkv`` is published, and of no use."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__(channels, heads)
        self.q_linear, self.k_linear, self.v_linear = (nn.Linear(channels, channels) for _ in range(3))

    def between(self, x: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        """What ``x`` asks of ``other``, (B,L,C) each."""
        return self.proj(_attend(-self.q_linear(x), self.k_linear(other), self.v_linear(other), self.heads))


def _attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, heads: int) -> torch.Tensor:
    q, k, v = (part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


class SelfBlock(nn.Module):
    """A transformer's block."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(channels, _EPS), nn.LayerNorm(channels, _EPS)
        self.attn = SelfAttention(channels, heads)
        self.mlp = Mlp(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class CrossBlock(nn.Module):
    """A transformer's block in which one source asks the other, and what it is told is added to the other."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(channels, _EPS), nn.LayerNorm(channels, _EPS)
        self.attn = CrossAttention(channels, heads)
        self.mlp = Mlp(channels)

    def forward(self, x: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        other = other + self.attn.between(self.norm1(x), self.norm1(other))
        return other + self.mlp(self.norm2(other))


class Branch(nn.Module):
    """One block, with the published names around it. ``norm`` follows in cross-attention alone; it is published in both."""

    def __init__(self, block: nn.Module, channels: int, gain: float = 1.0) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([block])
        self.norm = nn.LayerNorm(channels, _EPS)
        nn.init.constant_(self.norm.weight, gain)


class SelfBranches(nn.Module):
    """Attention within each source."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.self_atten1 = Branch(SelfBlock(channels, heads), channels)
        self.self_atten2 = Branch(SelfBlock(channels, heads), channels)

    def forward(self, ir: torch.Tensor, vi: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.self_atten1.blocks[0](ir), self.self_atten2.blocks[0](vi)


class CrossBranches(nn.Module):
    """Attention between the sources, both ways, added up."""

    def __init__(self, channels: int, heads: int, gain: float) -> None:
        super().__init__()
        self.cross_atten1 = Branch(CrossBlock(channels, heads), channels, gain)
        self.cross_atten2 = Branch(CrossBlock(channels, heads), channels, gain)

    def forward(self, ir: torch.Tensor, vi: torch.Tensor) -> torch.Tensor:
        first, second = self.cross_atten1, self.cross_atten2
        fused: torch.Tensor = first.norm(first.blocks[0](ir, vi)) + second.norm(second.blocks[0](vi, ir))
        return fused


class CrossAttentionModule(nn.Module):
    """Deep features of both sources to those of the fused image."""

    def __init__(self, config: CrossFuseConfig) -> None:
        super().__init__()
        channels = PATCH * PATCH * config.deep
        self.self_atten_block1 = SelfBranches(channels, config.heads)
        self.self_atten_block2 = SelfBranches(channels, config.heads)
        self.cross_atten_block = CrossBranches(channels, config.heads, config.gain)

    def forward(self, ir: torch.Tensor, vi: torch.Tensor) -> torch.Tensor:
        """(B,C,h,w) twice to the same, all places at once; h and w even."""
        size = ir.shape[-2], ir.shape[-1]
        i, v = self.self_atten_block1(to_tokens(ir), to_tokens(vi))
        fused: torch.Tensor = self.cross_atten_block(*self.self_atten_block2(i, v))
        return to_maps(fused, *size)

    def in_tiles(self, ir: torch.Tensor, vi: torch.Tensor) -> torch.Tensor:
        """The same in tiles of 32 × 32, of maps of any size from 17 × 17 on, which are mirrored up to whole tiles."""
        height, width = ir.shape[-2:]
        right, below = -width % TILE, -height % TILE
        tiles = [to_tiles(F.pad(maps, (0, right, 0, below), mode="reflect")) for maps in (ir, vi)]
        fused = from_tiles(self(*tiles), height + below, width + right)
        return fused[..., :height, :width]


def to_tokens(maps: torch.Tensor) -> torch.Tensor:
    """(B,C,h,w) to (B,h/2·w/2,4C): of each token all channels of four pixels, a channel's together."""
    batch, channels, height, width = maps.shape
    patches = maps.reshape(batch, channels, height // PATCH, PATCH, width // PATCH, PATCH)
    return patches.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)


def to_maps(tokens: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """The inverse of :func:`to_tokens`."""
    patches = tokens.unflatten(2, (-1, PATCH, PATCH)).unflatten(1, (height // PATCH, width // PATCH))
    return patches.permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3)


def to_tiles(maps: torch.Tensor) -> torch.Tensor:
    """(B,C,h,w), h and w multiples of 32, to (B·tiles,C,32,32)."""
    tiles = maps.unflatten(3, (-1, TILE)).unflatten(2, (-1, TILE))  # (B,C,rows,32,columns,32)
    return tiles.permute(0, 2, 4, 1, 3, 5).flatten(0, 2)


def from_tiles(tiles: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """The inverse of :func:`to_tiles`."""
    maps = tiles.unflatten(0, (-1, height // TILE, width // TILE)).permute(0, 3, 1, 4, 2, 5)
    return maps.flatten(4, 5).flatten(2, 3)
