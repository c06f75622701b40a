"""The blocks of MambaDFuse (Li et al. 2024, arXiv:2404.08406): Mamba over all pixels of an image, row by row, one way.

Tokens are (b,L,C), a pixel each. Everything here looks back alone, at earlier tokens, so a sequence may come in pieces: a
:class:`Past` then carries what each branch remembers from one to the next. Parameters have the published names.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from fusion_det.fusion.ssm import ConvolutionStream, ScanStream, can_stream, project, scan_2d

EXPANSION, TAPS = 2, 4
"""Inner width of a branch over the tokens', and length of its convolution."""
PIECE = 16384
"""Tokens at once, of all images of a batch together: a piece of the widest map is 8 MiB. Few enough to stay near, and
many enough not to feel the calls."""
_STEP_RANGE = 1e-3, 1e-1


class Branch(NamedTuple):
    """Parameters of a gated scan g of one sequence (in the terms of Mamba's own code)."""

    in_proj: nn.Linear
    conv1d: nn.Conv1d
    x_proj: nn.Linear
    dt_proj: nn.Linear
    A_log: nn.Parameter
    D: nn.Parameter

    def forward(self, tokens: torch.Tensor, past: Past | None) -> torch.Tensor:
        """Scanned and gated, (b,L,C) → (b,L,d)."""
        for_scan, for_gate = self.in_proj.weight.chunk(2)
        p, gate = project(tokens, for_scan), project(tokens, for_gate)
        if past is not None:
            layers = past.of(self)
            u = layers.convolve(p).to(p.dtype)
            return layers.scan(u, project(u, self.x_proj.weight), gate).to(p.dtype)
        before = F.pad(p.mT, (TAPS - 1, 0))
        u = F.silu(F.conv1d(before, self.conv1d.weight, self.conv1d.bias, groups=p.shape[-1]).mT)
        params = project(u, self.x_proj.weight)
        scan_weights = (_at_least_float32(x)[None] for x in self.scan_weights())
        scanned = scan_2d(
            _at_least_float32(u)[None, :, None],
            _at_least_float32(params)[None, :, None, :, None],
            *scan_weights,
            directions=(0,),
        )
        return scanned[0, :, 0].to(p.dtype) * F.silu(gate)

    def scan_weights(self) -> tuple[torch.Tensor, ...]:
        """Weights and bias of the step size, A and D."""
        return self.dt_proj.weight, self.dt_proj.bias, -_at_least_float32(self.A_log).exp(), self.D


class BranchStream:
    """The layers of a branch that look back."""

    def __init__(self, branch: Branch) -> None:
        self.convolve = ConvolutionStream(branch.conv1d.weight, branch.conv1d.bias)  # type: ignore[arg-type]
        self.scan = ScanStream(*branch.scan_weights())


class Past:
    """What all branches of a network remember of the pieces that they have seen."""

    def __init__(self) -> None:
        self.streams: dict[nn.Module, BranchStream] = {}

    def of(self, branch: Branch) -> BranchStream:
        if branch.conv1d not in self.streams:
            self.streams[branch.conv1d] = BranchStream(branch)
        return self.streams[branch.conv1d]


