"""The TC-MoA network (Zhu et al. 2024, arXiv:2403.12494): a masked auto-encoder with windows, and adapters between its blocks.

Images are (B,3,H,W) floats, normalised by ImageNet's mean and deviation. Tokens are maps (B,rows,columns,C), those of the visible
images before those of the infrared ones where both go the same way. Parameters have the published names.
"""

from __future__ import annotations

from collections.abc import Sequence
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
from fusion_det.fusion.methods.tcmoa.adapter import SHIFT_DEVIATION, Adapter, Prompts, Routing
from fusion_det.fusion.methods.tcmoa.config import TASKS, TAU, TCMoAConfig

PATCH, WINDOW = 16, 14
"""Side of a token's square in pixels, and of a window in tokens."""
ENLARGED = 2
"""The network sees its sources at twice their size."""
SIZE_MULTIPLE = PATCH * WINDOW // ENLARGED

SHIFT = WINDOW // 2
"""Of every other block's windows."""
TRAINED_SIZE = 224
"""Side of the images that MAE learnt from, which its table of positions is for."""


class Record(NamedTuple):
    """What happened inside, for the training: of each adapter, in the encoder and in the decoder."""

    encoder: list[Prompts]
    decoder: list[Prompts]
    routings: list[Routing]


class RelativePosition(nn.Module):
    """What is added to attention between two tokens of a window, by the way from one to the other."""

    relative_position_index: torch.Tensor

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.relative_position_bias_table = nn.Parameter(torch.empty((2 * WINDOW - 1) ** 2, heads))
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)
        self.register_buffer("relative_position_index", _ways())

    def forward(self) -> torch.Tensor:
        """(1,heads,196,196)."""
        return self.relative_position_bias_table[self.relative_position_index].permute(2, 0, 1)[None].contiguous()


def _ways() -> torch.Tensor:
    """(196,196): for tokens (r,c) and (r′,c′) of a window (r - r′ + 13)·27 + (c - c′ + 13)."""
    row, column = (axis.flatten() for axis in torch.meshgrid(*[torch.arange(WINDOW)] * 2, indexing="ij"))
    down, across = (axis[:, None] - axis + WINDOW - 1 for axis in (row, column))
    return down * (2 * WINDOW - 1) + across


class FusionConvolutions(nn.Module):
    """Three convolutions with a waist, in one go."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width // 4, 1, bias=False)
        self.conv2 = nn.Conv2d(width // 4, width // 4, 3, padding=1, bias=False)
        self.conv3 = nn.Conv2d(width // 4, width, 1, bias=False)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Maps (B,rows,columns,C) to the same."""
        y: torch.Tensor = self.conv3(self.conv2(self.conv1(maps.permute(0, 3, 1, 2))))
        return y.permute(0, 2, 3, 1)


class Stack(NamedTuple):
    """The encoder's or the decoder's blocks, and what mixes the sources after every fourth of them, from block 1 on."""

    blocks: Sequence[nn.Module]
    positions: nn.ModuleList
    adapters: nn.ModuleList
    convolutions: nn.ModuleList
    alphas: torch.Tensor

    @property
    def last_mixed(self) -> int:
        """The last block after which sources are mixed."""
        return 1 + TAU * (len(self.adapters) - 1)


