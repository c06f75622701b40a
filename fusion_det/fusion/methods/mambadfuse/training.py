"""How MambaDFuse learns (Li et al. 2024, arXiv:2404.08406): one loss, one phase."""

from __future__ import annotations

from typing import Any

import torch

from fusion_det.fusion.methods.mambadfuse.losses import fusion_loss
from fusion_det.fusion.methods.mambadfuse.network import MambaDFuseNet
from fusion_det.fusion.training.recipe import NETWORK, Moment, Phase, Recipe, Sources, Terms
from fusion_det.fusion.training.settings import TrainSettings

DEVIATIONS = (
    "Crops are flipped, not turned by right angles as well; the average of the weights forgets its first steps sooner."
)


class MambaDFuseRecipe(Recipe):
    """The rate falls in a straight line from ``settings.peak_rate`` to ``final_rate``, if that is more than 0.

    Published: it is halved for the first time after 250,000 steps, and the released weights are those of step 10,000, so it
    was constant.
    """

    def __init__(self, settings: TrainSettings, network: MambaDFuseNet) -> None:
        super().__init__(settings, {NETWORK: network}, [Phase("fuse", self._fuse, _terms)], DEVIATIONS)

    def optimizer(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        return torch.optim.Adam(groups, lr=self.settings.peak_rate)

    def rate(self, network: str, moment: Moment) -> float:
        peak, final = self.settings.peak_rate, self.settings.final_rate
        return peak + moment.done * (final - peak) if final else peak

    def _fuse(self, sources: Sources) -> torch.Tensor:
        fused: torch.Tensor = self.networks[NETWORK](sources.ir, sources.luma)
        return fused


def _terms(sources: Sources, fused: torch.Tensor, done: float) -> Terms:
    terms = fusion_loss(sources.ir, sources.luma, fused)
    return {"total": terms.total, **terms._asdict()}
