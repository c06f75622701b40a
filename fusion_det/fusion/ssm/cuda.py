"""mamba-ssm's CUDA kernel as a backend of the selective scan, where its extension is installed."""

from __future__ import annotations

import functools
import importlib
import importlib.util
from collections.abc import Callable

import torch

from fusion_det.errors import ConfigError

INSTALL = "MAMBA_KEEP_CUDA_BUILD=TRUE pip install mamba-ssm --no-build-isolation"
MOST_STATES = 256
"""The kernel's limit on the state size N."""

_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def why_not(tensor: torch.Tensor) -> str | None:
    """None if mamba-ssm's kernel can take this tensor, else the reason and the cure."""
    if tensor.device.type != "cuda":
        return f"the tensor lies on {tensor.device}, and mamba-ssm's kernel needs a CUDA device"
    if tensor.dtype not in _DTYPES:
        return f"it takes float32, bfloat16 and float16, and the tensor is {tensor.dtype}; use reference"
    return _why_not_installed()


def selective_scan_mamba(
    u: torch.Tensor,
    delta: torch.Tensor,
    A: torch.Tensor,
    B: torch.Tensor,
    C: torch.Tensor,
    D: torch.Tensor | None,
    delta_bias: torch.Tensor | None,
    delta_softplus: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Call mamba-ssm's ``selective_scan_fn``; shapes as in :func:`fusion_det.fusion.ssm.selective_scan`.

    The kernel wants u, delta, B and C of one dtype (the widest of theirs is taken), A, D and delta_bias in float32, and
    sequences without gaps; what comes otherwise is converted.

    Returns:
        y (b,d,L) of the dtype of ``u``, and the last state (b,d,N), float32, without gradient.

    Raises:
        ConfigError: more than 256 states, or mamba-ssm is not installed as it must be.
    """
    if A.shape[1] > MOST_STATES:
        raise ConfigError(f"mamba-ssm's kernel takes up to {MOST_STATES} states, not {A.shape[1]}; use backend triton")
    dtype = functools.reduce(torch.promote_types, (x.dtype for x in (u, delta, B, C)))
    sequences = [_with_dense_rows(x.to(dtype)) for x in (u, delta, B, C)]
    per_channel = [None if x is None else x.float().contiguous() for x in (A, D, delta_bias)]
    y, last_state = _scan_function()(
        sequences[0],
        sequences[1],
        per_channel[0],
        sequences[2],
        sequences[3],
        D=per_channel[1],
        delta_bias=per_channel[2],
        delta_softplus=delta_softplus,
        return_last_state=True,
    )
    return y.to(u.dtype), last_state.detach()


def _with_dense_rows(x: torch.Tensor) -> torch.Tensor:
    return x if x.stride(-1) == 1 else x.contiguous()


@functools.cache
def _why_not_installed() -> str | None:
    """Found out once a process: an extension that does not load is tried and seen here, not in the middle of a network."""
    try:
        _scan_function()
    except ConfigError as error:
        return str(error)
    return None


@functools.cache
def _scan_function() -> Callable[..., tuple[torch.Tensor, torch.Tensor]]:
    """``selective_scan_fn``, imported when first used: mamba_ssm brings whole language models along."""
    if importlib.util.find_spec("mamba_ssm") is None:
        raise ConfigError(f"mamba-ssm is not installed: {INSTALL}")
    try:
        # By name, as recent releases import without it and fail at the first call.
        importlib.import_module("selective_scan_cuda")
        module = importlib.import_module("mamba_ssm.ops.selective_scan_interface")
    except ModuleNotFoundError as error:
        if error.name != "selective_scan_cuda":
            raise ConfigError(f"mamba-ssm is installed, but not {error.name}, which it needs: {INSTALL}") from error
        raise ConfigError(
            f"mamba-ssm is installed without its extension selective_scan_cuda, which pip leaves out by default: {INSTALL}"
        ) from error
    except ImportError as error:
        raise ConfigError(
            f"mamba-ssm's extension does not load ({error}); build it for this PyTorch: "
            f"{INSTALL} --force-reinstall --no-deps --no-cache-dir"
        ) from error
    scan: Callable[..., tuple[torch.Tensor, torch.Tensor]] = module.selective_scan_fn
    return scan
