"""The compiled scans as differentiable torch functions: layouts, threads, and sums over what threads computed apart."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from fusion_det.fusion.ssm.cpu.plane import plane_backward, plane_forward
from fusion_det.fusion.ssm.cpu.sequence import scan_backward, scan_forward
from fusion_det.fusion.ssm.cpu.steps import CHUNK
from fusion_det.fusion.ssm.cpu.threads import run_tasks, shares
from fusion_det.fusion.ssm.cpu.vectors import LANES

_LOG2_E = math.log2(math.e)


def selective_scan_cpu(
    u: torch.Tensor,
    delta: torch.Tensor,
    A: torch.Tensor,
    B: torch.Tensor,
    C: torch.Tensor,
    D: torch.Tensor | None,
    delta_bias: torch.Tensor | None,
    delta_softplus: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The ``cpu`` backend of :func:`fusion_det.fusion.ssm.selective_scan`; (y, last state), computed in float32."""
    channels = u.shape[1]
    bias = u.new_zeros(channels) if delta_bias is None else delta_bias
    skip = u.new_zeros(channels) if D is None else D
    inputs = tuple(map(_plain, (u, delta, A, B, C, skip, bias)))
    y, last = _SequenceScan.apply(*inputs, delta_softplus, _goes_back(inputs))
    return y.to(u.dtype), last


def scan_2d_cpu(
    u: torch.Tensor,
    params: torch.Tensor,
    dt_weight: torch.Tensor,
    dt_bias: torch.Tensor,
    A: torch.Tensor,
    D: torch.Tensor,
    directions: Sequence[int],
) -> torch.Tensor:
    """The ``cpu`` backend of :func:`fusion_det.fusion.ssm.scan_2d`, computed in float32."""
    inputs = tuple(map(_plain, (u, params, dt_weight, dt_bias, A, D)))
    y: torch.Tensor = _PlaneScan.apply(*inputs, tuple(directions), _goes_back(inputs))
    return y.to(u.dtype)


def _goes_back(inputs: Iterable[torch.Tensor]) -> bool:
    """Whether a gradient will be wanted. (``ctx.needs_input_grad`` does not know that ``no_grad`` is on.)"""
    return torch.is_grad_enabled() and any(x.requires_grad for x in inputs)


