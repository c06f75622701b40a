"""The MambaDFuse network (Li et al. 2024, arXiv:2404.08406): a chain of Mamba blocks for each modality, a shallow fusion by
exchanged channels and convolutions, a deep one by blocks that scan three sequences, and a chain and convolutions that make
the image.

Every pixel is a token, so 43 scans go over the whole image. What looks back alone goes through in pieces of the sequence
(:mod:`.blocks`), one piece through all blocks up to the next convolution; convolutions go through in strips of rows. The largest
things there are, then, are maps of one number a token and channel, about five of them at a time.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

from fusion_det.fusion.methods.mambadfuse.blocks import Chain, FusionBlock, Past, Pieces, TokenSwap
from fusion_det.fusion.methods.mambadfuse.config import MambaDFuseConfig
from fusion_det.fusion.strips import by_strips, strips_of

SLOPE = 0.2
"""Of leaky ReLUs, below 0."""

Tokens = tuple[torch.Tensor, ...]


class PatchEmbedding(nn.Module):
    """The norm that maps go through on their way to tokens, one and the same six times. (There are no patches.)"""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.norm(tokens)
        return y


class MambaDFuseNet(nn.Module):
    """The network; a published file is its state dict."""

    def __init__(self, config: MambaDFuseConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or MambaDFuseConfig()
        width, states = config.width, config.states
        self.patch_embed = PatchEmbedding(width)
        self.low_level_feature_extraction1 = conv(1, width // 2)
        self.low_level_feature_extraction2 = conv(width // 2, width)
        self.high_level_feature_extraction1, self.high_level_feature_extraction2, self.feature_re = (
            Chain(width, states, config.depth) for _ in range(3)
        )
        self.exchanges = [TokenSwap(width, states) for _ in range(config.exchanges)]
        self.shallow_fusion1, self.shallow_fusion2 = conv(2 * width, width), conv(2 * width, width)
        self.fusions = [FusionBlock(width, states) for _ in range(config.fusions)]
        for name, blocks in (("channel_exchange", self.exchanges), ("M3_block", self.fusions)):
            for i, block in enumerate(blocks, start=1):
                self.add_module(f"{name}{i}", block)
        self.conv_last1, self.conv_last2 = conv(width, width // 2), conv(width // 2, width // 4)
        self.conv_last3 = conv(width // 4, 1)

    def forward(self, ir: torch.Tensor, vi: torch.Tensor) -> torch.Tensor:
        """Fuse.

        Args:
            ir, vi: (b,1,H,W) infrared image and visible luma in [0,1], of any size.

        Returns:
            (b,1,H,W), the raw output: near [0,1] after training, but not clipped.

        Raises:
            ValueError: sizes that differ, or other than one channel.
        """
        if ir.shape != vi.shape or ir.dim() != 4 or ir.shape[1] != 1:
            raise ValueError(f"ir and vi are (b,1,H,W) of one size, not {tuple(ir.shape)} and {tuple(vi.shape)}")
        maps = self._features(ir, vi)
        self._fuse_shallowly(maps)
        fused = self.patch_embed(as_tokens(self._fuse_deeply(maps)))
        (fused,) = in_pieces(self._reconstruct, fused)
        return by_strips(self._image, as_map(fused, (ir.shape[-2], ir.shape[-1])), halo=3)

    def _features(self, ir: torch.Tensor, vi: torch.Tensor) -> list[torch.Tensor]:
        """Maps (b,C,H,W) of both sources, in which they have exchanged channels."""
        a, b = (as_tokens(by_strips(self._low_level, image, halo=2)) for image in (ir, vi))
        size = ir.shape[-2], ir.shape[-1]
        return [as_map(tokens, size) for tokens in in_pieces(self._extract, a, b)]

    def _low_level(self, image: torch.Tensor) -> torch.Tensor:
        x = leaky(self.low_level_feature_extraction1(image.contiguous(memory_format=torch.channels_last)))
        x = leaky(self.low_level_feature_extraction2(x))
        return self.patch_embed(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

    def _extract(self, a: torch.Tensor, b: torch.Tensor, past: Past | None) -> Tokens:
        a, residual_a = self.high_level_feature_extraction1(a, past)
        b, residual_b = self.high_level_feature_extraction2(b, past)
        for exchange in self.exchanges:
            a, b, residual_a, residual_b = exchange(a, b, residual_a, residual_b, past)
        return a, b

    def _fuse_shallowly(self, maps: list[torch.Tensor]) -> None:
        """Add to each source a convolution of both, in its place; the second one sees the first as it has become."""
        maps[0] = convolved_beside(self.shallow_fusion1, maps[0], maps[1])
        maps[1] = convolved_beside(self.shallow_fusion2, maps[1], maps[0])

    def _fuse_deeply(self, maps: list[torch.Tensor]) -> torch.Tensor:
        """Maps (b,C,H,W) of both sources to one. They are taken out of the list, so that nothing else holds on to them."""
        b, a = maps.pop(), maps.pop()
        size = a.shape[-2], a.shape[-1]
        fused = self.patch_embed(as_tokens((a + b) / 2))
        a = self.patch_embed(as_tokens(a))
        b = self.patch_embed(as_tokens(b))
        residual: torch.Tensor | None = None
        for block in self.fusions:
            fused, residual = _scan(block, fused, residual, a, b)
            fused = as_tokens(by_strips(block.dwconv, as_map(fused, size), residual=True))
        return as_map(fused, size)

    def _reconstruct(self, fused: torch.Tensor, past: Past | None) -> Tokens:
        return self.feature_re(fused, past)[:1]

    def _image(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.conv_last3(leaky(self.conv_last2(leaky(self.conv_last1(x)))))
        return y


def _scan(
    block: FusionBlock, fused: torch.Tensor, residual: torch.Tensor | None, a: torch.Tensor, b: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """:meth:`FusionBlock.scan` in pieces, in the place of ``fused`` and ``residual`` where no gradient is recorded."""
    pieces = Pieces(fused)
    if pieces.past is None:
        return block.scan(fused, residual, a, b, None)
    sums = torch.empty_like(fused) if residual is None else residual
    for piece in pieces:
        before = None if residual is None else residual[:, piece]
        scanned, sums[:, piece] = block.scan(fused[:, piece], before, a[:, piece], b[:, piece], pieces.past)
        fused[:, piece] = scanned
    return fused, sums


def in_pieces(operation: Callable[..., Tokens], *sequences: torch.Tensor) -> Tokens:
    """``operation(*sequences, past)``, piece by piece and in the sequences' place where no gradient is recorded."""
    pieces = Pieces(sequences[0])
    if pieces.past is None:
        return operation(*sequences, None)
    for piece in pieces:
        for sequence, made in zip(
            sequences, operation(*(sequence[:, piece] for sequence in sequences), pieces.past), strict=True
        ):
            sequence[:, piece] = made
    return sequences


def convolved_beside(layer: nn.Conv2d, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """x + the convolution of both side by side, (b,C,H,W) each, in strips."""
    strips = strips_of(x)
    if len(strips) == 1:
        return x + layer(torch.cat((x, y), dim=1))
    out = torch.empty_like(x)
    for strip in strips:
        both = torch.cat((strip.cut(x), strip.cut(y)), dim=1)
        torch.add(strip.of(x), strip.inside(layer(both)), out=strip.of(out))
    return out


def as_tokens(x: torch.Tensor) -> torch.Tensor:
    """(b,C,H,W), best in channels-last layout, to (b,L,C), row by row."""
    return x.permute(0, 2, 3, 1).flatten(1, 2)


def as_map(tokens: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Undo :func:`as_tokens`, in channels-last layout."""
    return tokens.unflatten(1, size).permute(0, 3, 1, 2)


def leaky(x: torch.Tensor) -> torch.Tensor:
    return F.leaky_relu(x, SLOPE, inplace=True)


def conv(inputs: int, outputs: int) -> nn.Conv2d:
    """A 3 × 3 convolution that keeps H and W."""
    return nn.Conv2d(inputs, outputs, 3, padding=1)
