"""The Triton kernels of the selective scan: a chunked scan in three phases, and its backward.

A state space model with a constant A forgets at a rate that is known beforehand: from the end of step s to the end of step t
the state of (d,n) shrinks by exp(A[d,n]·(Δ_{s+1} + … + Δ_t)). So the sequence is cut into chunks, and

1. ``summarise_chunks`` finds, for all chunks at once, what each adds to the state: Σ_t exp(A·Σ_{s>t}Δ_s)·Δ_t·B_t·u_t;
2. ``carry_over_chunks`` turns these into the states between the chunks, one short scan for each (b,d,n);
3. ``scan_chunks`` scans inside all chunks at once, each from the state before it.

This gives a single image the parallelism that a GPU needs (batch·channels·chunks programs), and nothing of size (…,L,N)
exists; the states between the chunks, (b,d,N,L/BLOCK_L), are all that the backward keeps. The backward runs the same three
phases from the end: the adjoint obeys g_t = C_t·dy_t + exp(Δ_{t+1}·A)·g_{t+1}.

Conventions: float32 inside, whatever the inputs. Tensors are contiguous but for sequences, which start every ``stride`` ≥ L
elements: Triton gives a thread neighbouring steps, and a scan few shuffles, only where it knows every row to be aligned.
A tile is BLOCK_D channels of one group by BLOCK_L steps; steps beyond the end have Δ = 0 and change nothing. ``raw_delta``
is Δ before bias and softplus; ``states`` and ``adjoints`` are what phase 2 left in ``between``.
"""

# mypy: disable-error-code="no-untyped-def, import-untyped"
# Neither Triton nor its pointers and blocks have Python types.

from __future__ import annotations

import triton
import triton.language as tl

# Sizes that differ from image to image must not each compile anew; ``stride`` stays special, for its being a multiple of 16.
SIZES = ["channels", "groups", "length", "chunks", "blocks_per_share"]
LOG2_E = tl.constexpr(1.4426950408889634)


@triton.jit
def _then(decay_1, drive_1, decay_2, drive_2):
    """Two steps h → decay·h + drive made one."""
    return decay_1 * decay_2, drive_1 * decay_2 + drive_2


@triton.jit
def _softplus(x):
    """log(1+eˣ) as max(x,0) + 2·artanh(e/(2+e)), e = exp(−|x|): to 1e-7 of its value everywhere.

    log(1+e) itself loses all digits of a small step, and the series needs no log1p. Beyond 20 it equals x in float32.
    """
    e = tl.exp(-tl.abs(x))
    s = e / (2.0 + e)  # at most 1/3
    q = s * s
    series = 1.0 + q * (1 / 3 + q * (1 / 5 + q * (1 / 7 + q * (1 / 9 + q * (1 / 11 + q * (1 / 13 + q * (1 / 15)))))))
    return tl.maximum(x, 0.0) + 2.0 * s * series


@triton.jit
def _biased(raw_delta, at, mask, bias):
    """raw_delta[at] + bias in float32, 0 where masked."""
    raw = tl.load(raw_delta + at, mask=mask, other=0.0).to(tl.float32) + bias[:, None]
    return tl.where(mask, raw, 0.0)


@triton.jit
def _step_sizes(raw_delta, at, mask, bias, SOFTPLUS: tl.constexpr):
    """Δ at these positions, 0 where masked."""
    step = _biased(raw_delta, at, mask, bias)
    if SOFTPLUS:
        step = tl.where(mask, _softplus(step), 0.0)
    return step


@triton.jit
def _has_next(t, length, BLOCK_L: tl.constexpr):
    """Whether step t + 1 exists and lies in the same chunk."""
    return (t + 1 < length) & ((t + 1) % BLOCK_L != 0)


