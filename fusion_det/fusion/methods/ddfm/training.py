"""How the prior of DDFM learns: to tell the noise in noisy visible images (Ho et al. 2020; Dhariwal and Nichol 2021)."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

from fusion_det.errors import ConfigError
from fusion_det.fusion.methods.ddfm.losses import noise_loss, noised
from fusion_det.fusion.methods.ddfm.network import UNet
from fusion_det.fusion.methods.ddfm.schedule import TIMESTEPS
from fusion_det.fusion.training.recipe import NETWORK, Phase, Recipe, Sources, Terms
from fusion_det.fusion.training.settings import TrainSettings

DEVIATIONS = (
    "The prior learns from the visible images of these pairs, not from ImageNet, and by the error of the noise alone: the "
    "variance, which the sampler never asks for, is not learnt."
)


class Guess(NamedTuple):
    """The noise that was put into the images, (B,3,H,W), and what the network says of it, (B,6,H,W)."""

    noise: torch.Tensor
    predicted: torch.Tensor


class DDFMRecipe(Recipe):
    """One phase. Fusion needs no training: the infrared images are not looked at.

    Raises:
        ConfigError: crops that the network cannot take.
    """

    def __init__(self, settings: TrainSettings, network: UNet) -> None:
        multiple = network.config.size_multiple
        if settings.crop % multiple:
            fits = settings.crop + -settings.crop % multiple
            raise ConfigError(f"--crop {settings.crop}: ddfm's prior takes multiples of {multiple}, such as {fits}")
        self.network = network
        super().__init__(settings, {NETWORK: network}, [Phase("denoise", self._guess, _terms)], DEVIATIONS)

    def _guess(self, sources: Sources) -> Guess:
        images = 2 * sources.vi - 1
        # Drawn on the CPU, so that a step is the same on every device; the loop seeds each by its number.
        timesteps = torch.randint(TIMESTEPS, (len(images),)).to(images.device)
        noise = torch.randn(images.shape).to(images.device)
        return Guess(noise, self.network(noised(images, noise, timesteps), timesteps))


def _terms(sources: Sources, guess: Any, done: float) -> Terms:
    return {"total": noise_loss(guess.predicted, guess.noise)}
