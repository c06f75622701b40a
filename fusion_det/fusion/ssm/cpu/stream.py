"""Sequences that come in pieces, channels last, forward only: what fits a cache when a piece does, however long the sequence is.

Everything is contiguous, so nothing has to be asked for ahead of time; states and the last inputs of a convolution are kept by
the caller between two pieces.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fusion_det.fusion.ssm.cpu.compiled import inlined, kernel
from fusion_det.fusion.ssm.cpu.functions import LOG2_E, exp2, softplus
from fusion_det.fusion.ssm.cpu.steps import CHUNK, advance, room
from fusion_det.fusion.ssm.cpu.vectors import at_least, load, load_same, load_some, same, store, store_some


@inlined
def _silu(x: Any) -> Any:
    """x / (1 + e⁻ˣ); the exponent stays where its power is a number."""
    one = same(np.float32(1.0))
    return x / (one + exp2(at_least(x, same(np.float32(-80.0))) * same(-LOG2_E)))


@kernel
def scan_piece(
    u: Any, params: Any, dt_weight: Any, bias: Any, A: Any, D: Any, state: Any, y: Any,
    item: int, first: int, end: int, length: int, channels: int, rank: int, states: int,
) -> None:  # fmt: skip
    """Scan channel blocks ``first`` to ``end`` of one batch item from ``state`` on, which is left at the end of the piece.

    Args:
        u: flat (b,L,d). y: flat (b,L,d), the gate before its SiLU, replaced by the result. params: flat (b,L,r+2N). dt_weight:
            flat (blocks,r,16). A: flat (blocks,N,16) in units of log2(e). bias, D: flat (blocks,16). state: flat (b,blocks,N,16).
    """
    blocks = (channels + 15) // 16
    size, numbers = states * 16, rank + 2 * states
    dt, drive, out = room(CHUNK * 16), room(CHUNK * 16), room(CHUNK * 16)
    for start in range(0, length, CHUNK):
        steps = min(CHUNK, length - start)
        row = (item * length + start) * channels
        given = (item * length + start) * numbers
        for block in range(first, end):
            channel, weights = block * 16, block * 16
            count = min(16, channels - channel)
            offset, skip = load(bias, weights), load(D, weights)
            for t in range(steps):
                raw = offset
                for j in range(rank):
                    raw = raw + load(dt_weight, (weights * rank) + j * 16) * load_same(params, given + t * numbers + j)
                delta, _ = softplus(raw)
                x = load_some(u, row + t * channels + channel, count)
                store(dt, t * 16, delta)
                store(drive, t * 16, delta * x)
                store(out, t * 16, skip * x)
            b = given + rank
            h = (item * blocks + block) * size
            advance(
                state, h, A, weights * states, dt, drive, out, params, b, params, b + states, 1, numbers, states, steps
            )
            for t in range(steps):
                index = row + t * channels + channel
                store_some(y, index, load(out, t * 16) * _silu(load_some(y, index, count)), count)


@kernel
def convolve_piece(
    x: Any, weight: Any, bias: Any, before: Any, y: Any,
    item: int, first: int, end: int, length: int, channels: int,
) -> None:  # fmt: skip
    """SiLU of a causal depthwise convolution of four taps, of channel blocks ``first`` to ``end`` of one batch item.

    Args:
        x, y: flat (b,L,d). weight: flat (blocks,4,16). bias: flat (blocks,16). before: flat (b,3,d), what stood before the piece.
    """
    for start in range(0, length, CHUNK):
        row = (item * length + start) * channels
        for block in range(first, end):
            channel, weights = block * 16, block * 64
            count = min(16, channels - channel)
            offset = load(bias, block * 16)
            w0, w1 = load(weight, weights), load(weight, weights + 16)
            w2, w3 = load(weight, weights + 32), load(weight, weights + 48)
            if start == 0:
                place = item * 3 * channels + channel
                x0, x1 = load_some(before, place, count), load_some(before, place + channels, count)
                x2 = load_some(before, place + 2 * channels, count)
            else:
                place = row - 3 * channels + channel
                x0, x1 = load_some(x, place, count), load_some(x, place + channels, count)
                x2 = load_some(x, place + 2 * channels, count)
            for t in range(min(CHUNK, length - start)):
                index = row + t * channels + channel
                x3 = load_some(x, index, count)
                store_some(y, index, _silu((offset + x0 * w0 + x1 * w1) + (x2 * w2 + x3 * w3)), count)
                x0, x1, x2 = x1, x2, x3
