"""The blocks of FusionMamba (Xie et al. 2024, arXiv:2404.09498). Maps are channels last, (b,H,W,C); parameters have the published
names.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from fusion_det.fusion.methods.fusionmamba.scans import ES2D, CrossES2D, Linear
from fusion_det.fusion.ssm import project
from fusion_det.fusion.strips import by_strips

MLP_RATIO, REDUCTION = 4, 8


class LearnableDifference(nn.Module):
    """A 3 × 3 convolution from whose middle taps a learnt share of all nine is taken (LDC). ``base_mask`` is 1 and not learnt.

    The kernel that this comes to is made once, and made again when a parameter has changed.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.base_mask = nn.Parameter(torch.ones(width, width, 3, 3), requires_grad=False)
        self.learnable_mask = nn.Parameter(torch.ones(width, width))
        self.learnable_theta = nn.Parameter(torch.full((1,), 0.5))
        self._made: tuple[tuple[object, ...], torch.Tensor] | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(b,H,W,C) to the same; zeros beyond the border."""
        return F.conv2d(x.permute(0, 3, 1, 2), self.kernel(), padding=1).permute(0, 2, 3, 1)

    def kernel(self) -> torch.Tensor:
        """(C,C,3,3)."""
        if torch.is_grad_enabled():
            self._made = None
            return self.make_kernel()
        state = tuple((value.data_ptr(), value._version, value.dtype) for value in self.parameters())
        if self._made is None or self._made[0] != state:
            self._made = state, self.make_kernel()
        return self._made[1]

    def make_kernel(self) -> torch.Tensor:
        weight = self.conv.weight
        taken = weight[..., 1, 1] * self.learnable_theta * self.learnable_mask * weight.sum((2, 3))
        return weight * self.base_mask - F.pad(taken[..., None, None], (1, 1, 1, 1))


class ChannelAttention(nn.Module):
    """How much of each channel is let through, from its mean and its neighbours' (ECA): (b,H,W,C) → (b,1,1,C), in (0,1)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(1, 1, 3, padding=1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        means = x.mean((1, 2))
        return self.conv(means[:, None]).sigmoid()[:, 0, None, None]


class ChannelGate(nn.Module):
    """How much of each channel is let through, from all normed channels' means (BiAttn): (b,H,W,C) → (b,1,1,C), in (0,1)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.global_reduce = Linear(width, width // REDUCTION, bias=True)
        self.channel_select = Linear(width // REDUCTION, width, bias=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        means = self.norm(x).mean((1, 2), keepdim=True)
        return self.channel_select(F.gelu(self.global_reduce(means))).sigmoid()


class Mlp(nn.Module):
    """Two linear layers with a GELU in between."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = Linear(width, MLP_RATIO * width, bias=True), Linear(MLP_RATIO * width, width, bias=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = F.gelu(project(x, self.fc1.weight, self.fc1.bias))
        return project(hidden, self.fc2.weight, self.fc2.bias)


