"""The selective scan of Mamba, and which of its backends computes it."""

from __future__ import annotations

import functools
import logging
import os
from typing import Literal, get_args, overload

import torch
import torch.nn.functional as F
from torch.overrides import handle_torch_function, has_torch_function

from fusion_det.errors import ConfigError
from fusion_det.fusion.ssm.reference import selective_scan_reference

Backend = Literal["reference", "cpu", "cuda", "triton"]
BACKEND_ENV = "FUSION_DET_SCAN"

log = logging.getLogger(__name__)


@overload
def selective_scan(
    u: torch.Tensor,
    delta: torch.Tensor,
    A: torch.Tensor,
    B: torch.Tensor,
    C: torch.Tensor,
    D: torch.Tensor | None = None,
    delta_bias: torch.Tensor | None = None,
    delta_softplus: bool = False,
    *,
    z: torch.Tensor | None = None,
    return_last_state: Literal[False] = False,
    backend: Backend | None = None,
) -> torch.Tensor: ...


@overload
def selective_scan(
    u: torch.Tensor,
    delta: torch.Tensor,
    A: torch.Tensor,
    B: torch.Tensor,
    C: torch.Tensor,
    D: torch.Tensor | None = None,
    delta_bias: torch.Tensor | None = None,
    delta_softplus: bool = False,
    *,
    z: torch.Tensor | None = None,
    return_last_state: Literal[True],
    backend: Backend | None = None,
) -> tuple[torch.Tensor, torch.Tensor]: ...


def selective_scan(
    u: torch.Tensor,
    delta: torch.Tensor,
    A: torch.Tensor,
    B: torch.Tensor,
    C: torch.Tensor,
    D: torch.Tensor | None = None,
    delta_bias: torch.Tensor | None = None,
    delta_softplus: bool = False,
    *,
    z: torch.Tensor | None = None,
    return_last_state: bool = False,
    backend: Backend | None = None,
) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
    """Run the recurrence of a selective state space model over sequences (Mamba, arXiv:2312.00752; S4Fusion, Eqs. 3 and 4).

    With Δ = softplus(delta + delta_bias) (or without either), group g(d) = ⌊d·G/D⌋ and h₀ = 0::

        h_t[d,n] = exp(Δ_t[d]·A[d,n])·h_{t-1}[d,n] + Δ_t[d]·B_t[g(d),n]·u_t[d]
        y_t[d]   = Σ_n C_t[g(d),n]·h_t[d,n] + D[d]·u_t[d]

    B enters as Δ·B, the first order of the zero-order hold, as in every published implementation. Differentiable in all
    tensors (the last state is not), once: only the reference has second derivatives. A ``torch.overrides.TorchFunctionMode``
    sees the call, as it sees those of torch's own functions: so operations are counted whichever backend computes them.

    Args:
        u, delta: (b,d,L) floating point. A: (d,N), normally negative. B, C: (b,G,N,L), d divisible by G. D, delta_bias: (d).
            Any strides; N from 1 to 64 on the fast backends.
        delta_softplus: apply softplus (x where x > 20) after the bias.
        z: (b,d,L) gate; the result is multiplied by SiLU(z).
        return_last_state: also return h_L, (b,d,N).
        backend: "reference" (plain PyTorch, any device and dtype), "cpu" (compiled, float32 inside), "cuda" (mamba-ssm's
            kernel) or "triton" (ours). None takes $FUSION_DET_SCAN, else the fastest for where ``u`` lies.

    Returns:
        y (b,d,L) of the dtype of ``u``, or (y, last state).

    Raises:
        ValueError: shapes that do not fit. ConfigError: a backend that this machine or this tensor cannot use.
    """
    if has_torch_function((u,)):
        seen: torch.Tensor | tuple[torch.Tensor, torch.Tensor] = handle_torch_function(
            selective_scan, (u,), u, delta, A, B, C, D, delta_bias, delta_softplus,  # type: ignore[arg-type]
            z=z, return_last_state=return_last_state, backend=backend,
        )  # fmt: skip
        return seen
    _check(u, delta, A, B, C, D, delta_bias, z)
    chosen = choose_backend(u, backend)
    if chosen == "cpu":
        from fusion_det.fusion.ssm.cpu.autograd import selective_scan_cpu as scan
    elif chosen == "cuda":
        from fusion_det.fusion.ssm.cuda import selective_scan_mamba as scan
    elif chosen == "triton":
        from fusion_det.fusion.ssm.triton_scan import selective_scan_triton as scan
    else:
        scan = selective_scan_reference
    y, last_state = scan(u, delta, A, B, C, D, delta_bias, delta_softplus)
    if z is not None:
        y = (y * F.silu(z)).to(u.dtype)
    return (y, last_state) if return_last_state else y


