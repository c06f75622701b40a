"""Scans of feature maps, channels last, walked by index in each direction: nothing is unfolded, turned or interleaved.

A map's row of ``d`` channels at one position is contiguous, so sixteen channels are one load, whichever way the walk goes;
Δ is made from its low-rank t on the way. A walk down the columns, or along a row sixteen channels at a time, looks like no
stream to the hardware, so each chunk asks for the cache lines of the next: three times faster on maps beyond the cache. Two
modalities are two maps in one array, visited alternately.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fusion_det.fusion.ssm.cpu.compiled import inlined, kernel
from fusion_det.fusion.ssm.cpu.functions import LN_2, softplus
from fusion_det.fusion.ssm.cpu.steps import CHUNK, advance, clear, go_back, room, sum_steps
from fusion_det.fusion.ssm.cpu.vectors import load, load_same, load_some, prefetch, same, store, store_some


@inlined
def _walk(
    places: Any, start: int, steps: int, direction: int, item: int, batch: int, modalities: int, height: int, width: int
) -> None:
    """The map rows (of d channels) that steps ``start`` to ``start + steps`` of a walk visit; ``start`` begins a chunk."""
    length = height * width
    position = start // modalities
    move = 1
    if direction >= 2:
        position, move = length - 1 - position, -1
    row, column = position % height, position // height
    t = 0
    while t < steps:
        for modality in range(modalities):
            place = row * width + column if direction % 2 == 1 else position
            places[t] = (modality * batch + item) * length + place
            t += 1
        position += move
        row += move
        if row == height:
            row, column = 0, column + 1
        elif row < 0:
            row, column = height - 1, column - 1


@inlined
def _load_params(params: Any, places: Any, walks: int, walk: int, count: int, steps: int, out: Any) -> None:
    """t, B and C of ``steps`` steps, ``count`` numbers each, one step after the other."""
    for t in range(steps):
        index = (places[t] * walks + walk) * count
        for j in range(0, count, 16):
            store_some(out, t * count + j, load_some(params, index + j, min(16, count - j)), min(16, count - j))


@inlined
def _prefetch_params(params: Any, places: Any, walks: int, walk: int, count: int, steps: int) -> None:
    for t in range(steps):
        index = (places[t] * walks + walk) * count
        for j in range(0, count, 16):
            prefetch(params, index + j)


@inlined
def _prefetch_vector(array: Any, index: int) -> None:
    """Both lines of a vector that begins in the middle of one."""
    prefetch(array, index)
    prefetch(array, index + 15)


@inlined
def _delta_of_step(params: Any, t: int, dt_weight: Any, w: int, rank: int, bias: Any) -> Any:
    raw = bias
    for j in range(rank):
        raw = raw + load(dt_weight, w + j * 16) * load_same(params, t + j)
    return softplus(raw)


@kernel
def plane_forward(
    u: Any, params: Any, dt_weight: Any, bias: Any, A: Any, D: Any, directions: Any, y: Any, saved: Any, save: bool,
    item: int, begin: int, stride: int, first: int, end: int,
    modalities: int, batch: int, height: int, width: int, channels: int, rank: int, states: int,
) -> None:  # fmt: skip
    """Write to ``y`` the sum of the walks begin, begin + stride, … < K, of channel blocks ``first`` to ``end``.

    Args:
        directions: (K,) int64, of each walk. u, y: flat (M,b,H·W,d). params: flat (M,b,H·W,K,r+2N). dt_weight: flat
            (K,blocks,r,16). A: flat (K,blocks,N,16) in units of log2(e). bias, D: flat (K,blocks,16). saved: flat
            (b,K,chunks,blocks,N,16), the states at the beginning of each chunk, written if ``save``.
    """
    walks = len(directions)
    blocks = (channels + 15) // 16
    total = modalities * height * width
    chunks = (total + CHUNK - 1) // CHUNK
    size, numbers = states * 16, rank + 2 * states
    state = room((end - first) * size)
    dt, drive, out = (
        room(CHUNK * 16),
        room(CHUNK * 16),
        room(CHUNK * 16),
    )
    here = room(CHUNK * numbers)
    places, ahead = np.empty(CHUNK, np.int64), np.empty(CHUNK, np.int64)
    for walk in range(begin, walks, stride):
        direction = directions[walk]
        clear(state, 0, (end - first) * states)
        _walk(places, 0, min(CHUNK, total), direction, item, batch, modalities, height, width)
        for chunk in range(chunks):
            start = chunk * CHUNK
            steps = min(CHUNK, total - start)
            coming = max(0, min(CHUNK, total - start - CHUNK))
            _walk(ahead, start + CHUNK, coming, direction, item, batch, modalities, height, width)
            _load_params(params, places, walks, walk, numbers, steps, here)
            _prefetch_params(params, ahead, walks, walk, numbers, coming)
            for block in range(first, end):
                h = (block - first) * size
                if save:
                    where = (((item * walks + walk) * chunks + chunk) * blocks + block) * size
                    for n in range(states):
                        store(saved, where + n * 16, load(state, h + n * 16))
                channel = block * 16
                count = min(16, channels - channel)
                weights = (walk * blocks + block) * 16
                offset, skip = load(bias, weights), load(D, weights)
                for t in range(steps):
                    if t < coming:
                        _prefetch_vector(u, ahead[t] * channels + channel)
                        _prefetch_vector(y, ahead[t] * channels + channel)
                    x = load_some(u, places[t] * channels + channel, count)
                    delta, _ = _delta_of_step(here, t * numbers, dt_weight, weights * rank, rank, offset)
                    store(dt, t * 16, delta)
                    store(drive, t * 16, delta * x)
                    store(out, t * 16, skip * x)
                advance(
                    state,
                    h,
                    A,
                    weights * states,
                    dt,
                    drive,
                    out,
                    here,
                    rank,
                    here,
                    rank + states,
                    1,
                    numbers,
                    states,
                    steps,
                )
                for t in range(steps):
                    index = places[t] * channels + channel
                    value = load(out, t * 16)
                    if walk > begin:
                        value = value + load_some(y, index, count)
                    store_some(y, index, value, count)
            places, ahead = ahead, places


@kernel
def plane_backward(
    u: Any, params: Any, dt_weight: Any, bias: Any, A: Any, D: Any, directions: Any, saved: Any, grad: Any,
    du: Any, dparams: Any, d_weight: Any, dbias: Any, dA: Any, dD: Any,
    item: int, begin: int, stride: int, first: int, end: int,
    modalities: int, batch: int, height: int, width: int, channels: int, rank: int, states: int,
) -> None:  # fmt: skip
    """Gradients of :func:`plane_forward` for the same item, walks and blocks, chunk by chunk from the last.

    Args:
        saved: from the forward. grad: gradient of y. du: like u. dparams: like params, of these blocks alone.
            d_weight: flat (b,K,blocks,r,16); dbias, dD: flat (b,K,blocks,16); dA: flat (b,K,blocks,N,16), in units of A
            itself; these four zeroed by the caller.
    """
    walks = len(directions)
    blocks = (channels + 15) // 16
    total = modalities * height * width
    chunks = (total + CHUNK - 1) // CHUNK
    mine, size, numbers, span = end - first, states * 16, rank + 2 * states, CHUNK * 16
    carry = room(mine * size)
    us, dt, slopes = (
        room(mine * span),
        room(mine * span),
        room(mine * span),
    )
    drive, g = room(mine * span), room(mine * span)
    d_drive, d_dt = room(mine * span), room(mine * span)
    decays, befores = room(span), room(span)
    dBs, dCs = room(span), room(span)
    here, there = room(CHUNK * numbers), room(CHUNK * numbers)
    places, ahead = np.empty(CHUNK, np.int64), np.empty(CHUNK, np.int64)
    for walk in range(begin, walks, stride):
        direction = directions[walk]
        clear(carry, 0, mine * states)
        pair = item * walks + walk
        own = pair * blocks + first
        start = (chunks - 1) * CHUNK
        _walk(places, start, total - start, direction, item, batch, modalities, height, width)
        for back in range(chunks):
            chunk = chunks - 1 - back
            start = chunk * CHUNK
            steps = min(CHUNK, total - start)
            coming = CHUNK if chunk > 0 else 0
            _walk(ahead, start - CHUNK, coming, direction, item, batch, modalities, height, width)
            _load_params(params, places, walks, walk, numbers, steps, here)
            _prefetch_params(params, ahead, walks, walk, numbers, coming)
            for k in range(mine):
                channel = (first + k) * 16
                count = min(16, channels - channel)
                weights = (walk * blocks + first + k) * 16
                offset = load(bias, weights)
                for t in range(steps):
                    if t < coming:
                        _prefetch_vector(u, ahead[t] * channels + channel)
                        _prefetch_vector(grad, ahead[t] * channels + channel)
                        _prefetch_vector(du, ahead[t] * channels + channel)
                    p = k * span + t * 16
                    x = load_some(u, places[t] * channels + channel, count)
                    delta, slope = _delta_of_step(here, t * numbers, dt_weight, weights * rank, rank, offset)
                    store(us, p, x)
                    store(dt, p, delta)
                    store(slopes, p, slope)
                    store(drive, p, delta * x)
                    store(g, p, load_some(grad, places[t] * channels + channel, count))
            clear(d_drive, 0, mine * CHUNK)
            clear(d_dt, 0, mine * CHUNK)
            for n in range(states):
                clear(dBs, 0, steps)
                clear(dCs, 0, steps)
                for k in range(mine):
                    block = first + k
                    go_back(
                        saved, ((pair * chunks + chunk) * blocks + block) * size + n * 16,
                        A, ((walk * blocks + block) * states + n) * 16,
                        carry, dA, k * size + n * 16, own * size,
                        dt, drive, g, k * span, here, rank + n, here, rank + states + n, numbers, steps,
                        decays, befores, d_drive, d_dt, dBs, dCs,
                    )  # fmt: skip
                sum_steps(dBs, there, rank + n, numbers, steps)
                sum_steps(dCs, there, rank + states + n, numbers, steps)
            for k in range(mine):
                channel = (first + k) * 16
                count = min(16, channels - channel)
                skip = load(D, (walk * blocks + first + k) * 16)
                sum_bias, sum_skip = load(dbias, (own + k) * 16), load(dD, (own + k) * 16)
                for t in range(steps):
                    p = k * span + t * 16
                    value, push, gradient = load(us, p), load(d_drive, p), load(g, p)
                    raw = (load(d_dt, p) * same(LN_2) + push * value) * load(slopes, p)
                    sum_bias = sum_bias + raw
                    sum_skip = sum_skip + gradient * value
                    store(d_dt, p, raw)
                    index = places[t] * channels + channel
                    inner = push * load(dt, p) + skip * gradient
                    if walk > begin:
                        inner = inner + load_some(du, index, count)
                    store_some(du, index, inner, count)
                store(dbias, (own + k) * 16, sum_bias)
                store(dD, (own + k) * 16, sum_skip)
            _go_back_to_rank(
                d_dt, dt_weight, d_weight, here, there, walk, blocks, first, mine, own, rank, numbers, steps, dBs
            )
            for t in range(steps):
                index = (places[t] * walks + walk) * numbers
                for j in range(0, numbers, 16):
                    width_left = min(16, numbers - j)
                    store_some(dparams, index + j, load_some(there, t * numbers + j, width_left), width_left)
            places, ahead = ahead, places


@inlined
def _go_back_to_rank(
    raw: Any, dt_weight: Any, d_weight: Any, here: Any, there: Any,
    walk: int, blocks: int, first: int, mine: int, own: int, rank: int, numbers: int, steps: int, sums: Any,
) -> None:  # fmt: skip
    """From the gradient of Δ before its softplus, (mine,CHUNK,16), to those of t and of the weights that made it of t."""
    for j in range(rank):
        clear(sums, 0, steps)
        for k in range(mine):
            weight = load(dt_weight, ((walk * blocks + first + k) * rank + j) * 16)
            place = ((own + k) * rank + j) * 16
            total = load(d_weight, place)
            for t in range(steps):
                gradient = load(raw, (k * CHUNK + t) * 16)
                store(sums, t * 16, load(sums, t * 16) + gradient * weight)
                total = total + gradient * load_same(here, t * numbers + j)
            store(d_weight, place, total)
        sum_steps(sums, there, j, numbers, steps)
