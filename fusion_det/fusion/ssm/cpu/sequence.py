"""Scans of sequences as Mamba lays them out, (b,d,L): tiles of 16 channels × 16 steps are transposed on the way in and out."""

from __future__ import annotations

from typing import Any

import numpy as np

from fusion_det.fusion.ssm.cpu.compiled import inlined, kernel
from fusion_det.fusion.ssm.cpu.functions import LN_2, softplus
from fusion_det.fusion.ssm.cpu.steps import CHUNK, advance, clear, go_back, room, sum_steps
from fusion_det.fusion.ssm.cpu.vectors import load, load_tile, prefetch, same, store, store_tile


@inlined
def _load_chunk(source: Any, index: int, length: int, count: int, steps: int, out: Any, x: int) -> None:
    """``count`` channels of ``steps`` steps, ``length`` elements apart, to ``out[x + t·16 + lane]``."""
    for t in range(0, steps, 16):
        load_tile(source, index + t, length, count, min(16, steps - t), out, x + t * 16)


@inlined
def _store_chunk(source: Any, x: int, length: int, count: int, steps: int, out: Any, index: int) -> None:
    for t in range(0, steps, 16):
        store_tile(source, x + t * 16, out, index + t, length, count, min(16, steps - t))


@inlined
def _line_of_step(t: int, length: int) -> int:
    """Spreads the 64 cache lines of a chunk's 16 channels over its 64 steps, to be asked for one by one."""
    return (t // 4) * length + (t % 4) * 16


@inlined
def _find_delta(dt: Any, slopes: Any, x: int, bias: Any, use_softplus: bool, steps: int) -> None:
    """Δ from what stands in ``dt``, in place, and its derivative."""
    for t in range(steps):
        p = x + t * 16
        raw = load(dt, p) + bias
        if use_softplus:
            value, slope = softplus(raw)
        else:
            value, slope = raw, same(np.float32(1.0))
        store(dt, p, value)
        store(slopes, p, slope)


@kernel
def scan_forward(
    u: Any, delta: Any, B: Any, C: Any, A: Any, bias: Any, D: Any, y: Any, last: Any, saved: Any, save: bool, use_softplus: bool,
    item: int, group: int, first: int, end: int, groups: int, in_group: int, length: int, states: int,
) -> None:  # fmt: skip
    """Scan channel blocks ``first`` to ``end`` of one group of one batch item.

    Args:
        u, delta, y: flat (b,G·in_group,L). B, C: flat (b,G,N,L). A: flat (G,blocks,N,16) in units of log2(e). bias, D: flat
            (G,blocks,16). last: flat (b,G,blocks,N,16), the last states. saved: flat (b,G,chunks,blocks,N,16), the states
            at the beginning of each chunk, written if ``save``.
    """
    blocks = (in_group + 15) // 16
    chunks = (length + CHUNK - 1) // CHUNK
    mine = end - first
    size = states * 16
    state = room(mine * size)
    clear(state, 0, mine * states)
    dt, drive, out, slopes = (
        room(CHUNK * 16),
        room(CHUNK * 16),
        room(CHUNK * 16),
        room(CHUNK * 16),
    )
    pair = item * groups + group
    for chunk in range(chunks):
        start = chunk * CHUNK
        steps = min(CHUNK, length - start)
        b = pair * states * length + start
        for k in range(mine):
            block = first + k
            if save:
                where = ((pair * chunks + chunk) * blocks + block) * size
                for n in range(states):
                    store(saved, where + n * 16, load(state, k * size + n * 16))
            count = min(16, in_group - block * 16)
            index = ((pair * in_group) + block * 16) * length + start
            weights = (group * blocks + block) * 16
            _load_chunk(delta, index, length, count, steps, dt, 0)
            _load_chunk(u, index, length, count, steps, drive, 0)
            _find_delta(dt, slopes, 0, load(bias, weights), use_softplus, steps)
            skip = load(D, weights)
            for t in range(steps):
                line = index + CHUNK + _line_of_step(t, length)
                prefetch(u, line)
                prefetch(delta, line)
                prefetch(y, line)
                x = load(drive, t * 16)
                store(out, t * 16, skip * x)
                store(drive, t * 16, load(dt, t * 16) * x)
            advance(state, k * size, A, weights * states, dt, drive, out, B, b, C, b, length, 1, states, steps)
            _store_chunk(out, 0, length, count, steps, y, index)
    for k in range(mine * states):
        store(last, ((pair * blocks + first) * states + k) * 16, load(state, k * 16))


@kernel
def scan_backward(
    u: Any, delta: Any, B: Any, C: Any, A: Any, bias: Any, D: Any, saved: Any, grad: Any, use_softplus: bool,
    du: Any, ddelta: Any, dB: Any, dC: Any, dA: Any, dbias: Any, dD: Any,
    item: int, group: int, first: int, end: int, groups: int, in_group: int, length: int, states: int,
) -> None:  # fmt: skip
    """Gradients of :func:`scan_forward` for the same blocks, chunk by chunk from the last.

    Args:
        saved: from the forward. grad: gradient of y. du, ddelta: like u. dB, dC: like B, of these blocks alone. dA: flat
            (b,G,blocks,N,16), zeroed; in units of A itself. dbias, dD: flat (b,G,blocks,16).
    """
    blocks = (in_group + 15) // 16
    chunks = (length + CHUNK - 1) // CHUNK
    mine, size, span = end - first, states * 16, CHUNK * 16
    carry = room(mine * size)
    clear(carry, 0, mine * states)
    us, dt, slopes = (
        room(mine * span),
        room(mine * span),
        room(mine * span),
    )
    drive, g = room(mine * span), room(mine * span)
    d_drive, d_dt = room(mine * span), room(mine * span)
    decays, befores = room(span), room(span)
    dBs, dCs = room(span), room(span)
    pair = item * groups + group
    own = pair * blocks + first
    clear(dbias, own * 16, mine)
    clear(dD, own * 16, mine)
    for back in range(chunks):
        chunk = chunks - 1 - back
        start = chunk * CHUNK
        steps = min(CHUNK, length - start)
        for k in range(mine):
            block, x = first + k, k * span
            count = min(16, in_group - block * 16)
            index = ((pair * in_group) + block * 16) * length + start
            _load_chunk(delta, index, length, count, steps, dt, x)
            _load_chunk(u, index, length, count, steps, us, x)
            _load_chunk(grad, index, length, count, steps, g, x)
            _find_delta(dt, slopes, x, load(bias, (group * blocks + block) * 16), use_softplus, steps)
            for t in range(steps):
                line = index - CHUNK + _line_of_step(t, length)
                prefetch(u, line)
                prefetch(delta, line)
                prefetch(grad, line)
                prefetch(du, line)
                prefetch(ddelta, line)
                store(drive, x + t * 16, load(dt, x + t * 16) * load(us, x + t * 16))
        clear(d_drive, 0, mine * CHUNK)
        clear(d_dt, 0, mine * CHUNK)
        b = pair * states * length + start
        for n in range(states):
            clear(dBs, 0, steps)
            clear(dCs, 0, steps)
            for k in range(mine):
                block = first + k
                go_back(
                    saved, ((pair * chunks + chunk) * blocks + block) * size + n * 16,
                    A, ((group * blocks + block) * states + n) * 16,
                    carry, dA, k * size + n * 16, own * size,
                    dt, drive, g, k * span, B, b + n * length, C, b + n * length, 1, steps,
                    decays, befores, d_drive, d_dt, dBs, dCs,
                )  # fmt: skip
            sum_steps(dBs, dB, b + n * length, 1, steps)
            sum_steps(dCs, dC, b + n * length, 1, steps)
        for k in range(mine):
            block, x = first + k, k * span
            count = min(16, in_group - block * 16)
            index = ((pair * in_group) + block * 16) * length + start
            skip = load(D, (group * blocks + block) * 16)
            sum_bias, sum_skip = load(dbias, (own + k) * 16), load(dD, (own + k) * 16)
            for t in range(steps):
                p = x + t * 16
                value, push, gradient = load(us, p), load(d_drive, p), load(g, p)
                raw = (load(d_dt, p) * same(LN_2) + push * value) * load(slopes, p)
                sum_bias = sum_bias + raw
                sum_skip = sum_skip + gradient * value
                store(d_dt, p, raw)
                store(d_drive, p, push * load(dt, p) + skip * gradient)
            store(dbias, (own + k) * 16, sum_bias)
            store(dD, (own + k) * 16, sum_skip)
            _store_chunk(d_drive, x, length, count, steps, du, index)
            _store_chunk(d_dt, x, length, count, steps, ddelta, index)
