"""What surrounds a selective scan in networks of this family: projections, gates, and what parameters begin as."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn

_STEP_RANGE = 1e-3, 1e-1
"""Range of the step sizes Δ that a fresh block begins with (Mamba, arXiv:2312.00752, Sec. 3.6)."""


def project(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """``torch.nn.functional.linear``, by the fastest way to it: (…,C) with weights (C',C) → (…,C').

    On a CPU as a 1 × 1 convolution of a channels-last map, which torch gives to oneDNN; a matrix product goes to MKL, which
    runs at half the speed on processors that are not Intel's (benchmarks/README.md).
    """
    by_convolution = x.device.type == "cpu" and x.dtype in (torch.float32, torch.bfloat16) and x.numel() > 0
    if not (by_convolution and torch.backends.mkldnn.is_available()):
        return F.linear(x, weight, bias)
    channels, outputs = x.shape[-1], weight.shape[0]
    positions = x.numel() // channels
    # With one thread torch takes the slow way for small kernels, unless there are sixteen images.
    images = 16 if torch.get_num_threads() == 1 and positions % 16 == 0 else 1
    as_map = x.reshape(images, 1, -1, channels).permute(0, 3, 1, 2)  # (n,C,1,positions/n), channels last: no copy
    y = F.conv2d(as_map, weight[:, :, None, None], bias)
    return y.permute(0, 2, 3, 1).reshape(*x.shape[:-1], outputs)


def depthwise_silu(x: torch.Tensor, conv: nn.Conv2d) -> torch.Tensor:
    """SiLU(conv(x)) of channels-last maps (…,H,W,d), with a depthwise 3 × 3 ``conv`` padded with zeros; the same shape."""
    maps = x.flatten(0, -4).permute(0, 3, 1, 2)  # seen as (n,d,H,W) in torch's channels-last layout: nothing is copied
    y = F.conv2d(maps, conv.weight, conv.bias, padding=1, groups=conv.groups)
    return F.silu(y, inplace=not y.requires_grad).permute(0, 2, 3, 1).reshape(x.shape)


def gated_norm(y: torch.Tensor, gate: torch.Tensor, norm: nn.LayerNorm) -> torch.Tensor:
    """norm(y) · SiLU(gate), over the last axis. ``gate`` is used up where no gradient is recorded."""
    normed = F.layer_norm(y, norm.normalized_shape, norm.weight, norm.bias, norm.eps)
    if normed.requires_grad or gate.requires_grad:
        return normed * F.silu(gate)
    return normed.mul_(F.silu(gate, inplace=True))


def at_least_float32(x: torch.Tensor) -> torch.Tensor:
    """A scan multiplies thousands of factors: it runs in float32 whatever the precision of the network, like mamba's."""
    return x if x.dtype == torch.float64 else x.float()


def uniform_parameter(shape: tuple[int, ...], bound: float) -> nn.Parameter:
    """Uniform in ±bound."""
    return nn.Parameter(nn.init.uniform_(torch.empty(shape), -bound, bound))


def undecayed(values: torch.Tensor) -> nn.Parameter:
    """A parameter that weight decay must leave alone, marked by an attribute ``_no_weight_decay`` for the optimiser's setup."""
    parameter = nn.Parameter(values)
    parameter._no_weight_decay = True  # type: ignore[attr-defined]
    return parameter


def first_step_biases(*shape: int) -> torch.Tensor:
    """Biases of Δ by which it begins log-uniform in 0.001…0.1: the inverse of its softplus."""
    low, high = map(math.log, _STEP_RANGE)
    step = torch.empty(shape).uniform_(low, high).exp_().clamp_min(1e-4)
    return step + (-torch.expm1(-step)).log()


def first_decay_logs(channels: int, states: int) -> torch.Tensor:
    """log(1…N) for every channel, (channels,N): the logarithms of -A."""
    return torch.arange(1, states + 1, dtype=torch.float32).log().repeat(channels, 1)
