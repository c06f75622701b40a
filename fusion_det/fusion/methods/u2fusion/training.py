"""How U2Fusion learns (Xu et al. 2022, Sec. 3): like both sources, by how much information each of them holds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn

from fusion_det.errors import ConfigError
from fusion_det.fusion.methods.u2fusion.losses import content_loss, information, source_weights
from fusion_det.fusion.methods.u2fusion.network import U2FusionNet
from fusion_det.fusion.methods.u2fusion.rmsprop import RMSProp
from fusion_det.fusion.methods.u2fusion.vgg import NAME as VGG16
from fusion_det.fusion.methods.u2fusion.vgg import VGG16Features, build_vgg16
from fusion_det.fusion.training.classifiers import Classifier, build_classifier
from fusion_det.fusion.training.losses import balanced_temperature
from fusion_det.fusion.training.recipe import NETWORK, Phase, Recipe, Sources, Terms
from fusion_det.fusion.training.settings import Option, TrainSettings
from fusion_det.fusion.training.terms import WINDOW

PUBLISHED_SCALE = 3200.0
"""c of infrared and visible images, for the features of VGG-16."""
LARGEST = 50.0
"""No parameter leaves [-50, 50]."""

DEVIATIONS = (
    "Infrared and visible images alone, the first of three tasks; the others follow in the authors' training, without the "
    "consolidation that the paper describes (its weight is 0 in their script). Crops are random and flipped, not on a fixed grid."
)


class U2FusionRecipe(Recipe):
    """The fused image is to resemble both sources, each weighted by its information.

    That is what VGG-16 sees in it, if ``settings.classifier`` is "vgg16"; or what any other classifier does; with "none" it
    is how much the image itself changes from pixel to pixel. ``options.scale`` is c, by which it is divided; 0 stands for
    the published one with VGG-16, and with anything else for that which suits the pairs. The learning rate is constant if
    all three rates of the settings are one.

    Raises:
        ConfigError: crops that are too small for the loss; a negative scale; a classifier that cannot be had.
    """

    options: ClassVar[Mapping[str, Option]] = {"scale": 0.0}

    def __init__(self, settings: TrainSettings, network: U2FusionNet, classifier_weights: Path | None = None) -> None:
        if settings.crop < WINDOW:
            raise ConfigError(f"--crop {settings.crop}: the loss of u2fusion takes squares from {WINDOW} pixels on")
        if (scale := float(self.chosen_options(settings)["scale"])) < 0:
            raise ConfigError(f"--set options.scale={scale:g}: more than 0, or 0 for the usual one")
        super().__init__(settings, {NETWORK: network}, [Phase("fuse", self._fuse, self._loss)])
        self.viewer: VGG16Features | Classifier | None
        if settings.classifier == VGG16:
            self.viewer, self.scale = build_vgg16(classifier_weights), scale or PUBLISHED_SCALE
            self.deviations = DEVIATIONS
        else:
            self.viewer, self.scale = build_classifier(settings.classifier, classifier_weights), scale
            whose = "of the images' own pixels" if self.viewer is None else f"that {settings.classifier} finds"
            self.deviations = (
                f"{DEVIATIONS} The sources are weighted by the information {whose}, not that VGG-16 finds."
            )

    def optimizer(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        return RMSProp(groups, lr=self.settings.peak_rate)

    def helpers(self) -> Iterable[nn.Module]:
        return () if self.viewer is None else (self.viewer,)

    def prepare(self, batches: Iterable[Sources]) -> None:
        if self.scale:
            return
        found = [(self.information(sources.ir), self.information(sources.luma)) for sources in batches]
        ir, vi = (torch.cat(values) for values in zip(*found, strict=True))
        self.scale = balanced_temperature(ir, vi)

    def state(self) -> dict[str, float]:
        return {"scale": self.scale}

    def restore(self, state: Mapping[str, float]) -> None:
        self.scale = state["scale"]

    @torch.no_grad()
    def after_step(self) -> None:
        for parameter in self.networks.parameters():
            parameter.clamp_(-LARGEST, LARGEST)

    @torch.no_grad()
    def information(self, source: torch.Tensor) -> torch.Tensor:
        """Of each grey image, (B,1,H,W) in [0,1] to (B,)."""
        return information([source] if self.viewer is None else self.viewer.features(source))

    def _fuse(self, sources: Sources) -> torch.Tensor:
        """While it learns, the network gets every other batch, by chance, with its sources exchanged."""
        network, pair = self.networks[NETWORK], (sources.ir, sources.luma)
        if network.training and bool(torch.rand(()) < 0.5):
            pair = pair[::-1]
        fused: torch.Tensor = network(*pair)
        return fused

    def _loss(self, sources: Sources, fused: torch.Tensor, done: float) -> Terms:
        weights = source_weights(self.information(sources.ir), self.information(sources.luma), self.scale)
        return dict(vars(content_loss(sources.ir, sources.luma, fused, weights)))