def _plain(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.to(torch.float32).contiguous()


def flat(tensor: torch.Tensor) -> np.ndarray[Any, Any]:
    """The memory of a contiguous tensor as one row of float32."""
    flat: np.ndarray[Any, Any] = tensor.detach().view(-1).numpy()
    return flat


def in_lanes(weights: torch.Tensor) -> torch.Tensor:
    """(groups, channels, …) → (groups, blocks, …, 16), zero beyond the last channel."""
    channels = weights.shape[1]
    blocks = -(-channels // LANES)
    padding = [0, 0] * (weights.dim() - 2) + [0, blocks * LANES - channels]
    return F.pad(weights, padding).unflatten(1, (blocks, LANES)).movedim(2, -1).contiguous()


def _from_lanes(packed: torch.Tensor, channels: int) -> torch.Tensor:
    """(b, groups, blocks, …, 16) → (groups, channels, …), summed over the batch."""
    return packed.sum(0).movedim(-1, 2).flatten(1, 2)[:, :channels]


class _SequenceScan(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        u: torch.Tensor,
        delta: torch.Tensor,
        A: torch.Tensor,
        B: torch.Tensor,
        C: torch.Tensor,
        D: torch.Tensor,
        bias: torch.Tensor,
        softplus: bool,
        save: bool,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        batch, channels, length = u.shape
        groups, states = B.shape[1:3]
        in_group = channels // groups
        blocks, chunks = -(-in_group // LANES), -(-length // CHUNK)
        rates = in_lanes(A.view(groups, in_group, states) * _LOG2_E)
        packed = (rates, in_lanes(bias.view(groups, in_group)), in_lanes(D.view(groups, in_group)))
        y = torch.empty_like(u)
        last = u.new_empty(batch, groups, blocks, states, LANES)
        saved = u.new_empty((batch, groups, chunks, blocks, states, LANES) if save else 0)
        shape = (groups, in_group, length, states)
        arrays = (u, delta, B, C, *packed, y, last, saved)
        pairs = [(item, group) for item in range(batch) for group in range(groups)]
        tasks = [(*pair, *share, *shape) for pair in pairs for share in shares(len(pairs), blocks)]
        if length:
            run_tasks(scan_forward, (*map(flat, arrays), save, softplus), tasks)
        else:
            last.zero_()
        ctx.softplus, ctx.shape = softplus, shape
        ctx.save_for_backward(u, delta, B, C, *packed, saved)
        last = last.movedim(-1, 3).flatten(2, 3)[:, :, :in_group].flatten(1, 2)
        ctx.mark_non_differentiable(last)
        return y, last

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: torch.Tensor, _: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        u, delta, B, C, rates, bias, D, saved = ctx.saved_tensors
        groups, in_group, length, states = ctx.shape
        batch, blocks = u.shape[0], rates.shape[1]
        du, ddelta = torch.empty_like(u), torch.empty_like(u)
        dA = u.new_zeros(batch, groups, blocks, states, LANES)
        dbias, dD = (u.new_zeros(batch, groups, blocks, LANES) for _ in range(2))
        parts = shares(batch * groups, blocks)
        # Each share of a group's channels has its own gradients of B and C, so that threads do not meet.
        dB, dC = ([torch.empty_like(B) for _ in parts] for _ in range(2))
        inputs = tuple(map(flat, (u, delta, B, C, rates, bias, D, saved, grad.to(torch.float32).contiguous())))
        tasks = [
            (*map(flat, (du, ddelta, dB[part], dC[part], dA, dbias, dD)), item, group, *share, *ctx.shape)
            for item in range(batch)
            for group in range(groups)
            for part, share in enumerate(parts)
        ]
        if length:
            run_tasks(scan_backward, (*inputs, ctx.softplus), tasks)
        return (
            du,
            ddelta,
            _from_lanes(dA, in_group).flatten(0, 1),
            _total(dB),
            _total(dC),
            _from_lanes(dD, in_group).flatten(),
            _from_lanes(dbias, in_group).flatten(),
            None,
            None,
        )


class _PlaneScan(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        u: torch.Tensor,
        params: torch.Tensor,
        dt_weight: torch.Tensor,
        dt_bias: torch.Tensor,
        A: torch.Tensor,
        D: torch.Tensor,
        directions: tuple[int, ...],
        save: bool,
    ) -> torch.Tensor:
        modalities, batch, height, width, channels = u.shape
        rank, states = dt_weight.shape[2], A.shape[2]
        packed = tuple(map(in_lanes, (dt_weight, dt_bias, A * _LOG2_E, D)))
        blocks, chunks = -(-channels // LANES), -(-modalities * height * width // CHUNK)
        saved = u.new_empty((batch, len(directions), chunks, blocks, states, LANES) if save else 0)
        copies = _copies(batch, directions)
        y = [torch.empty_like(u) for _ in range(copies)]
        shape = (modalities, batch, height, width, channels, rank, states)
        inputs = (*map(flat, (u, params, *packed)), np.array(directions, np.int64))
        tasks = [
            (*map(flat, (y[copy], saved)), save, item, copy, copies, *share, *shape)
            for item in range(batch)
            for copy in range(copies)
            for share in shares(batch * copies, blocks)
        ]
        run_tasks(plane_forward, inputs, tasks)
        ctx.shape, ctx.directions = shape, directions
        ctx.save_for_backward(u, params, *packed, saved)
        return _total(y)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        u, params, dt_weight, dt_bias, A, D, saved = ctx.saved_tensors
        _, batch, _, _, channels, rank, states = ctx.shape
        walks, blocks, copies = len(ctx.directions), A.shape[1], _copies(batch, ctx.directions)
        parts = shares(batch * copies, blocks)
        du = [torch.empty_like(u) for _ in range(copies)]
        dparams = [torch.empty_like(params) for _ in parts]
        d_weight = u.new_zeros(batch, walks, blocks, rank, LANES)
        dA = u.new_zeros(batch, walks, blocks, states, LANES)
        dbias, dD = (u.new_zeros(batch, walks, blocks, LANES) for _ in range(2))
        given = tuple(map(flat, (u, params, dt_weight, dt_bias, A, D)))
        kept = tuple(map(flat, (saved, grad.to(torch.float32).contiguous())))
        inputs = (*given, np.array(ctx.directions, np.int64), *kept)
        sums = tuple(map(flat, (d_weight, dbias, dA, dD)))
        tasks = [
            (*map(flat, (du[copy], dparams[part])), *sums, item, copy, copies, *share, *ctx.shape)
            for item in range(batch)
            for copy in range(copies)
            for part, share in enumerate(parts)
        ]
        run_tasks(plane_backward, inputs, tasks)
        return (_total(du), _total(dparams), *(_from_lanes(x, channels) for x in (d_weight, dbias, dA, dD)), None, None)


def _total(parts: Sequence[torch.Tensor]) -> torch.Tensor:
    """The sum, in the memory of the first."""
    total = parts[0]
    for part in parts[1:]:
        total += part
    return total


def _copies(batch: int, directions: Sequence[int]) -> int:
    """Results to add up: one if every thread has an image of its own, else two, of every other walk (rows and columns)."""
    return 1 if batch >= torch.get_num_threads() else min(2, len(directions))
