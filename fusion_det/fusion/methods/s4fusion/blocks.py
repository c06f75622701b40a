"""The blocks of encoder and decoder: VSS blocks, and what changes the resolution.

S4Fusion (arXiv:2405.20881), Sec. III-B; the VSS block is VMamba's (arXiv:2401.10166), without an MLP. Feature maps are
channels-last, (b,H,W,C); parameters have the published names.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn

from fusion_det.fusion.methods.s4fusion.config import PATCH_SIZE, PATCH_STRIDE
from fusion_det.fusion.ssm import project, scan_2d
from fusion_det.fusion.ssm.layers import (
    at_least_float32,
    depthwise_silu,
    first_decay_logs,
    first_step_biases,
    gated_norm,
    undecayed,
    uniform_parameter,
)

DIRECTIONS = 4


def linear(inputs: int, outputs: int) -> nn.Linear:
    """A linear layer as everywhere in this network: no bias, weights normal with σ = 0.02."""
    layer = nn.Linear(inputs, outputs, bias=False)
    nn.init.trunc_normal_(layer.weight, std=0.02)
    return layer


class SS2D(nn.Module):
    """Selective scan of a feature map in four directions, between a projection with a gate and a projection back.

    Takes and returns (M,b,H,W,C): M maps scanned together, one here, two in
    :class:`~fusion_det.fusion.methods.s4fusion.cmsa.CrossSS2D`.

    Args:
        width: C. states: N, the size of the hidden state. expansion: the inner width d is ``expansion * width``.
    """

    def __init__(self, width: int, states: int, expansion: float) -> None:
        super().__init__()
        inner, rank = int(expansion * width), math.ceil(width / 16)
        self.inner, self.rank, self.states = inner, rank, states
        self.in_proj = linear(width, 2 * inner)
        self.conv2d = nn.Conv2d(inner, inner, 3, padding=1, groups=inner)
        self.x_proj_weight = uniform_parameter((DIRECTIONS, rank + 2 * states, inner), inner**-0.5)
        self.dt_projs_weight = uniform_parameter((DIRECTIONS, inner, rank), rank**-0.5)
        self.dt_projs_bias = nn.Parameter(first_step_biases(DIRECTIONS, inner))
        self.A_logs = undecayed(first_decay_logs(DIRECTIONS * inner, states))
        self.Ds = undecayed(torch.ones(DIRECTIONS * inner))
        self.out_norm = nn.LayerNorm(inner)
        self.out_proj = linear(inner, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        p, gate = self.split(x)
        u, params = self.scan_inputs(p)
        del p
        return project(gated_norm(self.scan(u, params).to(x.dtype), gate, self.out_norm), self.out_proj.weight)

    def split(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The features to scan and the gate, (M,b,H,W,d) each. (Two products with half of ``in_proj``: no copy to part them.)"""
        for_scan, for_gate = self.in_proj.weight.split(self.inner)
        return depthwise_silu(project(x, for_scan), self.conv2d), project(x, for_gate)

    def scan_inputs(self, p: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """What is scanned, (M,b,H,W,d), and the scan's parameters (t, B, C) of each direction, (M,b,H,W,4,r+2N)."""
        return p, project(p, self.x_proj_weight.flatten(0, 1)).unflatten(-1, (DIRECTIONS, -1))

    def scan(self, u: torch.Tensor, params: torch.Tensor) -> torch.Tensor:
        """The sum of the four directions' scans, (M,b,H,W,d)."""
        return scan_2d(
            at_least_float32(u),
            at_least_float32(params),
            at_least_float32(self.dt_projs_weight),
            at_least_float32(self.dt_projs_bias),
            -torch.exp(at_least_float32(self.A_logs)).unflatten(0, (DIRECTIONS, -1)),
            at_least_float32(self.Ds).unflatten(0, (DIRECTIONS, -1)),
        )


class VSSBlock(nn.Module):
    """x + SS2D(LN(x)), (b,H,W,C) to the same."""

    def __init__(self, width: int, states: int, expansion: float) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(width)
        self.self_attention = SS2D(width, states, expansion)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.self_attention(self.ln_1(x)[None])[0]


class PatchEmbedding(nn.Module):
    """Overlapping patches of one channel, (b,1,H,W) → (b,(H-1)/3,(W-1)/3,C), as a product of matrices."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(1, width, PATCH_SIZE, PATCH_STRIDE)
        self.norm = nn.LayerNorm(width)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        patches = image[:, 0].unfold(-2, PATCH_SIZE, PATCH_STRIDE).unfold(-2, PATCH_SIZE, PATCH_STRIDE)
        return self.norm(F.linear(patches.flatten(-2), self.proj.weight.flatten(1), self.proj.bias))


class PatchMerging(nn.Module):
    """Squares of four pixels become one: (b,H,W,C) → (b,H/2,W/2,2C); H and W even."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.reduction = linear(4 * width, 2 * width)
        self.norm = nn.LayerNorm(4 * width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        squares = x.unflatten(2, (-1, 2)).unflatten(1, (-1, 2))  # (b,H/2,2,W/2,2,C)
        # Their order in the channels: down the first column, then down the second.
        return project(self.norm(squares.permute(0, 1, 3, 4, 2, 5).flatten(3)), self.reduction.weight)


class PatchExpanding(nn.Module):
    """One pixel becomes a square of four: (b,H,W,2C) → (b,2H,2W,C)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.expand = linear(2 * width, 4 * width)
        self.norm = nn.LayerNorm(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # (b,H,W,2,2,C): row offset, column offset
        squares = self.norm(project(x, self.expand.weight).unflatten(-1, (2, 2, -1)))
        return squares.permute(0, 1, 3, 2, 4, 5).flatten(3, 4).flatten(1, 2)


class FinalExpansion(nn.Module):
    """The names of the published last expansion; see :meth:`VMUNet.project`. Its ``norm`` was never used."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.expand = linear(width, 4 * width)
        self.norm = nn.LayerNorm(width // 4)
