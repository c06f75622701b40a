"""FusionMamba (Xie et al. 2024): a U-shaped network of scans and of convolutions that learn what to take from their middle."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from fusion_det.fusion.method import FusionMethod, MethodCard, WeightsInfo
from fusion_det.fusion.methods.fusionmamba.config import CONFIGS
from fusion_det.fusion.registry import register_method
from fusion_det.fusion.training.settings import TrainSettings

if TYPE_CHECKING:
    import numpy as np
    import torch

    from fusion_det.fusion.methods.fusionmamba.network import FusionMambaNet
    from fusion_det.fusion.training.recipe import Recipe

PAPER_TRAINING = TrainSettings(
    crop=256, batch=2, epochs=2, peak_rate=1e-4 / 0.75, final_rate=0.0, weight_decay=0.0, classifier="none"
)
SMALL_TRAINING = replace(
    PAPER_TRAINING,
    crop=64,
    batch=4,
    epochs=100,
    peak_rate=1e-3,
    final_rate=1e-4,
    clip=1.0,
    ema=0.99,
    options={"clamp": False},
)
"""Published are 30,000 steps with 225 million parameters, which start where most pixels are clamped and teach nothing."""

CARD = MethodCard(
    name="fusionmamba",
    label="FusionMamba",
    abbreviation="FuM",
    title="FusionMamba: Dynamic Feature Enhancement for Multimodal Image Fusion with Mamba",
    family="mamba",
    fuses="luma",
    authors="X. Xie, Y. Cui, T. Tan, X. Zheng, Z. Yu",
    venue="Visual Intelligence",
    year=2024,
    arxiv="2404.09498",
    size_multiple=32,
    min_size=32,
    weights=WeightsInfo(
        origin="the cloud drive that the README of https://github.com/millieXie/FusionMamba links (no fixed address); the file "
        "for infrared and visible images, renamed",
        file="fusionmamba_ivif.pth",
        licence="none stated by the authors",
        trained_on=("kaist",),
    ),
    configs=tuple(CONFIGS),
    order=210,
    notes="Not in Table VI. The published script reduces images to 256 × 256 pixels and stretches each over all of 8 bits; here "
    "they keep their size, mirrored up to a multiple of 32, and nothing is stretched.",
    official="luma is OpenCV's 8-bit grey, resized to 256 × 256 pixels; the result is stretched so that its darkest pixel is 0 "
    "and its brightest 255, resized back bilinearly, and put in the place of Y in OpenCV's 8-bit YCrCb of a colour image.",
    training={"paper": PAPER_TRAINING, "small": SMALL_TRAINING},
)


@register_method(CARD, sources=("fusion_det.fusion.ssm", "fusion_det.fusion.strips"))
class FusionMamba(FusionMethod):
    """See :mod:`fusion_det.fusion.methods.fusionmamba.network`; ``config`` names one of ``config.CONFIGS``."""

    card = CARD
    network: FusionMambaNet
    float32_parameters = frozenset({"A_logs", "Ds", "dt_projs_bias"})

    def __init__(self, config: str = "released") -> None:
        from fusion_det.fusion.methods.fusionmamba.network import FusionMambaNet

        self.network = FusionMambaNet(CONFIGS[config])
        self.config = config

    def fuse(self, ir: torch.Tensor, vi: torch.Tensor) -> torch.Tensor:
        return self.network(ir, vi)

    def recipe(self, settings: TrainSettings, classifier_weights: Path | None = None) -> Recipe:
        from fusion_det.fusion.methods.fusionmamba.training import FusionMambaRecipe

        return FusionMambaRecipe(settings, self.network)

    def fuse_officially(self, ir: np.ndarray, vi: np.ndarray) -> np.ndarray:
        from fusion_det.fusion.methods.fusionmamba.official import fuse_officially

        return fuse_officially(self.network, ir, vi)
