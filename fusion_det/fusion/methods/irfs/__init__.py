"""IRFS (Wang et al. 2023): a small convolutional network, trained in turns with a network that finds salient objects."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fusion_det.fusion.method import FusionMethod, MethodCard, WeightsInfo
from fusion_det.fusion.methods.irfs.config import CONFIGS
from fusion_det.fusion.registry import register_method
from fusion_det.fusion.training.settings import TrainSettings

if TYPE_CHECKING:
    import numpy as np
    import torch

    from fusion_det.fusion.methods.irfs.network import FSFNet
    from fusion_det.fusion.training.recipe import Recipe

PAPER_TRAINING = TrainSettings(crop=480, batch=4, epochs=30, peak_rate=1e-3, weight_decay=0.0, classifier="none")
"""Of the authors' script for fusion alone. Whole images of VT5000 are 640 × 480 pixels."""

CARD = MethodCard(
    name="irfs",
    label="IRFS",
    abbreviation="IRF",
    title="An Interactively Reinforced Paradigm for Joint Infrared-Visible Image Fusion and Saliency Object Detection",
    family="cnn",
    fuses="luma",
    authors="D. Wang, J. Liu, R. Liu, X. Fan",
    venue="Information Fusion 98",
    year=2023,
    arxiv="2305.09999",
    weights=WeightsInfo(
        origin="the folder 9/ (the last stage, which the authors' fusion script takes) of the Google Drive or Baidu share that "
        "https://github.com/wdhudiekou/IRFS links to",
        file="fusion_model.pth",
        licence="MIT",
        trained_on=("vt5000",),
    ),
    configs=tuple(CONFIGS),
    table_vi=81.0,
    order=150,
    notes="The network that fuses (FSFNet). The one that finds salient objects takes part in training alone. The authors' "
    "script cuts off fractions where the common protocol rounds, and converts colours in 8 bits.",
    official="luma and chroma are OpenCV's, rounded to 8 bits; the fused luma is cut off to 8 bits, not rounded.",
    training={"paper": PAPER_TRAINING},
)


@register_method(CARD, sources=("fusion_det.fusion.strips",))
class IRFS(FusionMethod):
    """See :mod:`fusion_det.fusion.methods.irfs.network`; ``config`` names one of ``config.CONFIGS``."""

    card = CARD
    network: FSFNet

    def __init__(self, config: str = "released") -> None:
        from fusion_det.fusion.methods.irfs.network import FSFNet

        self.network = FSFNet(CONFIGS[config])
        self.config = config

    def fuse(self, ir: torch.Tensor, vi: torch.Tensor) -> torch.Tensor:
        return self.network(ir, vi)

    def recipe(self, settings: TrainSettings, classifier_weights: Path | None = None) -> Recipe:
        from fusion_det.fusion.methods.irfs.training import IRFSRecipe

        return IRFSRecipe(settings, self.network)

    def fuse_officially(self, ir: np.ndarray, vi: np.ndarray) -> np.ndarray:
        from fusion_det.fusion.methods.irfs.official import fuse_officially

        return fuse_officially(self.network, ir, vi)
