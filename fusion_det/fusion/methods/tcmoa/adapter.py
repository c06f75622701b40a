"""TC-MoA's adapters (Zhu et al. 2024, arXiv:2403.12494): experts that weigh two sources, token by token, as a task needs it.

Tokens are (B,N,D), of two sources that lie in one place each. Adapters compute in float32 whatever surrounds them, as published.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

EXPERTS, CHOSEN = 4, 2
"""How many experts there are, and how many of them a token is given to."""
LEAST_GATE = 1e-4
"""Gates up to here are closed."""
SMALLEST = 2.220446049250313e-16
"""Stands for a sum of experts that is 0, of which there is no logarithm."""
SHIFT_DEVIATION = 0.02


class Routing(NamedTuple):
    """How a batch's tokens were given to experts: importance (E,) is the sum of gates of each, load (E,) how many tokens it gets,
    in training an expectation that has a gradient.
    """

    importance: torch.Tensor
    load: torch.Tensor


class Prompts(NamedTuple):
    """The weight of either source at every token, (B,N,1) in (0,1)."""

    vi: torch.Tensor
    ir: torch.Tensor


class Expert(nn.Module):
    """An MLP with a waist."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, width // 8), nn.Linear(width // 8, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.fc2(F.relu(self.fc1(x)))
        return y


class MixtureOfExperts(nn.Module):
    """The two experts that a task's gate prefers for a token are averaged: log Σ g exp(expert).

    While it trains, noise decides as well, whose strength is learnt.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, width: int, tasks: int) -> None:
        super().__init__()
        self.experts = nn.ModuleList(Expert(width) for _ in range(EXPERTS))
        self.w_gate = nn.Parameter(torch.zeros(tasks, width, EXPERTS))
        self.w_noise = nn.Parameter(torch.zeros(tasks, width, EXPERTS))
        self.register_buffer("mean", torch.tensor([0.0]))
        self.register_buffer("std", torch.tensor([1.0]))

    def forward(self, y: torch.Tensor, task: int) -> tuple[torch.Tensor, Routing]:
        """(…,C) to the same. All experts see all tokens: they are a thousandth of the network, and sorting takes longer."""
        gates, routing = self.gates(y, task)
        total = y.new_zeros(())
        for index, expert in enumerate(self.experts):
            total = total + gates[..., index, None] * expert(y).exp()
        return torch.where(total == 0, SMALLEST, total).log(), routing

    def gates(self, y: torch.Tensor, task: int) -> tuple[torch.Tensor, Routing]:
        """(…,E), all but two of them 0, that add up to 1."""
        clean = y @ self.w_gate[task]
        logits, deviation = clean, None
        if self.training:
            deviation = F.softplus(y @ self.w_noise[task]) + 0.1
            logits = clean + torch.randn_like(clean) * deviation
        top = logits.topk(CHOSEN + 1, dim=-1)
        chosen = top.values[..., :CHOSEN].softmax(-1)
        chosen = torch.where(chosen > LEAST_GATE, chosen, 0)
        gates = torch.zeros_like(logits).scatter(-1, top.indices[..., :CHOSEN], chosen)
        if deviation is None:
            load = (gates > 0).flatten(0, -2).sum(0).to(gates.dtype)
        else:
            last_in, first_out = top.values[..., CHOSEN - 1 : CHOSEN], top.values[..., CHOSEN:]
            threshold = torch.where(logits > first_out, first_out, last_in)
            normal = torch.distributions.Normal(self.mean, self.std)
            load = normal.cdf((clean - threshold) / deviation).flatten(0, -2).sum(0)
        return gates, Routing(gates.flatten(0, -2).sum(0), load)


class Adapter(nn.Module):
    """Weighs two sources by their tokens, and shifts each by a vector of its task.

    The shifts are in no checkpoint: the published program draws them anew, from N(0, 0.02²), each time that a network is made.
    Here they are zeros, the mean of all draws, until :meth:`TCMoANet.draw_shifts` or somebody else writes other values to
    ``modal_shifts`` (2·tasks, D): row 2k is the visible image's of task k, row 2k + 1 the infrared one's.
    """

    modal_shifts: torch.Tensor

    def __init__(self, width: int, tasks: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(2 * width)
        self.dimReduction = nn.Linear(2 * width, width // 4, bias=False)
        self.norm2 = nn.LayerNorm(width // 4)
        self.MoA = MixtureOfExperts(width // 4, tasks)
        self.register_buffer("modal_shifts", torch.zeros(2 * tasks, width), persistent=False)

    def forward(self, vi: torch.Tensor, ir: torch.Tensor, task: int) -> tuple[torch.Tensor, Prompts, Routing]:
        """The sum of both sources, (B,N,D), each weighed and shifted."""
        with torch.autocast(vi.device.type, enabled=False):
            visible, infrared = vi.float(), ir.float()
            y = self.norm2(self.dimReduction(self.norm1(torch.cat((visible, infrared), dim=-1))))
            z, routing = self.MoA(y, task)
            halves = z.unflatten(-1, (2, -1)).mean(-1, keepdim=True).sigmoid()  # (B,N,2,1)
            prompts = Prompts(*halves.unbind(-2))
            shift = self.modal_shifts[2 * task] + self.modal_shifts[2 * task + 1]
            return prompts.vi * visible + prompts.ir * infrared + shift, prompts, routing