@triton.jit
def _tile(channels, groups, BLOCK_D: tl.constexpr, BLOCK_L: tl.constexpr):
    """This program's tile in a grid (channel blocks · chunks, b): channels, which of them exist, their rows among the b·d, the
    row of their group among the b·G, steps, and the chunk. Channel blocks run fastest: neighbours share B and C in the cache.
    """
    per_group = channels // groups
    blocks_per_group = tl.cdiv(per_group, BLOCK_D)
    block, chunk = tl.program_id(0) % (groups * blocks_per_group), tl.program_id(0) // (groups * blocks_per_group)
    batch = tl.program_id(1).to(tl.int64)
    group = block // blocks_per_group
    within = (block % blocks_per_group) * BLOCK_D + tl.arange(0, BLOCK_D)
    d = group * per_group + within
    t = chunk * BLOCK_L + tl.arange(0, BLOCK_L)
    return d, within < per_group, batch * channels + d, batch * groups + group, t, chunk


@triton.jit(do_not_specialize=SIZES)
def summarise_chunks(
    raw_delta,  # (b,d,L)
    bias,  # (d)
    A,  # (d,N)
    x,  # (b,d,L): u, or dy in the backward
    by_state,  # (b,G,N,L): B, or C in the backward
    sums,  # out (b,d,N,chunks)
    steps,  # out (b,d,chunks): ΣΔ of each chunk; forward only
    channels,
    groups,
    length,
    stride,
    chunks,
    N: tl.constexpr,
    SOFTPLUS: tl.constexpr,
    BACKWARD: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_L: tl.constexpr,
):
    """Phase 1: what each chunk adds to the state at its end, or (backward) to the adjoint of the state before it.

    Grid (channel blocks · chunks, b). Forward Σ_t exp(A·Σ_{s>t}Δ_s)·Δ_t·u_t·B_t, backward Σ_t exp(A·Σ_{s≤t}Δ_s)·dy_t·C_t.
    """
    d, d_mask, rows, group_row, t, chunk = _tile(channels, groups, BLOCK_D, BLOCK_L)
    mask = d_mask[:, None] & (t < length)[None, :]
    at = rows[:, None] * stride + t[None, :]

    d_bias = tl.load(bias + d, mask=d_mask, other=0.0)
    step = _step_sizes(raw_delta, at, mask, d_bias, SOFTPLUS)
    values = tl.load(x + at, mask=mask, other=0.0).to(tl.float32)
    if BACKWARD:
        shrink_over = tl.cumsum(step, axis=1)
    else:
        # The steps after each one, loaded anew: taking a large step off a sum would leave the rounding of it.
        later = mask & _has_next(t, length, BLOCK_L)[None, :]
        shrink_over = tl.cumsum(_step_sizes(raw_delta, at + 1, later, d_bias, SOFTPLUS), axis=1, reverse=True)
        values *= step
        tl.store(steps + rows * chunks + chunk, tl.sum(step, axis=1), mask=d_mask)

    by_state += group_row * N * stride + t
    for n in range(N):
        rate = tl.load(A + d * N + n, mask=d_mask, other=0.0) * LOG2_E
        weights = tl.load(by_state + n * stride, mask=t < length, other=0.0).to(tl.float32)
        total = tl.sum(tl.exp2(rate[:, None] * shrink_over) * values * weights[None, :], axis=1)
        tl.store(sums + (rows * N + n) * chunks + chunk, total, mask=d_mask)