class TCMoANet(nn.Module):
    """The network. A published checkpoint holds its state dict under "model"."""

    def __init__(self, config: TCMoAConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or TCMoAConfig()
        width, depth, heads = config.width, config.depth, config.heads
        encoder = vision_transformer(width, depth, heads, size=TRAINED_SIZE, patch=PATCH, class_token=True)
        self.patch_embed, self.blocks, self.norm = encoder.patch_embed, encoder.blocks, encoder.norm
        self.cls_token = frozen(torch.zeros(1, 1, width))
        self.pos_embed = frozen(_table(width))
        self.blocks_MoA, self.FusionLayer, self.en_relative_position = _between(width, depth, heads)
        self.Alpha_encoder = nn.Parameter(torch.full((len(self.blocks_MoA),), 0.5))
        width, depth, heads = config.decoder_width, config.decoder_depth, config.decoder_heads
        self.decoder_embed = nn.Linear(config.width, width)
        self.decoder_pos_embed = frozen(_table(width))
        self.decoder_blocks = decoder_blocks(width, depth, heads)
        self.decoder_norm = LAYER_NORM(width)
        self.decoder_pred = nn.Linear(width, PATCH**2 * 3)
        self.decoder_blocks_MoA, self.de_FusionLayer, self.de_relative_position = _between(width, depth, heads)
        self.Alpha_decoder = nn.Parameter(torch.full((len(self.decoder_blocks_MoA),), 0.5))
        for module in (self.decoder_embed, self.decoder_blocks, self.decoder_pred):
            initialise(module)

    @property
    def encoder(self) -> Stack:
        return Stack(
            list(self.blocks), self.en_relative_position, self.blocks_MoA, self.FusionLayer, self.Alpha_encoder
        )

    @property
    def decoder(self) -> Stack:
        return Stack(
            list(self.decoder_blocks),
            self.de_relative_position,
            self.decoder_blocks_MoA,
            self.de_FusionLayer,
            self.Alpha_decoder,
        )

    def draw_shifts(self, seed: int) -> None:
        """Draw the modal shifts, which no checkpoint holds, as the published program does."""
        generator = torch.Generator().manual_seed(seed)
        for adapter in (*self.blocks_MoA, *self.decoder_blocks_MoA):
            drawn = SHIFT_DEVIATION * torch.randn(adapter.modal_shifts.shape, generator=generator)
            adapter.modal_shifts.copy_(drawn)

    def forward(self, ir: torch.Tensor, vi: torch.Tensor, task: int = 0) -> torch.Tensor:
        """Fuse.

        Args:
            ir, vi: (B,3,H,W), normalised, H and W multiples of 112: an infrared and a visible image, or the second and the first
                of two sources of another task.
            task: index into ``config.TASKS``.

        Returns:
            (B,3,H,W), normalised in the same way.

        Raises:
            ValueError: sizes that do not go through the network, or differ; an unknown task.
        """
        return self.fuse(ir, vi, task)[0]

    def fuse(self, ir: torch.Tensor, vi: torch.Tensor, task: int = 0) -> tuple[torch.Tensor, Record]:
        """As :meth:`forward`, with what happened on the way."""
        record = Record([], [], [])
        tokens = self.decoded(*self.encoded(ir, vi, task, record), task, record)
        return self.image(tokens, every=ENLARGED), record

    def encoded(
        self, ir: torch.Tensor, vi: torch.Tensor, task: int, record: Record
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The encoder's last maps of the visible and of the infrared image. Raises as :meth:`forward`."""
        if ir.shape != vi.shape or ir.dim() != 4 or ir.shape[1] != 3:
            raise ValueError(f"ir and vi are (b,3,H,W) of one size, not {tuple(ir.shape)} and {tuple(vi.shape)}")
        if ir.shape[2] % SIZE_MULTIPLE or ir.shape[3] % SIZE_MULTIPLE:
            raise ValueError(f"H and W are multiples of {SIZE_MULTIPLE}, not {ir.shape[2]} and {ir.shape[3]}")
        if not 0 <= task < len(TASKS):
            raise ValueError(f"task {task}: an index into {TASKS}")
        both = self.norm(self._through(self.encoder, self.embedded(torch.cat((vi, ir))), task, record))
        visible, infrared = both.chunk(2)
        return visible, infrared

    def embedded(self, images: torch.Tensor) -> torch.Tensor:
        """Tokens of images (B,3,H,W) at twice their size, with their positions."""
        enlarged = F.interpolate(images, scale_factor=ENLARGED, mode="bilinear", align_corners=False)
        tokens = tokens_of(enlarged, self.patch_embed)
        return tokens + _positions(self.pos_embed, *tokens.shape[1:3])

    def decoded(self, vi: torch.Tensor, ir: torch.Tensor, task: int, record: Record) -> torch.Tensor:
        """The decoder's last map, of :meth:`encoded`."""
        both = self._embedded_again(torch.cat((vi, ir)))
        tokens: torch.Tensor = self.decoder_norm(self._through(self.decoder, both, task, record, decodes=True))
        return tokens

    def image(self, tokens: torch.Tensor, every: int = 1) -> torch.Tensor:
        """The image of the decoder's map, twice as large as the sources; of its rows and columns only ``every``-th ones."""
        side = PATCH // every
        weight = self.decoder_pred.weight.unflatten(0, (PATCH, PATCH, 3))[::every, ::every].reshape(side**2 * 3, -1)
        bias = self.decoder_pred.bias.unflatten(0, (PATCH, PATCH, 3))[::every, ::every].reshape(-1)
        return image_of(F.linear(tokens, weight, bias).flatten(1, 2), *tokens.shape[1:3])

    def rebuilt(self, images: torch.Tensor) -> torch.Tensor:
        """Images (B,3,H,W) sent through the auto-encoder alone, without adapters: a phase of training."""
        tokens = self.norm(_without_mixing(self.encoder, self.embedded(images)))
        tokens = self.decoder_norm(_without_mixing(self.decoder, self._embedded_again(tokens)))
        return self.image(tokens, every=ENLARGED)

    def _embedded_again(self, tokens: torch.Tensor) -> torch.Tensor:
        x: torch.Tensor = self.decoder_embed(tokens)
        return x + _positions(self.decoder_pos_embed, *x.shape[1:3])

    def _through(
        self, stack: Stack, both: torch.Tensor, task: int, record: Record, *, decodes: bool = False
    ) -> torch.Tensor:
        """All blocks. Of the decoder the visible stream alone comes out; the other is dropped once nothing needs it."""
        for index, block in enumerate(stack.blocks):
            both = _in_windows(block, both, stack.positions[index // 2](), shifted=index % 2 == 1)
            if index % TAU != 1:
                continue
            group = index // TAU
            vi, ir = (maps.flatten(1, 2) for maps in both.chunk(2))
            summed, prompts, routing = stack.adapters[group](vi, ir, task)
            (record.decoder if decodes else record.encoder).append(prompts)
            record.routings.append(routing)
            mixed = stack.convolutions[group](summed.view(-1, *both.shape[1:]).to(both.dtype))
            if decodes and index == stack.last_mixed:
                both = both.chunk(2)[0]
            alpha = stack.alphas[group].to(both.dtype)
            after = torch.lerp(both, mixed.repeat(len(both) // len(mixed), 1, 1, 1), alpha)
            both = _like(after, both) if decodes else after
        return both


def _between(width: int, depth: int, heads: int) -> tuple[nn.ModuleList, nn.ModuleList, nn.ModuleList]:
    """Adapters, fusion convolutions and relative positions of a stack of blocks, with the published first weights."""
    groups = len([index for index in range(depth) if index % TAU == 1])
    adapters = nn.ModuleList(Adapter(width, len(TASKS)) for _ in range(groups))
    initialise(adapters)
    convolutions = nn.ModuleList(FusionConvolutions(width) for _ in range(groups))
    return adapters, convolutions, nn.ModuleList(RelativePosition(heads) for _ in range((depth + 1) // 2))


def _table(width: int) -> torch.Tensor:
    """MAE's positions (1,197,width); those of the class token, which has none, are zeros."""
    side = TRAINED_SIZE // PATCH
    return torch.cat((torch.zeros(1, width), position_table(width, side, side)))[None]


def _positions(table: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    """(rows, columns, C) of a table (1,197,C), enlarged as published: as if rows were columns, so that in a grid that is no
    square, they follow one another as they would in the grid that is as high as this one is wide.
    """
    side = round((table.shape[1] - 1) ** 0.5)
    grid = table[0, 1:].mT.unflatten(1, (side, side))[None]
    enlarged = F.interpolate(grid, (columns, rows), mode="bilinear", align_corners=False)
    return enlarged.flatten(2)[0].mT.unflatten(0, (rows, columns))


def _in_windows(block: nn.Module, maps: torch.Tensor, bias: torch.Tensor, *, shifted: bool) -> torch.Tensor:
    """A block in every window of 14 × 14 tokens; windows may lie over the maps' edges, and go on at the opposite ones."""
    rows, columns = maps.shape[1] // WINDOW, maps.shape[2] // WINDOW
    if shifted:
        maps = maps.roll((-SHIFT, -SHIFT), (1, 2))
    windows = maps.unflatten(2, (columns, WINDOW)).unflatten(1, (rows, WINDOW)).transpose(2, 3)
    windows = block(windows.flatten(3, 4).flatten(0, 2), attn_mask=bias.to(maps.dtype))
    windows = windows.view(-1, rows, columns, WINDOW, WINDOW, maps.shape[-1]).transpose(2, 3)
    maps = windows.flatten(3, 4).flatten(1, 2)
    return maps.roll((SHIFT, SHIFT), (1, 2)) if shifted else maps


def _without_mixing(stack: Stack, maps: torch.Tensor) -> torch.Tensor:
    for index, block in enumerate(stack.blocks):
        maps = _in_windows(block, maps, stack.positions[index // 2](), shifted=index % 2 == 1)
    return maps


def _like(after: torch.Tensor, before: torch.Tensor) -> torch.Tensor:
    """Maps with the mean and the deviation, over all tokens and channels of an image, that others have."""
    std, mean = torch.std_mean(before, dim=(1, 2, 3), keepdim=True)
    std_after, mean_after = torch.std_mean(after, dim=(1, 2, 3), keepdim=True)
    return (after - mean_after) * (std / (std_after + 1e-12)) + mean