class Pieces:
    """Parts of sequences in their order, and what is remembered between them: one of everything, where sequences stay whole.

    Iterate over an instance for slices of L.
    """

    def __init__(self, tokens: torch.Tensor) -> None:
        batch, self.length, _ = tokens.shape
        self.past = Past() if can_stream(tokens) else None
        self.step = self.length if self.past is None else max(1, PIECE // max(1, batch))

    def __iter__(self) -> Iterator[slice]:
        return (slice(start, start + self.step) for start in range(0, self.length, self.step))

    @property
    def whole(self) -> bool:
        return self.step >= self.length


class Norm(nn.Module):
    """Layer norm of tokens, under its published name."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.LayerNorm(width)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.body(tokens)
        return y


class Mamba(nn.Module):
    """Mamba in one direction (Gu and Dao 2023, arXiv:2312.00752): a branch and a projection back, (b,L,C) to the same."""

    def __init__(self, width: int, states: int) -> None:
        super().__init__()
        inner, rank = EXPANSION * width, math.ceil(width / 16)
        self.in_proj = nn.Linear(width, 2 * inner, bias=False)
        self.conv1d, self.x_proj, self.dt_proj = scan_layers(inner, rank, states)
        self.A_log, self.D = rates(inner, states), nn.Parameter(torch.ones(inner))
        self.out_proj = nn.Linear(inner, width, bias=False)
        initialise_steps(self.dt_proj)

    def forward(self, tokens: torch.Tensor, past: Past | None = None) -> torch.Tensor:
        return project(self.branch.forward(tokens, past), self.out_proj.weight)

    @property
    def branch(self) -> Branch:
        return Branch(self.in_proj, self.conv1d, self.x_proj, self.dt_proj, self.A_log, self.D)


class MultiModalMamba(Mamba):
    """The sum of three branches, of three sequences, projected back. The second and the third have the same rates A."""

    def __init__(self, width: int, states: int) -> None:
        super().__init__(width, states)
        inner, rank = EXPANSION * width, math.ceil(width / 16)
        self.in_proj_extra1, self.in_proj_extra2 = (nn.Linear(width, 2 * inner, bias=False) for _ in range(2))
        self.conv1d_b, self.x_proj_b, self.dt_proj_b = scan_layers(inner, rank, states)
        self.conv1d_c, self.x_proj_c, self.dt_proj_c = scan_layers(inner, rank, states)
        self.A_b_log = rates(inner, states)
        self.D_b, self.D_c = nn.Parameter(torch.ones(inner)), nn.Parameter(torch.ones(inner))

    @property
    def extra_branches(self) -> tuple[Branch, Branch]:
        b = Branch(self.in_proj_extra1, self.conv1d_b, self.x_proj_b, self.dt_proj_b, self.A_b_log, self.D_b)
        c = Branch(self.in_proj_extra2, self.conv1d_c, self.x_proj_c, self.dt_proj_c, self.A_b_log, self.D_c)
        return b, c

    def fuse(
        self, tokens: torch.Tensor, extra_1: torch.Tensor, extra_2: torch.Tensor, past: Past | None = None
    ) -> torch.Tensor:
        """(b,L,C) of three sequences to one."""
        total = self.branch.forward(tokens, past)
        for branch, extra in zip(self.extra_branches, (extra_1, extra_2), strict=True):
            total = added(total, branch.forward(extra, past))
        return project(total, self.out_proj.weight)


class MambaBlock(nn.Module):
    """One link of a chain: what came in joins the residual, whose norm is scanned."""

    def __init__(self, width: int, states: int) -> None:
        super().__init__()
        self.encoder, self.norm = Mamba(width, states), Norm(width)

    def forward(
        self, tokens: torch.Tensor, residual: torch.Tensor | None, past: Past | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The scanned tokens and the residual, (b,L,C) each."""
        residual = tokens if residual is None else tokens + residual
        return self.encoder(self.norm(residual), past), residual


class Chain(nn.ModuleList):
    """Blocks in turn. The residual begins with nothing, and is handed on beside the result, not added to it at the end."""

    def __init__(self, width: int, states: int, depth: int) -> None:
        super().__init__(MambaBlock(width, states) for _ in range(depth))

    def forward(self, tokens: torch.Tensor, past: Past | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """The last scanned tokens and the residual, (b,L,C) each."""
        residual: torch.Tensor | None = None
        for block in self:
            tokens, residual = block(tokens, residual, past)
        if residual is None:
            raise ValueError("a chain has at least one block")
        return tokens, residual


class TokenSwap(nn.Module):
    """A block for each modality, between whose norm and scan the two exchange every other channel, the first one first."""

    def __init__(self, width: int, states: int) -> None:
        super().__init__()
        self.I1encoder, self.I2encoder = Mamba(width, states), Mamba(width, states)
        self.norm1, self.norm2 = Norm(width), Norm(width)

    def forward(
        self,
        a: torch.Tensor,
        b: torch.Tensor,
        residual_a: torch.Tensor,
        residual_b: torch.Tensor,
        past: Past | None = None,
    ) -> tuple[torch.Tensor, ...]:
        """Scanned tokens of both, and both residuals, (b,L,C) each."""
        residual_a, residual_b = a + residual_a, b + residual_b
        u, v = self.norm1(residual_a), self.norm2(residual_b)
        even = torch.arange(u.shape[-1], device=u.device) % 2 == 0
        swapped_u, swapped_v = torch.where(even, v, u), torch.where(even, u, v)
        return self.I1encoder(swapped_u, past), self.I2encoder(swapped_v, past), residual_a, residual_b


class FusionBlock(nn.Module):
    """Scans the fused tokens together with those of both sources, then adds a depthwise convolution of the result's map."""

    def __init__(self, width: int, states: int) -> None:
        super().__init__()
        self.multi_modal_mamba_block = MultiModalMamba(width, states)
        self.norm1, self.norm2, self.norm3 = Norm(width), Norm(width), Norm(width)
        self.dwconv = nn.Conv2d(width, width, 3, padding=1, groups=width)

    def scan(
        self, fused: torch.Tensor, residual: torch.Tensor | None, a: torch.Tensor, b: torch.Tensor, past: Past | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The scanned tokens and the residual. Each norm is applied twice, and the second source is the first extra sequence."""
        residual = fused if residual is None else fused + residual
        own, first, second = (norm(norm(x)) for norm, x in ((self.norm1, residual), (self.norm2, b), (self.norm3, a)))
        return self.multi_modal_mamba_block.fuse(own, first, second, past), residual


def scan_layers(inner: int, rank: int, states: int) -> tuple[nn.Conv1d, nn.Linear, nn.Linear]:
    """Convolution, and the projections to t, B and C and from t to the step size."""
    return (
        nn.Conv1d(inner, inner, TAPS, groups=inner),
        nn.Linear(inner, rank + 2 * states, bias=False),
        nn.Linear(rank, inner),
    )


def rates(inner: int, states: int) -> nn.Parameter:
    """log(-A), published: A of state n begins at -n."""
    return nn.Parameter(torch.arange(1, states + 1, dtype=torch.float32).log().repeat(inner, 1))


@torch.no_grad()
def initialise_steps(layer: nn.Linear) -> None:
    """Step sizes begin between 0.001 and 0.1, evenly on a logarithmic scale. (The copies for the extra branches do not.)"""
    nn.init.uniform_(layer.weight, -(layer.in_features**-0.5), layer.in_features**-0.5)
    low, high = map(math.log, _STEP_RANGE)
    step = torch.empty_like(layer.bias).uniform_(low, high).exp_().clamp_min(1e-4)
    layer.bias.copy_(step + (-torch.expm1(-step)).log())  # the inverse of softplus


def added(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """x + y, in the place of x where no gradient is recorded."""
    return x + y if x.requires_grad or y.requires_grad else x.add_(y)


def _at_least_float32(x: torch.Tensor) -> torch.Tensor:
    return x if x.dtype == torch.float64 else x.float()
