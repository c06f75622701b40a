"""Split-attention bottlenecks (Zhang et al., ResNeSt, arXiv:2004.08955) as DeFusion has them: radix 2, no normalisation.

What is computed is what was published, with less to move: the published decoder doubles the size of maps, concatenates them
with others, and then sends all through 1 × 1 convolutions without bias. These are linear, as is the doubling, so each map
goes through its part of the weights by itself, before its size is doubled.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

EXPANSION = 4
"""A bottleneck gives this many times the maps that it computes with."""

Size = tuple[int, int]


class SplitAttention(nn.Module):
    """Two groups of maps from a grouped 3 × 3 convolution, mixed map by map in proportions that follow from their means."""

    def __init__(self, planes: int) -> None:
        super().__init__()
        inner = max(2 * planes // 4, 32)
        self.conv = nn.Conv2d(planes, 2 * planes, 3, padding=1, groups=2, bias=False)
        self.fc1 = nn.Conv2d(planes, inner, 1)
        self.fc2 = nn.Conv2d(inner, 2 * planes, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(b,p,H,W) to the same."""
        maps = self.conv(x).relu_()
        means = maps.mean((2, 3), keepdim=True).unflatten(1, (2, -1)).sum(1)
        proportions = self.fc2(self.fc1(means).relu_()).unflatten(1, (2, -1)).softmax(1)
        first, second = maps.chunk(2, dim=1)
        return torch.addcmul(first * proportions[:, 0], second, proportions[:, 1])


class Bottleneck(nn.Module):
    """1 × 1, split attention, perhaps a pooling, 1 × 1; added to the input or to a projection of it.

    Args:
        shortcut: the projection follows a pooling ("encoder") or not ("decoder"); there is one where the number of maps or the
            size changes.
    """

    def __init__(
        self, inputs: int, planes: int, stride: int, *, pooled: bool, shortcut: Literal["encoder", "decoder"]
    ) -> None:
        super().__init__()
        outputs = EXPANSION * planes
        self.conv1 = nn.Conv2d(inputs, planes, 1, bias=False)
        self.conv2 = SplitAttention(planes)
        self.pool = nn.AvgPool2d(3, stride, padding=1) if pooled else nn.Identity()
        self.conv3 = nn.Conv2d(planes, outputs, 1, bias=False)
        self.downsample: nn.Module = nn.Identity()
        if inputs != outputs or stride != 1:
            projection = nn.Conv2d(inputs, outputs, 1, bias=False)
            pooling = [nn.AvgPool2d(stride, stride, ceil_mode=True, count_include_pad=False)]
            self.downsample = nn.Sequential(*(pooling if shortcut == "encoder" else []), projection)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.combine(self.conv1(x), self.downsample(x))

    def merge(self, small: torch.Tensor, beside: Sequence[torch.Tensor], size: Size) -> torch.Tensor:
        """What the block makes of ``small``, enlarged to ``size`` and concatenated with the maps ``beside`` it.

        For blocks with a projection that follows no pooling.
        """
        kernel = torch.cat((self.conv1.weight, *(weight for weight in self.downsample.parameters())))
        parts = kernel.split([maps.shape[1] for maps in (small, *beside)], dim=1)
        both = enlarge(F.conv2d(small, parts[0]), size)
        for maps, part in zip(beside, parts[1:], strict=True):
            both += F.conv2d(maps, part)
        planes = self.conv1.out_channels
        return self.combine(both[:, :planes], both[:, planes:])

    def combine(self, reduced: torch.Tensor, shortcut: torch.Tensor) -> torch.Tensor:
        """The result, from what ``conv1`` gives and what the rest is added to."""
        return self.conv3(self.pool(self.conv2(reduced.relu()))).add_(shortcut).relu_()


class Stage(nn.Module):
    """Bottlenecks, the first of which changes the number of maps from ``inputs`` to ``4 planes``, and the size by ``stride``.

    Args:
        pooled: the first one averages 3 × 3 pixels, with the zeros beyond the border counted, even with a stride of 1.
    """

    def __init__(
        self,
        inputs: int,
        planes: int,
        blocks: int,
        *,
        stride: int = 1,
        pooled: bool = False,
        shortcut: Literal["encoder", "decoder"] = "decoder",
    ) -> None:
        super().__init__()
        first = Bottleneck(inputs, planes, stride, pooled=pooled, shortcut=shortcut)
        others = [Bottleneck(EXPANSION * planes, planes, 1, pooled=False, shortcut=shortcut) for _ in range(blocks - 1)]
        self.layer = nn.Sequential(first, *others)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        maps: torch.Tensor = self.layer(x)
        return maps

    def merge(self, small: torch.Tensor, beside: Sequence[torch.Tensor], size: Size) -> torch.Tensor:
        """See :meth:`Bottleneck.merge`."""
        first, *others = self.layer
        maps: torch.Tensor = first.merge(small, beside, size)  # type: ignore[operator]
        for block in others:
            maps = block(maps)
        return maps


def conv3x3(inputs: int, outputs: int) -> nn.Conv2d:
    """3 × 3 with zeros beyond the border and a bias."""
    return nn.Conv2d(inputs, outputs, 3, padding=1)


def enlarge(maps: torch.Tensor, size: Size) -> torch.Tensor:
    """Twice the size, bilinear, then the nearest pixels where ``size`` is odd."""
    doubled = F.interpolate(maps, scale_factor=2, mode="bilinear", align_corners=False)
    return doubled if doubled.shape[-2:] == size else F.interpolate(doubled, size, mode="nearest")
