"""The selective scan as Triton kernels of our own, for GPUs without mamba-ssm."""

from __future__ import annotations

import importlib.util
import os
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.autograd.function import once_differentiable

_WARPS = 4
_ROW_ELEMENTS = 16
"""Rows begin at multiples of this: what Triton calls divisible, and lets it give each thread neighbouring steps."""


@dataclass(frozen=True)
class Tiling:
    """How the work is cut. All but ``programs`` are powers of two.

    ``channels`` (of one group, at most) by ``steps`` are one program's tile; ``chunks`` are carried over at a time; a group's
    channels are shared out in the backward until there are ``programs``, which costs memory: a copy of dB and dC per share.
    """

    channels: int = 8
    steps: int = 128
    chunks: int = 128
    programs: int = 1024


ON_A_GPU = Tiling()
IN_THE_INTERPRETER = Tiling(channels=2, steps=16, chunks=4, programs=16)
"""The interpreter walks a tile element by element: small tiles let small tests see many chunks."""


def why_not(tensor: torch.Tensor) -> str | None:
    """None if the Triton kernels can take this tensor, else the reason and the cure."""
    if tensor.dtype not in (torch.float32, torch.bfloat16, torch.float16):
        return f"it computes in float32, and the tensor is {tensor.dtype}; use reference"
    if tensor.device.type != "cuda" and not _interpreted():
        return f"the tensor lies on {tensor.device}; Triton needs a GPU (or TRITON_INTERPRET=1, its interpreter, for tests)"
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed: pip install triton (Linux; it comes with PyTorch's CUDA builds)"
    if _interpreted():
        return None
    major, minor = torch.cuda.get_device_capability(tensor.device)
    if torch.version.hip is None and major < 7:
        return f"Triton needs a GPU of compute capability 7.0 or newer, and this one has {major}.{minor}"
    return None


def selective_scan_triton(
    u: torch.Tensor,
    delta: torch.Tensor,
    A: torch.Tensor,
    B: torch.Tensor,
    C: torch.Tensor,
    D: torch.Tensor | None,
    delta_bias: torch.Tensor | None,
    delta_softplus: bool,
    *,
    tiling: Tiling | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Scan in chunks of the sequence, all at once; shapes as in :func:`fusion_det.fusion.ssm.selective_scan`.

    Float32 inside, whatever the inputs; differentiable in all tensors, and the gradients are the same in every run (no atomic
    additions). Beside inputs and results it holds the states between the chunks, (b,d,N,⌈L/128⌉) float32, twice in passing.
    Δ·A must not be positive: products of decays over a chunk are formed, and growth would overflow in them before it does in
    the states.

    Returns:
        y (b,d,L) of the dtype of ``u``, and the last state (b,d,N), float32, without gradient.
    """
    channels = u.shape[1]
    # A skip and a bias of 0 cost nothing beside the rest, and spare the kernels four variants.
    D = A.new_zeros(channels) if D is None else D
    delta_bias = A.new_zeros(channels) if delta_bias is None else delta_bias
    tiling = tiling or (IN_THE_INTERPRETER if _interpreted() else ON_A_GPU)
    return _TritonScan.apply(u, delta, A.float(), B, C, D.float(), delta_bias.float(), delta_softplus, tiling)


class _TritonScan(torch.autograd.Function):
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
        tiling: Tiling,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        u, delta, B, C = (_in_aligned_rows(x) for x in (u, delta, B, C))
        inputs = (u, delta, A.contiguous(), B, C, D.contiguous(), bias.contiguous())
        plan = _Plan.of(u, B, softplus, tiling)
        with torch.cuda.device_of(u):
            y, states, steps = _forward(plan, *inputs)
        last_state = states[..., -1].clone()
        ctx.plan = plan
        ctx.save_for_backward(*inputs, states, steps)
        ctx.mark_non_differentiable(last_state)
        return y, last_state

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: torch.Tensor, _: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        with torch.cuda.device_of(dy):
            return (*_backward(ctx.plan, ctx.saved_tensors, _in_aligned_rows(dy)), None, None)


@dataclass(frozen=True)
class _Plan:
    """The sizes of one scan, and how it is cut."""

    batch: int
    channels: int
    groups: int
    states: int
    length: int
    softplus: bool
    tiling: Tiling

    @classmethod
    def of(cls, u: torch.Tensor, B: torch.Tensor, softplus: bool, tiling: Tiling) -> _Plan:
        batch, channels, length = u.shape
        groups, states = B.shape[1:3]
        at_most = 1 << (channels // groups - 1).bit_length()  # a power of two that holds the channels of a group
        tiling = replace(tiling, channels=min(tiling.channels, at_most))
        return cls(batch, channels, groups, states, length, softplus, tiling)

    @property
    def chunks(self) -> int:
        return _ceil_div(self.length, self.tiling.steps)

    @property
    def blocks(self) -> int:
        """Blocks of channels in a group."""
        return _ceil_div(self.channels // self.groups, self.tiling.channels)

    @property
    def tiles(self) -> tuple[int, int]:
        """The grid of one program a tile."""
        return self.groups * self.blocks * self.chunks, self.batch

    @property
    def blocks_per_share(self) -> int:
        """How many blocks of channels a program of the backward takes."""
        programs = self.groups * self.chunks * self.batch
        return _ceil_div(self.blocks, min(self.blocks, _ceil_div(self.tiling.programs, programs)))

    @property
    def sizes(self) -> tuple[int, ...]:
        return self.channels, self.groups, self.length, _stride(self.length), self.chunks

    @property
    def options(self) -> dict[str, Any]:
        """What the kernels are compiled for."""
        return {
            "N": self.states,
            "SOFTPLUS": self.softplus,
            "BLOCK_D": self.tiling.channels,
            "BLOCK_L": self.tiling.steps,
            "num_warps": _WARPS,
        }


def _forward(
    plan: _Plan,
    u: torch.Tensor,
    delta: torch.Tensor,
    A: torch.Tensor,
    B: torch.Tensor,
    C: torch.Tensor,
    D: torch.Tensor,
    bias: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """y (b,d,L), the states between the chunks (b,d,N,chunks+1), the sums of Δ over each chunk (b,d,chunks)."""
    from fusion_det.fusion.ssm.triton_kernels import scan_chunks, summarise_chunks

    sums = A.new_empty(plan.batch, plan.channels, plan.states, plan.chunks)
    steps = A.new_empty(plan.batch, plan.channels, plan.chunks)
    summarise_chunks[plan.tiles](delta, bias, A, u, B, sums, steps, *plan.sizes, BACKWARD=False, **plan.options)
    states = _carry_over(plan, sums, steps, A, backward=False)
    y = _new_rows(u.shape, u)
    scan_chunks[plan.tiles](u, delta, bias, A, B, C, D, states, y, *plan.sizes, **plan.options)
    return y, states, steps


def _backward(plan: _Plan, saved: tuple[torch.Tensor, ...], dy: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """The gradients of u, delta, A, B, C, D and bias; ``saved`` are these, and what :func:`_forward` returned beside y."""
    from fusion_det.fusion.ssm.triton_kernels import scan_chunks_backward, summarise_chunks

    u, delta, A, B, C, D, bias, states, steps = saved
    sums = A.new_empty(plan.batch, plan.channels, plan.states, plan.chunks)
    summarise_chunks[plan.tiles](delta, bias, A, dy, C, sums, steps, *plan.sizes, BACKWARD=True, **plan.options)
    adjoints = _carry_over(plan, sums, steps, A, backward=True)

    per_share = plan.blocks_per_share
    shares = _ceil_div(plan.blocks, per_share)
    du, ddelta = _new_rows(u.shape, u), _new_rows(delta.shape, delta)
    dA, dD, dbias = sums, torch.empty_like(steps), torch.empty_like(steps)  # per chunk; the sums have been used
    dB, dC = _new_rows((shares, *B.shape), A), _new_rows((shares, *C.shape), A)
    gradients = (du, ddelta, dA, dB, dC, dD, dbias)
    scan_chunks_backward[(plan.groups * plan.chunks, plan.batch, shares)](
        u, delta, bias, A, B, C, D, dy, states, adjoints, *gradients, *plan.sizes, per_share, **plan.options
    )
    return (
        du,
        ddelta,
        dA.sum((0, 3)),
        dB.sum(0).to(B.dtype),
        dC.sum(0).to(C.dtype),
        dD.sum((0, 2)),
        dbias.sum((0, 2)),
    )


def _carry_over(plan: _Plan, sums: torch.Tensor, steps: torch.Tensor, A: torch.Tensor, backward: bool) -> torch.Tensor:
    """The states between the chunks, or the adjoints, (b,d,N,chunks+1), from what each chunk adds."""
    from fusion_det.fusion.ssm.triton_kernels import carry_over_chunks

    between = sums.new_empty(*sums.shape[:3], plan.chunks + 1)
    carry_over_chunks[(plan.batch * plan.channels * plan.states,)](
        sums,
        steps,
        A,
        between,
        plan.channels,
        plan.chunks,
        N=plan.states,
        BACKWARD=backward,
        BLOCK_CHUNKS=plan.tiling.chunks,
        num_warps=1,
    )
    return between


def _in_aligned_rows(x: torch.Tensor) -> torch.Tensor:
    """``x`` itself if it is laid out as the kernels expect, else a copy."""
    if x.is_contiguous() and x.shape[-1] == _stride(x.shape[-1]):
        return x
    return _new_rows(x.shape, x).copy_(x)


def _new_rows(shape: tuple[int, ...], like: torch.Tensor) -> torch.Tensor:
    """Memory for sequences that begin every :func:`_stride` elements."""
    return like.new_empty(*shape[:-1], _stride(shape[-1]))[..., : shape[-1]]


def _stride(length: int) -> int:
    return _ceil_div(length, _ROW_ELEMENTS) * _ROW_ELEMENTS


def _ceil_div(a: int, b: int) -> int:
    return -(-a // b)


def _interpreted() -> bool:
    return os.environ.get("TRITON_INTERPRET") == "1"
