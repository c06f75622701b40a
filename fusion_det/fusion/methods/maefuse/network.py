"""The MAEFuse network (Li et al. 2025, arXiv:2404.11016): a masked auto-encoder, and a fusion layer between its halves.

Images are (B,3,H,W) floats, normalised by ImageNet's mean and deviation; tokens are (B,N,C); parameters have the published names.
The published size is 640 × 640. Smaller images are taken for windows of one of that size, and have the positions of a window.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from fusion_det.fusion.mae import (
    LAYER_NORM,
    decoder_blocks,
    frozen,
    image_of,
    initialise,
    position_table,
    tokens_of,
    vision_transformer,
)
from fusion_det.fusion.methods.maefuse.config import MAEFuseConfig


class Window(NamedTuple):
    """A part of the grid of tokens."""

    top: int
    left: int
    rows: int
    columns: int

    def of(self, table: torch.Tensor) -> torch.Tensor:
        """Its rows of a table (1,N,C) of a square grid."""
        side = round(table.shape[1] ** 0.5)
        grid = table.unflatten(1, (side, side))
        return grid[:, self.top : self.top + self.rows, self.left : self.left + self.columns].flatten(1, 2)


class MAE(nn.Module):
    """The auto-encoder. Its encoder is timm's ViT without a class token."""

    def __init__(self, config: MAEFuseConfig) -> None:
        super().__init__()
        encoder = vision_transformer(
            config.width, config.depth, config.heads, size=config.size, patch=config.patch, class_token=False
        )
        self.patch_embed, self.blocks, self.norm = encoder.patch_embed, encoder.blocks, encoder.norm
        width, grid = config.decoder_width, config.grid
        self.pos_embed = frozen(position_table(config.width, grid, grid)[None])
        self.decoder_pos_embed = frozen(position_table(width, grid, grid)[None])
        self.decoder_embed = nn.Linear(config.width, width)
        self.decoder_blocks = decoder_blocks(width, config.decoder_depth, config.decoder_heads)
        self.decoder_norm = LAYER_NORM(width)
        self.decoder_pred = nn.Linear(width, config.patch**2 * 3)
        for module in (self.decoder_embed, self.decoder_blocks, self.decoder_pred):
            initialise(module)

    def encode(self, images: torch.Tensor, window: Window) -> torch.Tensor:
        """Tokens of images that are as large as the window."""
        x = tokens_of(images, self.patch_embed).flatten(1, 2) + window.of(self.pos_embed)
        tokens: torch.Tensor = self.norm(self.blocks(x))
        return tokens

    def decode(self, tokens: torch.Tensor, window: Window) -> torch.Tensor:
        """The image of tokens."""
        x = self.decoder_embed(tokens) + window.of(self.decoder_pos_embed)
        for block in self.decoder_blocks:
            x = block(x)
        return image_of(self.decoder_pred(self.decoder_norm(x)), window.rows, window.columns)


class FusionLayer(nn.Module):
    """Two steps of attention ("comparative" and "merging") and an MLP, token by token.

    Their axes were exchanged when they were published: a token attends to those at its own place in the images of the batch. So
    for a pair by itself there is one key, to which all attention goes: what is attended to goes through two linear layers, and
    queries, as well as the whole first step, have no influence. Where pairs are trained together, they mix.
    """

    def __init__(self, width: int, tokens: int, heads: int) -> None:
        super().__init__()
        side = round(tokens**0.5)
        self.pos_embed = frozen(position_table(width, side, side)[None])
        self.cross_model = nn.MultiheadAttention(width, heads)
        self.merge_model = nn.MultiheadAttention(width, heads)
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.ln = nn.LayerNorm(width)

    def forward(self, ir: torch.Tensor, vi: torch.Tensor, window: Window, *, mixed: bool = False) -> torch.Tensor:
        """Tokens of both images to those of the fused one. mixed: pairs attend to each other, as in the published training."""
        if mixed:
            compared = self.compared(ir, vi, window, mixed=True)
            ir, vi = (x + window.of(self.pos_embed) for x in (ir, vi))
            merged = _attended(self.merge_model, compared, vi) + _attended(self.merge_model, compared, ir)
        else:
            merged = _of_single_keys(self.merge_model, self._sum(ir, vi, window))
        y: torch.Tensor = self.ln(self.fc2(F.gelu(self.fc1(merged))) + merged)
        return y

    def compared(self, ir: torch.Tensor, vi: torch.Tensor, window: Window, *, mixed: bool = False) -> torch.Tensor:
        """What the first step gives: the queries of the second one, and an output of its own in the first phases of training."""
        if not mixed:
            return _of_single_keys(self.cross_model, self._sum(ir, vi, window))
        ir, vi = (x + window.of(self.pos_embed) for x in (ir, vi))
        return _attended(self.cross_model, ir, vi) + _attended(self.cross_model, vi, ir)

    def _sum(self, ir: torch.Tensor, vi: torch.Tensor, window: Window) -> torch.Tensor:
        return ir + vi + 2 * window.of(self.pos_embed)


def _attended(attention: nn.MultiheadAttention, queries: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
    """Attention over the first axis, which is the batch."""
    y: torch.Tensor = attention(queries, keys, keys, need_weights=False)[0]
    return y


def _of_single_keys(attention: nn.MultiheadAttention, both: torch.Tensor) -> torch.Tensor:
    """The sum of two attentions to one key each, of the sum of the keys: W_o (W_v Σ + 2 b_v) + 2 b_o."""
    width = both.shape[-1]
    values = F.linear(both, attention.in_proj_weight[-width:], 2 * attention.in_proj_bias[-width:])
    return F.linear(values, attention.out_proj.weight, 2 * attention.out_proj.bias)


class MAEFuseNet(nn.Module):
    """The network. A published checkpoint holds its state dict under "model"."""

    def __init__(self, config: MAEFuseConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or MAEFuseConfig()
        self.model1 = MAE(config)
        self.model2 = FusionLayer(config.width, config.grid**2, config.fusion_heads)

    def forward(self, ir: torch.Tensor, vi: torch.Tensor) -> torch.Tensor:
        """The fused image of every pair by itself.

        Args:
            ir, vi: (B,3,H,W), normalised; H and W multiples of a patch, at most the network's size, which is the published one.

        Returns:
            (B,3,H,W), normalised in the same way.

        Raises:
            ValueError: other sizes.
        """
        window = self.window(ir)
        if ir.shape != vi.shape:
            raise ValueError(f"ir and vi are of one size, not {tuple(ir.shape)} and {tuple(vi.shape)}")
        # One after the other: what a block makes of both at once would be the largest of all.
        return self.model1.decode(
            self.model2(self.model1.encode(ir, window), self.model1.encode(vi, window), window), window
        )

    def window(self, images: torch.Tensor, top: int = 0, left: int = 0) -> Window:
        """Where images (B,3,H,W) lie in the network's grid, if their first token is at (top, left). Raises as forward."""
        patch, grid = self.config.patch, self.config.grid
        channels, height, width = images.shape[-3:]
        window = Window(top, left, height // patch, width // patch)
        if images.dim() != 4 or channels != 3 or height % patch or width % patch:
            raise ValueError(f"images are (b,3,H,W), H and W multiples of {patch}, not {tuple(images.shape)}")
        if not (0 < top + window.rows <= grid and 0 < left + window.columns <= grid):
            raise ValueError(f"H and W are at most {self.config.size}, not {height} and {width}")
        return window
