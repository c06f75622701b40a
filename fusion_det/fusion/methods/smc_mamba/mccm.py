"""Multiplex consensus cross-modal Mamba (MCCM): experts that scan both modalities in turns, and a gate that chooses two."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn

from fusion_det.fusion.methods.smc_mamba.config import SMCMambaConfig
from fusion_det.fusion.methods.smc_mamba.scans import COLUMNS, ROWS, ChannelScan, Scan
from fusion_det.fusion.ssm import project
from fusion_det.fusion.ssm.layers import depthwise_silu, gated_norm


class Consensus(NamedTuple):
    """What the training looks at. fused: (b,H,W,C). opinions: (E,b,H,W,C), one of each expert. gates: (b,E), before the choice.

    chosen: (b,E), the weights after it, zero for experts that were not chosen.
    """

    fused: torch.Tensor
    opinions: torch.Tensor
    gates: torch.Tensor
    chosen: torch.Tensor


class MCCM(nn.Module):
    """Two feature maps (b,H,W,C) to a fused one: their mean, plus what the two chosen experts make of them.

    An expert that is not chosen is not run, unless the training asks for all opinions.
    """

    def __init__(self, width: int, config: SMCMambaConfig) -> None:
        super().__init__()
        self.gate = Gate(width, config.experts, config.chosen)
        # The first half of the experts go by rows, the second half by columns.
        ways = [ROWS if 2 * i < config.experts else COLUMNS for i in range(config.experts)]
        self.experts = nn.ModuleList(CrossModalExpert(width, config.states, way) for way in ways)

    def forward(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        weights = self.gate.choose(self.gate(first, second))
        fused = (first + second) / 2
        for index, expert in enumerate(self.experts):
            concerned = weights[:, index].nonzero()[:, 0]
            if len(concerned) == len(fused):
                fused = fused + weights[:, index, None, None, None] * expert(first, second)
            elif len(concerned):
                opinion = expert(first[concerned], second[concerned])
                fused = fused.index_add(0, concerned, weights[concerned, index, None, None, None] * opinion)
        return fused

    def consult_all(self, first: torch.Tensor, second: torch.Tensor) -> Consensus:
        """The same image from the same choice, with the opinions of every expert."""
        gates = self.gate(first, second)
        weights = self.gate.choose(gates)
        opinions = torch.stack([expert(first, second) for expert in self.experts])
        fused = (first + second) / 2 + torch.einsum("be,ebhwc->bhwc", weights.to(opinions.dtype), opinions)
        return Consensus(fused, opinions, gates, weights)


class Gate(nn.Module):
    """Softmax over experts of a linear map of the averages and maxima of both modalities."""

    def __init__(self, width: int, experts: int, chosen: int) -> None:
        super().__init__()
        self.chosen = chosen
        self.linear = nn.Linear(4 * width, experts)

    def forward(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        pooled = [pool for x in (first, second) for pool in (x.mean((1, 2)), x.amax((1, 2)))]
        return torch.softmax(self.linear(torch.cat(pooled, dim=-1)).float(), dim=-1)

    def choose(self, gates: torch.Tensor) -> torch.Tensor:
        """The largest ``chosen`` of (b,E), made to sum to one; the others are zero."""
        kept, places = gates.topk(self.chosen, dim=-1)
        return torch.zeros_like(gates).scatter(-1, places, kept / kept.sum(-1, keepdim=True))


class CrossModalExpert(nn.Module):
    """CM-Scan: the modalities take turns in space, along one kind of line there and back, and in channels.

    (b,H,W,C) twice to one (b,H,W,C). Each modality has a norm's, a projection's and a gate's weights of its own.
    """

    def __init__(self, width: int, states: int, directions: tuple[int, ...]) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.in_projs = nn.ModuleList(nn.Linear(width, 2 * width) for _ in range(2))
        self.depthwise = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.scan = Scan(width, states, directions, modalities=2)
        self.channels = ChannelScan(states, modalities=2)
        self.out_norm = nn.LayerNorm(width)
        self.out_proj = nn.Linear(width, width)

    def forward(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        both = first, second
        p = torch.stack([depthwise_silu(self._projected(x, i, 0), self.depthwise) for i, x in enumerate(both)])
        y, weights = self.scan(p), self.channels(p)
        del p
        gated = [gated_norm(y[i], self._projected(x, i, 1), self.out_norm) * weights[i] for i, x in enumerate(both)]
        return project(gated[0] + gated[1], self.out_proj.weight, self.out_proj.bias)

    def _projected(self, x: torch.Tensor, modality: int, part: int) -> torch.Tensor:
        """What is scanned (part 0) or gates it (part 1). The norm is taken twice: large maps are not kept through the scan."""
        layer = self.in_projs[modality]
        assert isinstance(layer, nn.Linear)
        return project(self.norms[modality](x), layer.weight.chunk(2)[part], layer.bias.chunk(2)[part])
