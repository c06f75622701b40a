"""Large maps a strip of rows at a time: what a network makes on the way then fits the processor's cache, not only its memory.

For operations that look no further than a few pixels around (the ``halo``). A strip is cut out with that many rows more above and
below, goes through the operation, and loses them again; at the image's own edges there are none, and the operation's padding
is what it is for the whole map. So the result is the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

PIXELS = 1 << 14
"""Of a strip, about: 4 MiB for 64 channels. Longer strips take more time, shorter ones compute more rows twice."""


@dataclass(frozen=True)
class Strip:
    """Rows ``first`` to ``end`` of a map, and how many more are cut out ``above`` and ``below`` them."""

    first: int
    end: int
    above: int
    below: int

    def cut(self, x: torch.Tensor) -> torch.Tensor:
        """The strip of (B,C,H,W) with its halo; a view."""
        return x[..., self.first - self.above : self.end + self.below, :]

    def of(self, x: torch.Tensor) -> torch.Tensor:
        """The strip of (B,C,H,W) alone; a view."""
        return x[..., self.first : self.end, :]

    def inside(self, y: torch.Tensor) -> torch.Tensor:
        """What an operation made of :meth:`cut`, without the halo; a view."""
        return y[..., self.above : y.shape[-2] - self.below, :]


def strips_of(x: torch.Tensor, halo: int = 1, times: int = 1) -> list[Strip]:
    """Strips that cover (B,C,H,W), ``times`` as long as usual: one of everything on other devices than CPUs and where gradients
    are recorded, which keeps all maps anyway.
    """
    batch, _, height, width = x.shape
    rows = height
    if x.device.type == "cpu" and not torch.is_grad_enabled():
        rows = max(2 * halo + 1, times * PIXELS // max(1, batch * width))
    return [
        Strip(first, min(first + rows, height), min(halo, first), min(halo, max(0, height - first - rows)))
        for first in range(0, height, rows)
    ]


def by_strips(
    operation: Callable[[torch.Tensor], torch.Tensor],
    x: torch.Tensor,
    *,
    halo: int = 1,
    residual: bool = False,
    times: int = 1,
) -> torch.Tensor:
    """``operation(x)``, or ``x + operation(x)`` with ``residual``, for an operation that keeps H and W.

    Args:
        operation: each of its results depends on at most ``halo`` rows above and below. It may not change what it is given.
        times: how many times the usual length strips have; for operations of few channels that look far.
    """
    strips = strips_of(x, halo, times)
    if len(strips) == 1:
        y = operation(x)
        return x + y if residual else y
    out = x
    for strip in strips:
        y = strip.inside(operation(strip.cut(x)))
        if strip.first == 0:
            size = (len(x), y.shape[1], *x.shape[-2:])
            out = torch.empty(size, dtype=y.dtype, device=y.device, memory_format=torch.channels_last)
        if residual:
            torch.add(strip.of(x), y, out=strip.of(out))
        else:
            strip.of(out).copy_(y)
    return out
