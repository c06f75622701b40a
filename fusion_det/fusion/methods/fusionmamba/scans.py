"""The scans of FusionMamba (Xie et al. 2024, arXiv:2404.09498): of every other pixel, row by row or column by column.

Maps are channels last, (b,H,W,C). A map is dealt out to four of half its height and width, and each is scanned once, one way;
so a pixel is scanned once, where a scan in four directions sees it four times. Parameters have the published names.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn

from fusion_det.fusion.ssm import project, scan_2d

PARTS = 4
_STEP_RANGE = 1e-3, 1e-1


class EfficientScan(nn.Module):
    """What the scans of one and of two maps have in common: convolution, scan, norm and the projection back.

    Args:
        width: C; the inner width d is twice that. states: size of the hidden state.
    """

    def __init__(self, width: int, states: int) -> None:
        super().__init__()
        inner, rank = 2 * width, math.ceil(width / 16)
        self.inner, self.rank, self.states = inner, rank, states
        self.conv2d = nn.Conv2d(inner, inner, 3, padding=1, groups=inner)
        self.x_proj_weight = uniform_parameter((PARTS, rank + 2 * states, inner), inner**-0.5)
        self.dt_projs_weight = uniform_parameter((PARTS, inner, rank), rank**-0.5)
        low, high = map(math.log, _STEP_RANGE)
        step = torch.empty(PARTS, inner).uniform_(low, high).exp_().clamp_min(1e-4)
        self.dt_projs_bias = nn.Parameter(step + (-torch.expm1(-step)).log())  # the inverse of softplus
        self.A_logs = nn.Parameter(torch.arange(1, states + 1, dtype=torch.float32).log().repeat(PARTS * inner, 1))
        self.Ds = nn.Parameter(torch.ones(PARTS * inner))
        self.out_norm = nn.LayerNorm(inner)
        self.out_proj = Linear(inner, width)

    def convolve(self, p: torch.Tensor) -> torch.Tensor:
        """SiLU of the depthwise convolution, (b,H,W,d) to the same."""
        maps = F.conv2d(p.permute(0, 3, 1, 2), self.conv2d.weight, self.conv2d.bias, padding=1, groups=self.inner)
        return silu(maps).permute(0, 2, 3, 1)

    def scan(self, p: torch.Tensor) -> torch.Tensor:
        """The normed scan, (b,H,W,d) to the same."""
        dt_weight, dt_bias = at_least_float32(self.dt_projs_weight), at_least_float32(self.dt_projs_bias)
        A = -at_least_float32(self.A_logs).exp().unflatten(0, (PARTS, -1))
        D = at_least_float32(self.Ds).unflatten(0, (PARTS, -1))
        scanned = []
        for k, part in enumerate(deal(p)):
            params = project(part, self.x_proj_weight[k])[None, ..., None, :]
            one = slice(k, k + 1)
            u = at_least_float32(part)[None], at_least_float32(params)
            y = scan_2d(*u, dt_weight[one], dt_bias[one], A[one], D[one], directions=(k % 2,))
            scanned.append(y[0])
        return self.out_norm(gather(scanned, p.shape[1], p.shape[2]).to(p.dtype))


class ES2D(EfficientScan):
    """The gated scan of a map, (b,H,W,C) to the same."""

    def __init__(self, width: int, states: int) -> None:
        super().__init__(width, states)
        self.in_proj = Linear(width, 2 * self.inner)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for_scan, for_gate = self.in_proj.weight.split(self.inner)
        y = self.scan(self.convolve(project(x, for_scan)))
        return project(multiplied(y, silu(project(x, for_gate))), self.out_proj.weight)


class CrossES2D(EfficientScan):
    """The gated scan of what two maps have in common, (b,H,W,C) each, to one.

    As released, the second gate is SiLU of the first one, not of the second map's; the second half of ``in_proj2`` has no use.
    """

    def __init__(self, width: int, states: int) -> None:
        super().__init__(width, states)
        self.in_proj1, self.in_proj2 = Linear(width, 2 * self.inner), Linear(width, 2 * self.inner)

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        for_scan, for_gate = self.in_proj1.weight.split(self.inner)
        p = self.convolve(project(x, for_scan))
        q = self.convolve(project(y, self.in_proj2.weight[: self.inner]))
        scanned = self.scan(p * q + p + q)
        del p, q
        gate = silu(project(x, for_gate))
        return project(multiplied(scanned, gate + F.silu(gate)), self.out_proj.weight)


def deal(p: torch.Tensor) -> list[torch.Tensor]:
    """Four maps of every other pixel, (b,⌈H/2⌉,⌈W/2⌉,d) each: (even row, even column), (odd, even), (even, odd), (odd, odd).

    Odd sizes get a row or a column of zeros more.
    """
    _, height, width, _ = p.shape
    if height % 2 or width % 2:
        p = F.pad(p, (0, 0, 0, width % 2, 0, height % 2))
    return [p[:, row::2, column::2].contiguous() for column in range(2) for row in range(2)]


def gather(parts: list[torch.Tensor], height: int, width: int) -> torch.Tensor:
    """Undo :func:`deal`, (b,H,W,d)."""
    columns = torch.stack(parts).unflatten(0, (2, 2))  # (column, row, b, H/2, W/2, d)
    return columns.permute(2, 3, 1, 4, 0, 5).flatten(3, 4).flatten(1, 2)[:, :height, :width]


class Linear(nn.Linear):
    """As it is initialised everywhere here: weights normal with σ = 0.02, no bias or zero."""

    def __init__(self, inputs: int, outputs: int, *, bias: bool = False) -> None:
        super().__init__(inputs, outputs, bias=bias)

    def reset_parameters(self) -> None:
        nn.init.trunc_normal_(self.weight, std=0.02)
        if self.bias is not None:
            nn.init.zeros_(self.bias)


def uniform_parameter(shape: tuple[int, ...], bound: float) -> nn.Parameter:
    """Uniform in ±bound."""
    return nn.Parameter(nn.init.uniform_(torch.empty(shape), -bound, bound))


def silu(x: torch.Tensor) -> torch.Tensor:
    """In the place of x where no gradient is recorded."""
    return F.silu(x, inplace=not x.requires_grad)


def multiplied(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """x · y, in the place of x where no gradient is recorded."""
    return x * y if x.requires_grad or y.requires_grad else x.mul_(y)


def at_least_float32(x: torch.Tensor) -> torch.Tensor:
    return x if x.dtype == torch.float64 else x.float()
