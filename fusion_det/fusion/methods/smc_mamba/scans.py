"""The orders in which SMC-Mamba scans, beside those of a map: frequencies in a spiral, channels as tokens.

All of them are walks over maps, so :func:`fusion_det.fusion.ssm.scan_2d` does the work on whatever device there is: a sequence is
a map of one row.
"""

from __future__ import annotations

import contextlib
import functools
import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from fusion_det.fusion.methods.smc_mamba.config import GRID
from fusion_det.fusion.ssm import project, scan_2d
from fusion_det.fusion.ssm.layers import (
    at_least_float32,
    first_decay_logs,
    first_step_biases,
    undecayed,
    uniform_parameter,
)

ROWS, COLUMNS, BOTH_WAYS = (0, 2), (1, 3), (0, 2)
"""Walks along the rows, along the columns, and along a sequence, there and back."""


class Scan(nn.Module):
    """A selective scan whose Δ, B and C come from what it scans: (M,b,H,W,d) to the same, summed over its walks.

    Args:
        width: d. states: N. directions: of the walks; see :func:`fusion_det.fusion.ssm.scan_2d`.
        modalities: M, of which each has projections of its own to Δ, B and C. With two, they take turns in one sequence (the
            paper's CM-Scan).
    """

    def __init__(self, width: int, states: int, directions: tuple[int, ...], modalities: int = 1) -> None:
        super().__init__()
        walks, rank = len(directions), math.ceil(width / 16)
        self.directions = directions
        self.x_proj_weight = uniform_parameter((modalities, walks, rank + 2 * states, width), width**-0.5)
        self.dt_weight = uniform_parameter((walks, width, rank), rank**-0.5)
        self.dt_bias = nn.Parameter(first_step_biases(walks, width))
        self.A_log = undecayed(first_decay_logs(walks * width, states).unflatten(0, (walks, width)))
        self.D = undecayed(torch.ones(walks, width))

    def forward(self, u: torch.Tensor) -> torch.Tensor:
        walks = len(self.directions)
        params = _stacked([project(x, weight.flatten(0, 1)) for x, weight in zip(u, self.x_proj_weight, strict=True)])
        scanned = scan_2d(
            at_least_float32(u),
            at_least_float32(params.unflatten(-1, (walks, -1))),
            at_least_float32(self.dt_weight),
            at_least_float32(self.dt_bias),
            -torch.exp(at_least_float32(self.A_log)),
            at_least_float32(self.D),
            directions=self.directions,
        )
        return scanned.to(u.dtype)


def _stacked(maps: list[torch.Tensor]) -> torch.Tensor:
    return maps[0][None] if len(maps) == 1 else torch.stack(maps)


