"""A chain of bordered 3 × 3 convolutions computed from top to bottom, a band of rows at a time, nothing twice.

A row of a layer needs three rows of its input, so each layer lags a row behind the one before it, and of every map only the
last rows have to be kept. The arithmetic is that of the whole image. What is saved is memory, of which a network without
any down-sampling takes gigabytes, and the time to move it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

BAND = 32
"""Rows at a time: few enough to stay near the processor, enough to keep convolutions busy."""


class RowStore:
    """Maps of ``height`` rows that are filled from top to bottom and, from the top on, forgotten.

    They carry a border of one pixel that mirrors them about their outermost rows and columns.

    Args:
        like: (b,·,H,W), whose batch, size, dtype and device the maps have. H and W are at least 2.
        channels: number of maps.
        rows: how many are held at once, beside the border.
    """

    def __init__(self, like: torch.Tensor, channels: int, rows: int) -> None:
        batch, _, self.height, width = like.shape
        self._maps = like.new_empty(batch, channels, rows + 2, width + 2)
        self._first = -1  # the row that lies at index 0; -1 is the border above the image
        self._end = 0

    def put(self, channels: slice, top: int, maps: torch.Tensor) -> None:
        """Store rows ``top``, ``top + 1``, … of these channels; both of the first two rows at once."""
        begin = top - self._first
        self._end = max(self._end, top + maps.shape[-2])
        target = self._maps[:, channels]
        rows = target[:, :, begin : begin + maps.shape[-2]]
        rows[..., 1:-1] = maps
        rows[..., 0], rows[..., -1] = maps[..., 1], maps[..., -2]
        if top == 0:
            target[:, :, 0] = target[:, :, 2]
        bottom = top + maps.shape[-2]
        if bottom == self.height:
            target[:, :, bottom - self._first] = target[:, :, bottom - 2 - self._first]

    def get(self, channels: slice, top: int, bottom: int) -> torch.Tensor:
        """Rows ``top`` to ``bottom - 1`` with one more above and below, and the borders at left and right."""
        return self._maps[:, channels, top - 1 - self._first : bottom + 1 - self._first]

    def forget(self, row: int) -> None:
        """Make room: rows before ``row - 1`` will not be asked for any more."""
        drop = row - 1 - self._first
        if drop <= 0:
            return
        kept = self._end - self._first - drop
        self._maps[:, :, :kept] = self._maps[:, :, drop : drop + kept].clone()
        self._first += drop


@dataclass(frozen=True)
class Layer:
    """A convolution without a border of its own, the channels it reads and where its maps go.

    activation: may work in place.
    """

    convolution: nn.Conv2d
    source: RowStore
    reads: slice
    target: RowStore
    writes: slice
    activation: Callable[[torch.Tensor], torch.Tensor]


def run_in_bands(sources: torch.Tensor, first: RowStore, layers: Sequence[Layer], band: int) -> None:
    """Bring ``sources`` (b,c,H,W) into the store ``first``, ``band`` rows at a time, and through all layers.

    Each layer reads what earlier ones wrote, or ``first``. A store holds at least ``band + len(layers) + 1`` rows, or all;
    the target of the last layer, which nothing is forgotten of, holds all.

    Raises:
        ValueError: a band of fewer than ``len(layers) + 2`` rows that is not the whole image.
    """
    height = sources.shape[-2]
    if band < min(height, len(layers) + 2):
        raise ValueError(f"a band of {band} rows is too narrow for {len(layers)} layers: at least {len(layers) + 2}")
    done = [0] * len(layers)
    last_reader = {id(layer.source): (layer.source, i) for i, layer in enumerate(layers)}
    for top in range(0, height, band):
        ready = min(top + band, height)
        first.put(slice(None), top, sources[..., top:ready, :])
        for i, layer in enumerate(layers):
            ready = height if ready == height else ready - 1
            maps = layer.activation(layer.convolution(layer.source.get(layer.reads, done[i], ready)))
            layer.target.put(layer.writes, done[i], maps)
            done[i] = ready
        for store, reader in last_reader.values():
            store.forget(done[reader])