class DVSSBlock(nn.Module):
    """A scan, a convolution of it, both gated and added; then an MLP (the dynamic vision state space block).

    Args:
        drop: share of the images for which either sum stays as it is, in training.
    """

    def __init__(self, width: int, states: int, drop: float) -> None:
        super().__init__()
        self.drop = drop
        self.norm, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.op = ES2D(width, states)
        self.conv_branch = LearnableDifference(width)
        self.self_attention_cross_channel = ChannelAttention()
        self.se = ChannelGate(width)
        self.mlp = Mlp(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scanned = self.op(self.norm(x))
        convolved = self.conv_branch(torch.addcmul(scanned, scanned, self.self_attention_cross_channel(scanned)))
        x = x + self._dropped(torch.addcmul(scanned * self.se(scanned), convolved, self.se(convolved)))
        if self.training and self.drop:
            return x + self._dropped(self.mlp(self.norm2(x)))
        return by_strips(self._changes, x.permute(0, 3, 1, 2), halo=0, residual=True).permute(0, 2, 3, 1)

    def _changes(self, maps: torch.Tensor) -> torch.Tensor:
        changes: torch.Tensor = self.mlp(self.norm2(maps.permute(0, 2, 3, 1)))
        return changes.permute(0, 3, 1, 2)

    def _dropped(self, x: torch.Tensor) -> torch.Tensor:
        """x or, for images that are drawn, zeros; on average as large as x."""
        if not self.training or not self.drop:
            return x
        kept = torch.rand(len(x), 1, 1, 1, device=x.device) >= self.drop
        return x * kept / (1 - self.drop)


class CrossLayer(nn.Module):
    """Both maps with their textures made stronger, and their sum by how much brighter a channel is in which of them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.texture_enhance1, self.texture_enhance2 = LearnableDifference(width), LearnableDifference(width)
        self.Diff_enhance = nn.ModuleDict({"lastconv": nn.Conv2d(width, width // 2, 1)})  # published, and of no use

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        brighter = (a - b).mean((1, 2), keepdim=True)
        both = a + b
        first = self.texture_enhance1(a) + torch.addcmul(a, brighter.sigmoid(), both)
        return first, self.texture_enhance2(b) + torch.addcmul(b, (-brighter).sigmoid(), both)


class CrossBlock(nn.Module):
    """Fuses the visible and the infrared features of a level, (b,H,W,C) each, to one map."""

    def __init__(self, width: int, states: int) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.Cross_layer = CrossLayer(width)
        self.self_attention_cross = CrossES2D(width, states)
        self.self_attention_cross_spatial = ChannelAttention()

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        first, second = self.Cross_layer(a, b)
        mixed = self.self_attention_cross(self.ln_1(first), self.ln_2(second))
        return a + b + torch.addcmul(mixed, mixed, self.self_attention_cross_spatial(mixed))


class PatchEmbedding(nn.Module):
    """Patches of one channel side by side, (b,1,H,W) → (b,H/P,W/P,C), normed."""

    def __init__(self, width: int, patch: int) -> None:
        super().__init__()
        self.proj, self.norm = nn.Conv2d(1, width, patch, stride=patch), nn.LayerNorm(width)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.norm(self.proj(image).permute(0, 2, 3, 1))
        return y


class PatchMerging(nn.Module):
    """Squares of four pixels become one, (b,H,W,C) → (b,⌊H/2⌋,⌊W/2⌋,2C)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.reduction, self.norm = Linear(4 * width, 2 * width), nn.LayerNorm(4 * width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        height, width = x.shape[1] // 2 * 2, x.shape[2] // 2 * 2
        squares = x[:, :height, :width].unflatten(2, (-1, 2)).unflatten(1, (-1, 2))  # (b,H/2,2,W/2,2,C)
        # Their order in the channels: down the first column, then down the second.
        return project(self.norm(squares.permute(0, 1, 3, 4, 2, 5).flatten(3)), self.reduction.weight)


class PatchExpanding(nn.Module):
    """One pixel becomes a square of ``factor``², whose channels are normed.

    Args:
        width: channels of the square. inputs: of the pixel.
    """

    def __init__(self, inputs: int, width: int, factor: int) -> None:
        super().__init__()
        self.factor = factor
        self.expand, self.norm = Linear(inputs, factor**2 * width), nn.LayerNorm(width)

    def squares(self, x: torch.Tensor) -> torch.Tensor:
        """(b,H,W,inputs) → (b,H,W,row,column,width)."""
        y: torch.Tensor = self.norm(project(x, self.expand.weight).unflatten(-1, (self.factor, self.factor, -1)))
        return y

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(b,H,W,inputs) → (b,factor·H,factor·W,width)."""
        return self.squares(x).transpose(2, 3).flatten(3, 4).flatten(1, 2)
