"""EMMA (Zhao et al. 2024): a U-shaped network trained so that fusing and moving the scene can change places."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from fusion_det.fusion.method import FusionMethod, MethodCard, WeightsInfo
from fusion_det.fusion.methods.emma.config import CONFIGS
from fusion_det.fusion.registry import register_method
from fusion_det.fusion.training.settings import TrainSettings

if TYPE_CHECKING:
    import numpy as np
    import torch

    from fusion_det.fusion.methods.emma.network import UFuser
    from fusion_det.fusion.training.recipe import Recipe

_COMMIT = "9983ca2f627588cd001ed08e21eadf1ab5c48beb"

PAPER_TRAINING = TrainSettings(
    crop=128, batch=4, epochs=160, peak_rate=1e-4, final_rate=0.0, weight_decay=0.0, classifier="none"
)
"""Epochs of both phases together."""
SMALL_TRAINING = replace(
    PAPER_TRAINING,
    crop=96,
    epochs=100,
    peak_rate=1e-3,
    final_rate=1e-4,
    clip=1.0,
    options={"sensing_width": 16, "sensing_share": 0.4, "transforms": 2},
)
"""A step takes a fiftieth of the multiply-adds. The sensing networks must have learnt something before the fusion can."""

CARD = MethodCard(
    name="emma",
    label="EMMA",
    abbreviation="EMM",
    title="Equivariant Multi-Modality Image Fusion",
    family="transformer",
    fuses="luma",
    authors="Z. Zhao, H. Bai, J. Zhang, Y. Zhang, K. Zhang, S. Xu, D. Chen, R. Timofte, L. Van Gool",
    venue="CVPR",
    year=2024,
    arxiv="2305.11443",
    size_multiple=8,
    min_size=16,
    weights=WeightsInfo(
        origin=f"https://github.com/Zhaozixiang1228/MMIF-EMMA (model/EMMA.pth at commit {_COMMIT})",
        file="EMMA.pth",
        licence="none stated by the authors",
        git_blob="46f382475767323b83f3f7f52dc2bed0ac6b7476",
        trained_on=("msrs",),
        url=f"https://raw.githubusercontent.com/Zhaozixiang1228/MMIF-EMMA/{_COMMIT}/model/EMMA.pth",
    ),
    configs=tuple(CONFIGS),
    table_vi=80.4,
    order=170,
    notes="The published script writes grey images, each stretched over all of 8 bits; here nothing is stretched, and images "
    "are mirrored up to a multiple of 8 pixels instead of being fused in four windows.",
    official="luma is rounded to 8 bits; sizes that are no multiple of 32 are fused in up to four overlapping windows; the "
    "result is grey, and stretched so that its darkest pixel is 0 and its brightest 255. From 32 × 32 pixels on.",
    training={"paper": PAPER_TRAINING, "small": SMALL_TRAINING},
)


@register_method(
    CARD, sources=("fusion_det.fusion.restormer", "fusion_det.fusion.strips", "fusion_det.fusion.official")
)
class EMMA(FusionMethod):
    """See :mod:`fusion_det.fusion.methods.emma.network`; ``config`` names one of ``config.CONFIGS``."""

    card = CARD
    network: UFuser

    def __init__(self, config: str = "released") -> None:
        from fusion_det.fusion.methods.emma.network import UFuser

        self.network = UFuser(CONFIGS[config])
        self.config = config

    def fuse(self, ir: torch.Tensor, vi: torch.Tensor) -> torch.Tensor:
        return self.network(ir, vi)

    def recipe(self, settings: TrainSettings, classifier_weights: Path | None = None) -> Recipe:
        from fusion_det.fusion.methods.emma.training import EMMARecipe

        return EMMARecipe(settings, self.network)

    def fuse_officially(self, ir: np.ndarray, vi: np.ndarray) -> np.ndarray:
        from fusion_det.fusion.methods.emma.official import fuse_officially

        return fuse_officially(self.network, ir, vi)
