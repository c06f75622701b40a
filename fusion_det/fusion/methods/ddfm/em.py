"""The likelihood step of DDFM (Zhao et al. 2023, arXiv:2303.06840, Sec. 3.3): one round of expectation and maximisation.

The fused luma is drawn to both sources under a hierarchical Laplacian model, whose hidden variances the E step guesses, and to
smooth slopes. As in the published implementation, to its quirks; see ``reference/ddfm/spec.md``, section 3.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F

LAMBDA = 0.5
RHO = 0.001
"""Published: the weight of smooth slopes, and of what ties them to the image."""


@dataclass(frozen=True)
class Sources:
    """What does not change from step to step.

    visible: I, infrared: V, in [-1,1], difference: Y = I - V; (B,1,H,W) float32 each.
    spectrum: 1 + |K1|² + |K2|² of the periodic differences along columns and rows, (H, W//2 + 1).
    """

    visible: torch.Tensor
    infrared: torch.Tensor
    difference: torch.Tensor
    spectrum: torch.Tensor


class State(NamedTuple):
    """What a step hands to the next one.

    across, down: F1 and F2, the shrunk slopes, (B,1,H,W). tau_visible, tau_infrared: τ_a and τ_b, (B,1,1,1).
    """

    across: torch.Tensor
    down: torch.Tensor
    tau_visible: torch.Tensor
    tau_infrared: torch.Tensor


class Step(NamedTuple):
    """What a step finds, (B,1,H,W) each.

    fused: F, the luma. inverse_c: 1/C, which is finite where sources and estimate agree, and C is not. d: D. smooth: H.
    """

    fused: torch.Tensor
    state: State
    inverse_c: torch.Tensor
    d: torch.Tensor
    smooth: torch.Tensor


def sources_of(visible: torch.Tensor, infrared: torch.Tensor) -> Sources:
    """visible, infrared: (B,1,H,W) float32 in [-1,1]."""
    height, width = visible.shape[-2:]
    # |K|² of a difference of neighbours on a circle of n is 4 sin²(πk/n).
    rows = torch.arange(height, dtype=torch.float64) * (math.pi / height)
    columns = torch.arange(width // 2 + 1, dtype=torch.float64) * (math.pi / width)
    spectrum = 1 + 4 * (columns.sin().square() + rows.sin().square()[:, None])
    return Sources(visible, infrared, visible - infrared, spectrum.float().to(visible.device))


def fresh_state(visible: torch.Tensor) -> State:
    """Before the first step."""
    zeros, ones = torch.zeros_like(visible), visible.new_ones(len(visible), 1, 1, 1)
    return State(zeros, zeros, ones, ones)


def em_step(sources: Sources, state: State, estimate: torch.Tensor, rho: float = RHO) -> Step:
    """Draw the prior's estimate of the fused luma, (B,1,H,W) float32, to the sources.

    The formulas divide by C, which is infinite where X = Y; they are multiplied out here.
    """
    y = sources.difference
    x = estimate - sources.infrared
    y_minus_x = y - x
    inverse_c = (y_minus_x + 1e-6).abs_() * (state.tau_visible / 2).sqrt()
    d = (2 / state.tau_infrared / (x.square() + 1e-6)).sqrt_()
    d = torch.minimum(d, 2 / inverse_c)
    tau_infrared = (1 / (d + 1e-10)).mean((-2, -1), keepdim=True) + state.tau_infrared / 2
    tau_visible = inverse_c.mean((-2, -1), keepdim=True) + state.tau_visible / 2
    smooth = _smoothed(y_minus_x, state, sources.spectrum)
    shrunk = rho / (2 * LAMBDA + rho)
    across = shrunk * (smooth - F.pad(smooth[..., 1:], (0, 1)))
    down = shrunk * (smooth - F.pad(smooth[..., 1:, :], (0, 0, 0, 1)))
    x = (2 * y + rho * inverse_c * (y - smooth)) / (2 + inverse_c * (2 * d + rho))
    fused = sources.visible - x
    return Step(fused, State(across, down, tau_visible, tau_infrared), inverse_c, d, smooth)


def _smoothed(image: torch.Tensor, state: State, spectrum: torch.Tensor) -> torch.Tensor:
    """H = Re IDFT((DFT(image) + conj(K1) DFT(F1) + conj(K2) DFT(F2)) / spectrum).

    The products with K1 and K2 are differences on the image plane, so one transform is enough; all is real.
    """
    slopes = state.across.roll(1, -1) - state.across + state.down.roll(1, -2) - state.down
    transformed = torch.fft.rfft2(image + slopes) / spectrum
    return torch.fft.irfft2(transformed, s=image.shape[-2:])
