"""The element-wise parts of a block, apart from the scan: what a fused kernel may replace."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


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
