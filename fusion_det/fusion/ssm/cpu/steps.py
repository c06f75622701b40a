"""One chunk of a scan for sixteen channels, forward and back, in buffers that stay in the first-level cache.

Everything a scan costs happens here; the modules around it only bring channels, parameters and gradients into these
buffers, from sequences (:mod:`.sequence`) or from maps (:mod:`.plane`), and take results out.

The loop over states is outside the loop over steps: a state then lives in a register for a whole chunk, any number of states
is served by one loop, and nothing of shape (…,L,N) exists. Layout: ``[t·16 + lane]`` for what belongs to a step,
``[n·16 + lane]`` for what belongs to a state; A is in units of log2(e), so that a decay is 2^(Δ·A).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fusion_det.fusion.ssm.cpu.compiled import inlined
from fusion_det.fusion.ssm.cpu.functions import exp2
from fusion_det.fusion.ssm.cpu.vectors import load, load_same, same, store, sum_lanes

CHUNK = 64
"""Steps to a chunk: long enough to forget the loop around it, short enough for all its buffers to fit."""


@inlined
def advance(
    state: Any, h: int, A: Any, a: int, dt: Any, drive: Any, y: Any, B: Any, b: int, C: Any, c: int,
    by_state: int, by_step: int, states: int, steps: int,
) -> None:  # fmt: skip
    """Carry ``states`` states through ``steps`` steps and add Σ C·h to ``y``.

    Args:
        state: h, from element ``h``, changed in place. A: from element ``a``. dt, drive: Δ and Δ·u.
        B, C: element (n, t) at ``b + n·by_state + t·by_step`` (``c`` for C): the same for all lanes.
    """
    n = 0
    while n + 1 < states:  # two states share the loads of Δ, Δ·u and y
        a0, a1 = load(A, a + n * 16), load(A, a + n * 16 + 16)
        h0, h1 = load(state, h + n * 16), load(state, h + n * 16 + 16)
        i, j = b + n * by_state, c + n * by_state
        for t in range(steps):
            delta, push = load(dt, t * 16), load(drive, t * 16)
            h0 = exp2(delta * a0) * h0 + push * load_same(B, i)
            h1 = exp2(delta * a1) * h1 + push * load_same(B, i + by_state)
            store(y, t * 16, load(y, t * 16) + h0 * load_same(C, j) + h1 * load_same(C, j + by_state))
            i += by_step
            j += by_step
        store(state, h + n * 16, h0)
        store(state, h + n * 16 + 16, h1)
        n += 2
    if n < states:
        a0, h0 = load(A, a + n * 16), load(state, h + n * 16)
        i, j = b + n * by_state, c + n * by_state
        for t in range(steps):
            h0 = exp2(load(dt, t * 16) * a0) * h0 + load(drive, t * 16) * load_same(B, i)
            store(y, t * 16, load(y, t * 16) + h0 * load_same(C, j))
            i += by_step
            j += by_step
        store(state, h + n * 16, h0)


@inlined
def go_back(
    state: Any, h: int, A: Any, a: int, carry: Any, dA: Any, e: int, f: int, dt: Any, drive: Any, g: Any, x: int,
    B: Any, b: int, C: Any, c: int, by_step: int, steps: int,
    decays: Any, befores: Any, d_drive: Any, d_dt: Any, dB: Any, dC: Any,
) -> None:  # fmt: skip
    """Gradients of one state over one chunk, its values recomputed from the chunk's beginning.

    With λ_t = C_t·g_t + a_{t+1}·λ_{t+1}, where a is the decay and g the gradient of y: dC_t = g_t·h_t, dB_t = λ_t·Δ_t·u_t,
    d(Δu)_t = λ_t·B_t, and the decay's share is λ_t·a_t·h_{t-1}, times A for Δ and times Δ for A.

    Args:
        state: h at the beginning, at ``h``. A: at ``a``. carry: a_{t+1}·λ_{t+1} of the chunk behind, at ``e``, and dA, at
            ``f + e``, changed in place. dt, drive, g: from ``x``; gradients are added to d_drive and d_dt (the latter in units of
            log2(e), from the decay only), also from ``x``. dB, dC: (steps,16), added to, lanes not yet summed.
        decays, befores: room for (steps,16) each.
    """
    rate, value = load(A, a), load(state, h)
    i = b
    for t in range(steps):
        decay = exp2(load(dt, x + t * 16) * rate)
        store(decays, t * 16, decay)
        store(befores, t * 16, value)
        value = decay * value + load(drive, x + t * 16) * load_same(B, i)
        i += by_step
    behind, d_rate = load(carry, e), load(dA, f + e)
    j = c + (steps - 1) * by_step
    for s in range(steps):
        t = steps - 1 - s
        i -= by_step
        gradient, before, p = load(g, x + t * 16), load(befores, t * 16), x + t * 16
        adjoint = load_same(C, j) * gradient + behind
        store(dC, t * 16, load(dC, t * 16) + gradient * value)
        store(dB, t * 16, load(dB, t * 16) + adjoint * load(drive, p))
        store(d_drive, p, load(d_drive, p) + adjoint * load_same(B, i))
        behind = adjoint * load(decays, t * 16)
        through_decay = behind * before
        store(d_dt, p, load(d_dt, p) + through_decay * rate)
        d_rate = d_rate + through_decay * load(dt, p)
        value = before
        j -= by_step
    store(carry, e, behind)
    store(dA, f + e, d_rate)


@inlined
def room(count: int) -> Any:
    """``count`` float32 from the beginning of a cache line: a vector across two lines costs twice. Not initialised."""
    memory = np.empty(count + 15, np.float32)
    skip = (64 - memory.ctypes.data % 64) % 64 // 4
    return memory[skip : skip + count]


@inlined
def clear(buffer: Any, start: int, vectors: int) -> None:
    """Zero ``vectors`` vectors from ``start``."""
    for i in range(vectors):
        store(buffer, start + i * 16, same(np.float32(0.0)))


@inlined
def sum_steps(buffer: Any, out: Any, start: int, by_step: int, steps: int) -> None:
    """``out[start + t·by_step]`` = sum of the lanes of ``buffer`` at step t."""
    for t in range(steps):
        out[start + t * by_step] = sum_lanes(load(buffer, t * 16))
