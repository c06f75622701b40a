"""SemLA (Xie et al. 2023): a network that registers two images by what they mean, and a small one that fuses them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from fusion_det.fusion.method import FusionMethod, MethodCard, PublishedFile, WeightsInfo
from fusion_det.fusion.methods.semla.config import CONFIGS
from fusion_det.fusion.registry import register_method
from fusion_det.fusion.training.settings import TrainSettings

if TYPE_CHECKING:
    import numpy as np
    import torch

    from fusion_det.fusion.methods.semla.network import SemLANet
    from fusion_det.fusion.training.recipe import Recipe

REGISTRATION_FILE = "registration.ckpt"

PAPER_TRAINING = TrainSettings(crop=240, batch=128, epochs=45, peak_rate=1e-4, weight_decay=0.0, classifier="none")
"""Of all phases together; whole images are 320 × 240 pixels."""
SMALL_TRAINING = replace(
    PAPER_TRAINING, crop=96, batch=4, epochs=100, peak_rate=1e-2, clip=1.0, options={"registration": 0.0}
)

CARD = MethodCard(
    name="semla",
    label="SemLA",
    abbreviation="Sem",
    title="Semantics lead all: Towards unified image registration and fusion from a semantic perspective",
    family="cnn",
    fuses="luma",
    authors="H. Xie, Y. Zhang, J. Qiu, X. Zhai, X. Liu, Y. Yang, S. Zhao, Y. Luo, J. Zhong",
    venue="Information Fusion",
    year=2023,
    weights=WeightsInfo(
        origin="the Google Drive or Baidu share that https://github.com/xiehousheng/SemLA links to: the fusion file as "
        f"fusion.ckpt, and for --protocol official the registration file beside it as {REGISTRATION_FILE}",
        file="fusion.ckpt",
        licence="none stated by the authors",
        beside=(PublishedFile(REGISTRATION_FILE, needed=False),),
    ),
    configs=tuple(CONFIGS),
    table_vi=77.2,
    order=120,
    notes="Fuses aligned pairs as a scene, by the small fusion network alone and at full size; the published scripts register "
    "the infrared image first, and work on resized pairs.",
    official="the authors' script for a folder: both images are resized to 320 × 240, the infrared one is registered with the "
    "visible one (points that match, RANSAC, thin-plate spline), and the fused luma is joined with the visible chroma. The "
    "script only shows its result; here it is rounded to 8 bits and resized back.",
    training={"paper": PAPER_TRAINING, "small": SMALL_TRAINING},
)


@register_method(CARD, sources=("fusion_det.fusion.strips",))
class SemLA(FusionMethod):
    """See :mod:`fusion_det.fusion.methods.semla.network`; ``config`` names one of ``config.CONFIGS``."""

    card = CARD
    network: SemLANet

    def __init__(self, config: str = "released") -> None:
        from fusion_det.fusion.methods.semla.network import SemLANet

        self.network = SemLANet(CONFIGS[config])
        self.config = config

    def load_weights(self, file: Path) -> None:
        from fusion_det.fusion.methods.semla.checkpoint import load_weights

        load_weights(self.network, file, file.with_name(REGISTRATION_FILE), self.config)

    def fuse(self, ir: torch.Tensor, vi: torch.Tensor) -> torch.Tensor:
        return self.network(ir, vi)

    def recipe(self, settings: TrainSettings, classifier_weights: Path | None = None) -> Recipe:
        from fusion_det.fusion.methods.semla.training import SemLARecipe

        return SemLARecipe(settings, self.network)

    def fuse_officially(self, ir: np.ndarray, vi: np.ndarray) -> np.ndarray:
        from fusion_det.fusion.methods.semla.official import fuse_officially

        return fuse_officially(self.network, ir, vi)
