"""Causal layers of long sequences a piece at a time: the convolution and the scan of Mamba's block, which look back alone.

What a layer keeps between two pieces are its states and its last few inputs. So a network of such layers needs memory for a
piece, not for the sequence, and what it makes on the way stays in the processor's cache. On a CPU, where no gradient is recorded.
Tensors are (b,L,d), channels last, and results float32.
"""

from __future__ import annotations

import math

import torch
from torch.overrides import has_torch_function

from fusion_det.fusion.ssm.selective_scan import choose_backend

TAPS = 4
"""Of Mamba's convolution."""


def can_stream(x: torch.Tensor) -> bool:
    """Whether sequences like ``x`` may come in pieces. (Not where operations are counted: those of a whole sequence are.)"""
    return not torch.is_grad_enabled() and not has_torch_function((x,)) and choose_backend(x) == "cpu"


class ConvolutionStream:
    """SiLU of a causal depthwise convolution of four taps; before the first piece there are zeros.

    Args:
        weight: (d,1,4), the last tap for the present step. bias: (d).

    Raises:
        ValueError: another number of taps.
    """

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor) -> None:
        from fusion_det.fusion.ssm.cpu.autograd import in_lanes

        if weight.shape[1:] != (1, TAPS):
            raise ValueError(f"the weights of {TAPS} taps are (d,1,{TAPS}), not {tuple(weight.shape)}")
        self.weights = in_lanes(weight.detach().float().movedim(1, 0)), in_lanes(bias.detach().float()[None])
        self.before: torch.Tensor | None = None

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """The next piece of all sequences, to as much of the result."""
        from fusion_det.fusion.ssm.cpu.autograd import flat
        from fusion_det.fusion.ssm.cpu.stream import convolve_piece
        from fusion_det.fusion.ssm.cpu.threads import run_tasks, shares

        x = x.float().contiguous()
        batch, length, channels = x.shape
        past = TAPS - 1
        before = x.new_zeros(batch, past, channels) if self.before is None else self.before
        y = torch.empty_like(x)
        parts = shares(batch, self.weights[0].shape[1])
        tasks = [(item, *part, length, channels) for item in range(batch) for part in parts]
        run_tasks(convolve_piece, tuple(map(flat, (x, *self.weights, before, y))), tasks)
        self.before = torch.cat((before, x[:, max(0, length - past) :]), dim=1)[:, -past:].contiguous()
        return y


class ScanStream:
    """A gated scan: what :func:`~fusion_det.fusion.ssm.scan_2d` makes of maps of one row, times SiLU of a gate.

    Args:
        dt_weight: (d,r). dt_bias: (d). A: (d,N), negative. D: (d), the skip connection.
    """

    def __init__(self, dt_weight: torch.Tensor, dt_bias: torch.Tensor, A: torch.Tensor, D: torch.Tensor) -> None:
        from fusion_det.fusion.ssm.cpu.autograd import in_lanes

        self.rank, self.states = dt_weight.shape[1], A.shape[1]
        given = dt_weight, dt_bias, A * math.log2(math.e), D
        self.weights = tuple(in_lanes(x.detach().float()[None]) for x in given)
        self.state: torch.Tensor | None = None

    def __call__(self, u: torch.Tensor, params: torch.Tensor, gate: torch.Tensor) -> torch.Tensor:
        """The next piece of all sequences: ``u`` (b,L,d), and ``gate`` (b,L,d), which is used up, to as much of the result.

        Args:
            params: (b,L,r+2N), the low-rank t of the step sizes, then B, then C.
        """
        from fusion_det.fusion.ssm.cpu.autograd import LANES, flat
        from fusion_det.fusion.ssm.cpu.stream import scan_piece
        from fusion_det.fusion.ssm.cpu.threads import run_tasks, shares

        u, params, y = (x.float().contiguous() for x in (u, params, gate))
        batch, length, channels = u.shape
        blocks = self.weights[0].shape[1]
        if self.state is None:
            self.state = u.new_zeros(batch, blocks, self.states, LANES)
        shape = (length, channels, self.rank, self.states)
        tasks = [(item, *part, *shape) for item in range(batch) for part in shares(batch, blocks)]
        run_tasks(scan_piece, tuple(map(flat, (u, params, *self.weights, self.state, y))), tasks)
        return y