@triton.jit(do_not_specialize=["channels", "chunks"])
def carry_over_chunks(
    sums,  # (b,d,N,chunks)
    steps,  # (b,d,chunks)
    A,  # (d,N)
    between,  # out (b,d,N,chunks+1)
    channels,
    chunks,
    N: tl.constexpr,
    BACKWARD: tl.constexpr,
    BLOCK_CHUNKS: tl.constexpr,
):
    """Phase 2: between[c] = the state before chunk c, or (backward) the adjoint that comes back from chunk c. Grid (b·d·N).

    Nothing comes before the first chunk or back from beyond the last: between[0], or between[chunks], is 0.
    """
    row = tl.program_id(0).to(tl.int64)
    rate = tl.load(A + row % (channels * N)) * LOG2_E
    sums += row * chunks
    steps += (row // N) * chunks
    between += row * (chunks + 1)
    order = tl.arange(0, BLOCK_CHUNKS)
    carried = 0.0
    tl.store(between + (chunks if BACKWARD else 0), carried)
    for start in range(0, chunks, BLOCK_CHUNKS):
        nth = start + order
        mask = nth < chunks
        chunk = chunks - 1 - nth if BACKWARD else nth
        decay = tl.exp2(rate * tl.load(steps + chunk, mask=mask, other=0.0))
        decay, drive = tl.associative_scan((decay, tl.load(sums + chunk, mask=mask, other=0.0)), 0, _then)
        state = drive + decay * carried
        tl.store(between + (chunk if BACKWARD else chunk + 1), state, mask=mask)
        carried = tl.sum(tl.where(order == BLOCK_CHUNKS - 1, state, 0.0))


@triton.jit(do_not_specialize=SIZES)
def scan_chunks(
    u,  # (b,d,L)
    raw_delta,  # (b,d,L)
    bias,  # (d)
    A,  # (d,N)
    B,  # (b,G,N,L)
    C,  # (b,G,N,L)
    D,  # (d)
    states,  # (b,d,N,chunks+1): before each chunk
    y,  # out (b,d,L)
    channels,
    groups,
    length,
    stride,
    chunks,
    N: tl.constexpr,
    SOFTPLUS: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_L: tl.constexpr,
):
    """Phase 3 of the forward: y. Grid as in phase 1."""
    d, d_mask, rows, group_row, t, chunk = _tile(channels, groups, BLOCK_D, BLOCK_L)
    mask = d_mask[:, None] & (t < length)[None, :]
    at = rows[:, None] * stride + t[None, :]

    step = _step_sizes(raw_delta, at, mask, tl.load(bias + d, mask=d_mask, other=0.0), SOFTPLUS)
    values = tl.load(u + at, mask=mask, other=0.0).to(tl.float32)
    out = tl.load(D + d, mask=d_mask, other=0.0)[:, None] * values
    values *= step

    B += group_row * N * stride + t
    C += group_row * N * stride + t
    for n in range(N):
        rate = tl.load(A + d * N + n, mask=d_mask, other=0.0) * LOG2_E
        before = tl.load(states + (rows * N + n) * (chunks + 1) + chunk, mask=d_mask, other=0.0)
        b = tl.load(B + n * stride, mask=t < length, other=0.0).to(tl.float32)[None, :]
        c = tl.load(C + n * stride, mask=t < length, other=0.0).to(tl.float32)[None, :]
        decay, drive = tl.associative_scan((tl.exp2(rate[:, None] * step), values * b), 1, _then)
        out += c * (drive + decay * before[:, None])
    tl.store(y + at, out.to(y.dtype.element_ty), mask=mask)


@triton.jit(do_not_specialize=SIZES)
def scan_chunks_backward(
    u,  # (b,d,L)
    raw_delta,  # (b,d,L)
    bias,  # (d)
    A,  # (d,N)
    B,  # (b,G,N,L)
    C,  # (b,G,N,L)
    D,  # (d)
    dy,  # (b,d,L)
    states,  # (b,d,N,chunks+1): before each chunk
    adjoints,  # (b,d,N,chunks+1): coming back from each chunk
    du,  # out (b,d,L)
    ddelta,  # out (b,d,L)
    dA,  # out (b,d,N,chunks), float32
    dB,  # out (shares,b,G,N,L), float32
    dC,  # out (shares,b,G,N,L), float32
    dD,  # out (b,d,chunks), float32
    dbias,  # out (b,d,chunks), float32
    channels,
    groups,
    length,
    stride,
    chunks,
    blocks_per_share,
    N: tl.constexpr,
    SOFTPLUS: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_L: tl.constexpr,
):
    """Phase 3 of the backward: all gradients. Grid (groups · chunks, b, shares).

    B and C belong to a group, so their gradients are sums over its channels. A program therefore takes the channel blocks of
    its share of the group one after the other and adds to what it wrote itself: no atomics, the same sums in every run.
    """
    per_group = channels // groups
    group, chunk = tl.program_id(0) % groups, tl.program_id(0) // groups
    batch = tl.program_id(1).to(tl.int64)
    share = tl.program_id(2)

    t = chunk * BLOCK_L + tl.arange(0, BLOCK_L)
    t_mask = t < length
    group_row = batch * groups + group
    B += group_row * N * stride + t
    C += group_row * N * stride + t
    share_row = share * tl.num_programs(1).to(tl.int64) * groups + group_row
    dB += share_row * N * stride + t
    dC += share_row * N * stride + t

    for nth in range(blocks_per_share):
        within = (share * blocks_per_share + nth) * BLOCK_D + tl.arange(0, BLOCK_D)
        d_mask = within < per_group
        d = group * per_group + within
        rows = batch * channels + d
        mask = d_mask[:, None] & t_mask[None, :]
        at = rows[:, None] * stride + t[None, :]

        d_bias = tl.load(bias + d, mask=d_mask, other=0.0)
        step = _step_sizes(raw_delta, at, mask, d_bias, SOFTPLUS)
        later = mask & _has_next(t, length, BLOCK_L)[None, :]
        next_step = _step_sizes(raw_delta, at + 1, later, d_bias, SOFTPLUS)
        values = tl.load(u + at, mask=mask, other=0.0).to(tl.float32)
        above = tl.load(dy + at, mask=mask, other=0.0).to(tl.float32)
        to_values = tl.load(D + d, mask=d_mask, other=0.0)[:, None] * above
        to_step = tl.zeros_like(step)
        tl.store(dD + rows * chunks + chunk, tl.sum(above * values, axis=1), mask=d_mask)

        for n in range(N):
            a = tl.load(A + d * N + n, mask=d_mask, other=0.0)[:, None]
            before = tl.load(states + (rows * N + n) * (chunks + 1) + chunk, mask=d_mask, other=0.0)
            behind = tl.load(adjoints + (rows * N + n) * (chunks + 1) + chunk + 1, mask=d_mask, other=0.0)
            b = tl.load(B + n * stride, mask=t_mask, other=0.0).to(tl.float32)[None, :]
            c = tl.load(C + n * stride, mask=t_mask, other=0.0).to(tl.float32)[None, :]
            drive = step * values * b
            decay, state = tl.associative_scan((tl.exp2(a * LOG2_E * step), drive), 1, _then)
            state += decay * before[:, None]
            decay, adjoint = tl.associative_scan((tl.exp2(a * LOG2_E * next_step), c * above), 1, _then, reverse=True)
            adjoint += decay * behind[:, None]

            kept = adjoint * (state - drive)  # state − drive = exp(ΔA)·(the state before)
            to_values += adjoint * step * b
            to_step += adjoint * values * b + kept * a
            tl.store(dA + (rows * N + n) * chunks + chunk, tl.sum(kept * step, axis=1), mask=d_mask)
            earlier = t_mask & (nth > 0)
            to_b = tl.load(dB + n * stride, mask=earlier, other=0.0) + tl.sum(adjoint * step * values, axis=0)
            to_c = tl.load(dC + n * stride, mask=earlier, other=0.0) + tl.sum(above * state, axis=0)
            tl.store(dB + n * stride, to_b, mask=t_mask)
            tl.store(dC + n * stride, to_c, mask=t_mask)

        if SOFTPLUS:
            to_step *= tl.sigmoid(_biased(raw_delta, at, mask, d_bias))
        tl.store(dbias + rows * chunks + chunk, tl.sum(to_step, axis=1), mask=d_mask)
        tl.store(du + at, to_values.to(du.dtype.element_ty), mask=mask)
        tl.store(ddelta + at, to_step.to(ddelta.dtype.element_ty), mask=mask)
        tl.debug_barrier()  # what other threads wrote to dB and dC is read in the next round
