"""Modality-agnostic feature enhancement (MAFE): what is in the patch, what is in the map, and what is in its spectrum."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from fusion_det.fusion.methods.smc_mamba.config import PATCH, SMCMambaConfig
from fusion_det.fusion.methods.smc_mamba.scans import ChannelScan, FrequencyScan, Scan
from fusion_det.fusion.ssm import project
from fusion_det.fusion.ssm.layers import depthwise_silu, gated_norm


class MAFE(nn.Module):
    """(b,H,W,C) to the same, for either modality; H and W multiples of 8.

    x + W·[local, spatial and channel, frequency] of LN(x).
    """

    def __init__(self, width: int, config: SMCMambaConfig) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.local = LocalBranch(width)
        self.spatial = SpatialChannelBranch(width, config.states)
        narrow = max(4, round(width * config.frequency_width))
        self.frequency = FrequencyBranch(width, narrow, config.states) if config.frequency else None
        self.merge = nn.Linear(2 * width + (narrow if config.frequency else 0), width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm(x)
        # The merging projection of the concatenated branches, part by part: only one branch's maps are alive at a time.
        width = x.shape[-1]
        x = x + project(self.local(y), self.merge.weight[:, :width], self.merge.bias)
        x = x + project(self.spatial(y), self.merge.weight[:, width : 2 * width])
        if self.frequency is not None:
            x = x + project(self.frequency(y), self.merge.weight[:, 2 * width :])
        return x


class LocalBranch(nn.Module):
    """F_L = σ(Conv1×1(F_dw)) ⊙ F_dw of patches that do not see each other; F_dw is a depthwise 3 × 3 convolution of a patch."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(width, width, 3, groups=width)
        self.gate = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, height, width, channels = x.shape
        patches = x.view(batch, height // PATCH, PATCH, width // PATCH, PATCH, channels).transpose(2, 3)
        folded = patches.reshape(-1, PATCH, PATCH, channels).permute(0, 3, 1, 2)
        found = self.depthwise(F.pad(folded, (1, 1, 1, 1), mode="reflect")).permute(0, 2, 3, 1)
        unfolded = found.reshape(batch, height // PATCH, width // PATCH, PATCH, PATCH, channels).transpose(2, 3)
        maps = unfolded.reshape(x.shape)
        return maps * torch.sigmoid(project(maps, self.gate.weight, self.gate.bias))


class SpatialChannelBranch(nn.Module):
    """The spatial-channel state space model (SC-Scan): a scan in four directions, channels weighed by a scan over channels."""

    def __init__(self, width: int, states: int) -> None:
        super().__init__()
        self.in_proj = nn.Linear(width, 2 * width)
        self.depthwise = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.scan = Scan(width, states, (0, 1, 2, 3))
        self.channels = ChannelScan(states)
        self.out_norm = nn.LayerNorm(width)
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for_scan, for_gate = self.in_proj.weight.chunk(2)
        scan_bias, gate_bias = self.in_proj.bias.chunk(2)
        p = depthwise_silu(project(x, for_scan, scan_bias), self.depthwise)[None]
        y = self.scan(p)[0]
        y = gated_norm(y, project(x, for_gate, gate_bias), self.out_norm) * self.channels(p)[0]
        return project(y, self.out_proj.weight, self.out_proj.bias)


class FrequencyBranch(nn.Module):
    """A projection to fewer channels, whose spectrum is scanned."""

    def __init__(self, width: int, narrow: int, states: int) -> None:
        super().__init__()
        self.in_proj = nn.Linear(width, narrow)
        self.scan = FrequencyScan(narrow, states)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scanned: torch.Tensor = self.scan(project(x, self.in_proj.weight, self.in_proj.bias))
        return scanned
