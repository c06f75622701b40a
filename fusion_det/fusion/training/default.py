"""The recipe of S4Fusion, and of every network that has none of its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

from fusion_det.data.color import luma
from fusion_det.fusion.training.classifiers import Classifier
from fusion_det.fusion.training.losses import FusionLoss, balanced_temperature, source_information
from fusion_det.fusion.training.recipe import NETWORK, Phase, Recipe, Sources, Terms
from fusion_det.fusion.training.schedule import ramp
from fusion_det.fusion.training.settings import TrainSettings


class DefaultRecipe(Recipe):
    """One phase in which the network, called with infrared and visible images, minimises :class:`FusionLoss`.

    Args:
        color: the network takes and returns RGB; its luma is judged.
    """

    def __init__(
        self, settings: TrainSettings, network: nn.Module, classifier: Classifier | None, *, color: bool = False
    ) -> None:
        super().__init__(settings, {NETWORK: network}, [Phase("fuse", self._fuse, self._loss)])
        self.color, self.classifier = color, classifier
        self.loss = FusionLoss(
            classifier, settings.weights, temperature=None, intensity=settings.intensity, edges=settings.edges
        )

    def _fuse(self, sources: Sources) -> torch.Tensor:
        fused: torch.Tensor = self.networks[NETWORK](sources.ir, sources.vi if self.color else sources.luma)
        return luma(fused) if self.color else fused

    def _loss(self, sources: Sources, fused: Any, done: float) -> Terms:
        return self.loss(sources.ir, sources.luma, fused, ramp(done, self.settings.perception_from)).terms()

    def helpers(self) -> Iterable[nn.Module]:
        return () if self.classifier is None else (self.classifier,)

    def prepare(self, batches: Iterable[Sources]) -> None:
        if self.classifier is None or not self.settings.information:
            return
        found = [source_information(self.classifier, sources.ir, sources.luma) for sources in batches]
        ir, vi = (torch.cat(values) for values in zip(*found, strict=True))
        self.loss.temperature = balanced_temperature(ir, vi)

    def state(self) -> dict[str, float]:
        return {} if self.loss.temperature is None else {"temperature": self.loss.temperature}

    def restore(self, state: Mapping[str, float]) -> None:
        self.loss.temperature = state.get("temperature")
