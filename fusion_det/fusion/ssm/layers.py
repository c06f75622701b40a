"""The layer that does the rest of the work in networks of this family: a projection of every position."""

from __future__ import annotations

import torch
import torch.nn.functional as F


def project(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """``torch.nn.functional.linear``, by the fastest way to it: (…,C) with weights (C',C) → (…,C').

    On a CPU as a 1 × 1 convolution of a channels-last map, which torch gives to oneDNN; a matrix product goes to MKL, which
    runs at half the speed on processors that are not Intel's (benchmarks/README.md).
    """
    by_convolution = x.device.type == "cpu" and x.dtype in (torch.float32, torch.bfloat16) and x.numel() > 0
    if not (by_convolution and torch.backends.mkldnn.is_available()):
        return F.linear(x, weight, bias)
    channels, outputs = x.shape[-1], weight.shape[0]
    as_map = x.reshape(1, 1, -1, channels).permute(0, 3, 1, 2)  # (1,C,1,positions), channels last: nothing is copied
    y = F.conv2d(as_map, weight[:, :, None, None], bias)
    return y.permute(0, 2, 3, 1).reshape(*x.shape[:-1], outputs)