def choose_backend(tensor: torch.Tensor, backend: str | None = None) -> Backend:
    """The backend for a tensor: the one asked for (or named by $FUSION_DET_SCAN), else the fastest that can.

    Raises:
        ConfigError: an unknown backend, or one that cannot take this tensor; the message says what it would need.
    """
    asked = backend or os.environ.get(BACKEND_ENV)
    if not asked or tensor.is_meta:
        return _fastest(tensor)
    known = get_args(Backend)
    if asked not in known:
        raise ConfigError(f"selective scan backend {asked!r} (backend= or ${BACKEND_ENV}): use {', '.join(known)}")
    why_not = _WHY_NOT[asked](tensor)
    if why_not:
        raise ConfigError(f"selective scan backend {asked}: {why_not}")
    return asked  # type: ignore[return-value]


def _fastest(tensor: torch.Tensor) -> Backend:
    if tensor.device.type == "cpu":
        return "reference" if tensor.dtype == torch.float64 else "cpu"
    if tensor.device.type != "cuda":
        return "reference"
    reasons = {"cuda": _why_not_cuda(tensor), "triton": _why_not_triton(tensor)}
    for backend, reason in reasons.items():
        if reason is None:
            return backend  # type: ignore[return-value]
    if tensor.dtype != torch.float64:
        _warn_slow(str(reasons))
    return "reference"


@functools.cache
def _warn_slow(reasons: str) -> None:
    """Once a process: a scan in plain PyTorch on a GPU is hundreds of times slower than it could be."""
    log.warning("selective scan on this GPU falls back to plain PyTorch, which is very slow: %s", reasons)


def _why_not_reference(tensor: torch.Tensor) -> str | None:
    return None


def _why_not_cpu(tensor: torch.Tensor) -> str | None:
    if tensor.device.type != "cpu":
        return f"the tensor lies on {tensor.device}; move it to the CPU or leave the backend out"
    if tensor.dtype == torch.float64:
        return "it computes in float32, and the tensor is float64; use reference"
    return None


def _why_not_cuda(tensor: torch.Tensor) -> str | None:
    from fusion_det.fusion.ssm.cuda import why_not

    return why_not(tensor)


def _why_not_triton(tensor: torch.Tensor) -> str | None:
    from fusion_det.fusion.ssm.triton_scan import why_not

    return why_not(tensor)


_WHY_NOT = {
    "reference": _why_not_reference,
    "cpu": _why_not_cpu,
    "cuda": _why_not_cuda,
    "triton": _why_not_triton,
}


def _check(
    u: torch.Tensor,
    delta: torch.Tensor,
    A: torch.Tensor,
    B: torch.Tensor,
    C: torch.Tensor,
    D: torch.Tensor | None,
    delta_bias: torch.Tensor | None,
    z: torch.Tensor | None,
) -> None:
    if u.dim() != 3 or A.dim() != 2 or B.dim() != 4:
        raise ValueError(
            f"u is (b,d,L), A (d,N), B (b,G,N,L), not {tuple(u.shape)}, {tuple(A.shape)}, {tuple(B.shape)}"
        )
    batch, channels, length = u.shape
    states, groups = A.shape[1], B.shape[1]
    if length == 0:
        raise ValueError(f"u is {tuple(u.shape)}: there is nothing to scan")
    if groups == 0 or channels % groups:
        raise ValueError(f"{channels} channels cannot be shared out among {groups} groups of B")
    expected = {
        "delta": (delta, (batch, channels, length)),
        "A": (A, (channels, states)),
        "B": (B, (batch, groups, states, length)),
        "C": (C, (batch, groups, states, length)),
        "D": (D, (channels,)),
        "delta_bias": (delta_bias, (channels,)),
        "z": (z, (batch, channels, length)),
    }
    for name, (tensor, shape) in expected.items():
        if tensor is not None and tuple(tensor.shape) != shape:
            raise ValueError(
                f"{name} is {tuple(tensor.shape)}, but u {tuple(u.shape)} and A {tuple(A.shape)} ask for {shape}"
            )