class ChannelScan(nn.Module):
    """How strongly each channel shall count, from a scan over the channels: (M,b,H,W,C) to factors (M,b,1,1,C) in (0,2).

    A channel is a token of 8 × 8 averages. With two modalities their channels take turns.
    """

    def __init__(self, states: int, modalities: int = 1) -> None:
        super().__init__()
        self.scan = Scan(GRID * GRID, states, BOTH_WAYS, modalities)
        self.norm = nn.LayerNorm(GRID * GRID)
        self.weigh = nn.Linear(GRID * GRID, 1)
        nn.init.zeros_(self.weigh.weight)
        nn.init.zeros_(self.weigh.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        modalities, batch, _, _, channels = x.shape
        maps = x.flatten(0, 1).permute(0, 3, 1, 2)
        tokens = F.adaptive_avg_pool2d(maps, GRID).reshape(modalities, batch, 1, channels, GRID * GRID)
        weights = self.weigh(self.norm(tokens + self.scan(tokens)))  # (M,b,1,C,1)
        return 2 * torch.sigmoid(weights).movedim(-1, -2)


@functools.lru_cache(maxsize=4)
def spiral(height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The frequencies of ``rfft2`` from low to high (FR-Scan): by their distance from zero, then by their angle.

    Distances are compared as whole numbers, so that equal ones are equal on every machine.

    Args:
        height, width: of the image.

    Returns:
        ``order`` and ``inverse``, int64 of height·(width//2+1): ``flat[order]`` is the spiral of a row-major map of
        frequencies, and ``walked[inverse]`` that map again.
    """
    down = (np.fft.fftfreq(height) * height).round().astype(np.int64)[:, None]
    across = np.arange(width // 2 + 1)[None]
    distance = (down * width) ** 2 + (across * height) ** 2  # (cycles per pixel)² · (height·width)²
    angle = np.arctan2(down / height, across / width) + np.zeros_like(distance)
    order = np.lexsort((angle.ravel(), distance.ravel()))
    inverse = np.empty_like(order)
    inverse[order] = np.arange(len(order))
    return torch.from_numpy(order), torch.from_numpy(inverse)


_LEAST_SIZE = 1e-6
"""Amplitudes below it, as in a black map, have no phase: the slope of the division by them would be too steep to learn from."""


class FrequencyScan(nn.Module):
    """The frequency-rotation state space model: amplitude and phase scanned along the spiral, apart from each other.

    (b,H,W,C) to the same. Amplitudes are taken as log(1+·), phases as cosine and sine; what the scans find is added to both.
    Cosine and sine are not brought back to the unit circle: a frequency whose phase is doubtful may so be weakened. Fresh
    parameters add nothing: the map is returned.
    """

    def __init__(self, width: int, states: int) -> None:
        super().__init__()
        self.amplitude, self.phase = SpiralBlock(width, states), SpiralBlock(2 * width, states)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        height, width = x.shape[1:3]
        order, inverse = (places.to(x.device) for places in spiral(height, width))
        with contextlib.nullcontext() if x.is_meta else torch.autocast(x.device.type, enabled=False):
            spectrum = torch.fft.rfft2(at_least_float32(x), dim=(1, 2), norm="ortho")
            walked = spectrum.flatten(1, 2)[:, order]  # (b,L,C)
            size = walked.abs()
            # (b,L,2C): cosine and sine by turns
            unit = torch.view_as_real(walked / size.clamp_min(_LEAST_SIZE)).flatten(-2)
            log_size = torch.log1p(size)
            log_size = log_size + self.amplitude(log_size)
            unit = unit + self.phase(unit)
            turned = torch.view_as_complex(unit.unflatten(-1, (-1, 2))) * torch.expm1(log_size.clamp(0, 20))
            back = turned[:, inverse].unflatten(1, spectrum.shape[1:3])
            return _real_map(back, width).to(x.dtype)


def _real_map(spectrum: torch.Tensor, width: int) -> torch.Tensor:
    """``irfft2`` of (b,H,W//2+1,C), of what need not be the spectrum of a real map: its nearest one.

    What a real map cannot have is taken away here; libraries for GPUs leave open what they do with it.
    """
    rows = torch.fft.ifft(spectrum, dim=1, norm="ortho")
    paired = torch.ones(rows.shape[2], 1, device=rows.device, dtype=rows.real.dtype)
    paired[0] = 0  # frequencies without another of the opposite sign: their part of a real map's rows is real
    if width % 2 == 0:
        paired[-1] = 0
    rows = torch.complex(rows.real, rows.imag * paired)
    return torch.fft.irfft(rows, n=width, dim=2, norm="ortho")


class SpiralBlock(nn.Module):
    """What a scan there and back along a sequence adds to it: (b,L,d) to the same, zero before it has learnt anything."""

    def __init__(self, width: int, states: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.scan = Scan(width, states, BOTH_WAYS)
        self.out_norm = nn.LayerNorm(width)
        self.out_proj = nn.Linear(width, width)
        nn.init.zeros_(self.out_proj.weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scanned = self.scan(self.norm(x)[None, :, None])[0, :, 0]
        return project(self.out_norm(scanned), self.out_proj.weight, self.out_proj.bias)
