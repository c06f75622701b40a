"""How noisy an image is at each timestep, and what a sampler of fewer steps computes with."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

TIMESTEPS = 1000
"""Of the diffusion that the prior has learnt to turn back."""
FIRST_BETA, LAST_BETA = 1e-4, 0.02
"""Of the linear schedule: share of the variance that a timestep replaces by noise."""


@functools.cache
def alphas_cumprod() -> np.ndarray:
    """ᾱ, float64 (1000,): what is left of the image's variance after each timestep. Read-only."""
    alphas = np.cumprod(1 - np.linspace(FIRST_BETA, LAST_BETA, TIMESTEPS))
    alphas.flags.writeable = False
    return alphas


@dataclass(frozen=True)
class SampleStep:
    """A step of the sampler, from its timestep to the one that is kept before it. All numbers are float32 ones.

    image, noise: √(1/ᾱ) and √(1/ᾱ - 1), of which the clean image is ``image · x - noise · ε``.
    next_image, next_noise: √ᾱ and √(1 - ᾱ) of the timestep that the step leads to; 1 and 0 for the last step.
    """

    timestep: int
    image: float
    noise: float
    next_image: float
    next_noise: float


def kept_timesteps(count: int) -> list[int]:
    """The timesteps of a sampler of ``count`` steps, ascending: from the first to the last of all (one step: the first)."""
    if count == 1:
        return [0]
    return [round(step * (TIMESTEPS - 1) / (count - 1)) for step in range(count)]  # halves to even


@functools.cache
def sample_steps(count: int) -> tuple[SampleStep, ...]:
    """The steps of a sampler, from the noisiest on."""
    alphas = alphas_cumprod()
    steps = []
    before = 1.0
    for timestep in kept_timesteps(count):
        alpha = alphas[timestep]
        rounded = np.float32(before)  # the two roots below are published as roots in float32
        steps.append(
            SampleStep(
                timestep,
                image=float(np.float32(np.sqrt(1 / alpha))),
                noise=float(np.float32(np.sqrt(1 / alpha - 1))),
                next_image=float(np.sqrt(rounded)),
                next_noise=float(np.sqrt(np.float32(1) - rounded)),
            )
        )
        before = alpha
    return tuple(reversed(steps))
