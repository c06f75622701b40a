"""How FusionMamba learns (Xie et al. 2024, arXiv:2404.09498): one loss, one phase."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch

from fusion_det.errors import ConfigError
from fusion_det.fusion.methods.fusionmamba.losses import MIN_SIZE, fusion_loss
from fusion_det.fusion.methods.fusionmamba.network import FusionMambaNet
from fusion_det.fusion.training.recipe import NETWORK, Moment, Phase, Recipe, Sources, Terms
from fusion_det.fusion.training.settings import Option, TrainSettings

EPOCHS, DECAY = 2, 0.75
"""Published epochs, and what the rate is multiplied with after each."""

DEVIATIONS = (
    "Crops of the images' own resolution, flipped, not whole pairs of KAIST that are reduced to 256 × 256 pixels."
)
UNCLAMPED = " Values of the fused image beyond 0 and 1 are judged as they are, not clamped before."


class FusionMambaRecipe(Recipe):
    """The rate is three quarters in the second half of what it is in the first; or it falls in a straight line from
    ``settings.peak_rate`` to ``final_rate``, if that is more than 0.

    Option ``clamp``: the loss is of the fused image clamped to [0,1], as published. A fresh network gives about twice the sum of
    both sources, so most pixels are too bright, and those teach nothing.

    Raises:
        ConfigError: crops that are too small for the loss.
    """

    options: ClassVar[Mapping[str, Option]] = {"clamp": True}

    def __init__(self, settings: TrainSettings, network: FusionMambaNet) -> None:
        if settings.crop < MIN_SIZE:
            raise ConfigError(
                f"--crop {settings.crop}: the loss of fusionmamba takes squares from {MIN_SIZE} pixels on"
            )
        self.clamp = bool(self.chosen_options(settings)["clamp"])
        super().__init__(
            settings,
            {NETWORK: network},
            [Phase("fuse", self._fuse, _terms)],
            DEVIATIONS + ("" if self.clamp else UNCLAMPED),
        )

    def optimizer(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        return torch.optim.Adam(groups, lr=self.settings.peak_rate)

    def rate(self, network: str, moment: Moment) -> float:
        peak, final = self.settings.peak_rate, self.settings.final_rate
        return peak + moment.done * (final - peak) if final else peak * DECAY ** int(moment.done * EPOCHS + 1e-9)

    def _fuse(self, sources: Sources) -> torch.Tensor:
        fused: torch.Tensor = self.networks[NETWORK](sources.ir, sources.luma)
        return fused.clamp(0, 1) if self.clamp else fused


def _terms(sources: Sources, fused: torch.Tensor, done: float) -> Terms:
    terms = fusion_loss(sources.ir, sources.luma, fused)
    return {"total": terms.total, **terms._asdict()}
