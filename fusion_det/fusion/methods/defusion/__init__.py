"""DeFusion (Liang et al. 2022): two images are taken apart into what they share and what each has alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from fusion_det.fusion.method import FusionMethod, MethodCard, WeightsInfo
from fusion_det.fusion.methods.defusion.config import CONFIGS
from fusion_det.fusion.registry import register_method
from fusion_det.fusion.training.settings import TrainSettings

if TYPE_CHECKING:
    import numpy as np
    import torch

    from fusion_det.fusion.methods.defusion.network import DeFusionNet
    from fusion_det.fusion.training.recipe import Recipe

PAPER_TRAINING = TrainSettings(
    crop=256, batch=4, epochs=51, warmup=0.0, peak_rate=1e-3, weight_decay=0.0, classifier="none"
)
SMALL_TRAINING = replace(
    PAPER_TRAINING, crop=128, epochs=100, warmup=0.1, peak_rate=4e-3, clip=1.0, options={"gentle": True}
)
"""With a rate that suits hundreds of steps, not the half million published ones."""

CARD = MethodCard(
    name="defusion",
    label="DeFusion",
    abbreviation="DeF",
    title="Fusion from Decomposition: A Self-Supervised Decomposition Approach for Image Fusion",
    family="cnn",
    fuses="luma",
    authors="P. Liang, J. Jiang, X. Liu, J. Ma",
    venue="ECCV",
    year=2022,
    weights=WeightsInfo(
        origin="the file that the README of https://github.com/erfect2020/DecompositionForFusion points to on Google Drive",
        file="models.pth",
        licence="MIT",
        trained_on=("coco",),
    ),
    configs=tuple(CONFIGS),
    table_vi=80.5,
    order=100,
    notes="Trained on photographs (COCO) alone. The published network fuses grey images to nearly grey ones; here the luma of "
    "the result is joined with the visible chroma, and the 16 pixels that the script mirrors about each border are left out.",
    official="Pillow's luma of both files; 16 pixels are mirrored about each border and cut off the result, whose fractions "
    "are cut off as well; saved as RGB, nearly grey.",
    training={"paper": PAPER_TRAINING, "small": SMALL_TRAINING},
)


@register_method(CARD)
class DeFusion(FusionMethod):
    """See :mod:`fusion_det.fusion.methods.defusion.network`; ``config`` names one of ``config.CONFIGS``."""

    card = CARD
    network: DeFusionNet

    def __init__(self, config: str = "released") -> None:
        from fusion_det.fusion.methods.defusion.network import DeFusionNet

        self.network = DeFusionNet(CONFIGS[config])
        self.config = config

    def load_weights(self, file: Path) -> None:
        """A checkpoint of the configuration, but with as many blocks in the common part's decoder as the file has."""
        from fusion_det.fusion.checkpoint import load_checkpoint
        from fusion_det.fusion.methods.defusion.checkpoint import STATE, network_for

        network = network_for(file, self.network)
        load_checkpoint(network, file, key=STATE, method=self.card.name, config=self.config)
        self.network = network

    def fuse(self, ir: torch.Tensor, vi: torch.Tensor) -> torch.Tensor:
        from fusion_det.data.color import luma

        return luma(self.network(ir, vi))

    def recipe(self, settings: TrainSettings, classifier_weights: Path | None = None) -> Recipe:
        from fusion_det.fusion.methods.defusion.training import DeFusionRecipe

        return DeFusionRecipe(settings, self.network)

    def fuse_officially(self, ir: np.ndarray, vi: np.ndarray) -> np.ndarray:
        from fusion_det.fusion.methods.defusion.official import fuse_officially

        return fuse_officially(self.network, ir, vi)
