"""How the fusion network of IRFS learns (arXiv:2305.09999, Sec. 3.4), as far as pairs of images alone can teach it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch

from fusion_det.errors import ConfigError
from fusion_det.fusion.methods.irfs.losses import SMALLEST, fusion_loss, source_weights
from fusion_det.fusion.methods.irfs.network import FSFNet
from fusion_det.fusion.training.recipe import NETWORK, Moment, Phase, Recipe, Sources, Terms
from fusion_det.fusion.training.settings import Option, TrainSettings

DEVIATIONS = (
    "The first stage alone, by the fusion loss; not the nine after it, in which a network that finds salient objects takes part. "
    "Random flipped squares of the images, whose weights are found within the square, not whole images."
)


class IRFSRecipe(Recipe):
    """The fusion network minimises the fusion loss, as in the authors' first stage and in their script for fusion alone.

    ``options.stages`` is the number of the interactive stages. All but the first need a mask of the salient objects of every
    pair, which the datasets here have not.

    Raises:
        ConfigError: more than one stage; crops that are too small for the loss.
    """

    options: ClassVar[Mapping[str, Option]] = {"stages": 1}

    def __init__(self, settings: TrainSettings, network: FSFNet) -> None:
        if (stages := self.chosen_options(settings)["stages"]) != 1:
            raise ConfigError(
                f"--set options.stages={stages}: the interactive stages of irfs need pairs with masks of their salient objects "
                "(VT5000), which no dataset reader here provides; train the first stage alone (options.stages=1), or take the "
                "authors' weights, which fusion-det methods names"
            )
        if settings.crop < SMALLEST:
            raise ConfigError(f"--crop {settings.crop}: the loss of irfs takes squares from {SMALLEST} pixels on")
        super().__init__(settings, {NETWORK: network}, [Phase("fuse", self._fuse, _fusion_terms)], DEVIATIONS)

    def optimizer(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        return torch.optim.Adam(groups, lr=self.settings.peak_rate)

    def rate(self, network: str, moment: Moment) -> float:
        return self.settings.peak_rate

    def _fuse(self, sources: Sources) -> torch.Tensor:
        fused: torch.Tensor = self.networks[NETWORK](sources.ir, sources.luma)
        return fused


def _fusion_terms(sources: Sources, fused: torch.Tensor, done: float) -> Terms:
    return dict(vars(fusion_loss(sources.ir, sources.luma, fused, source_weights(sources.ir, sources.luma))))
