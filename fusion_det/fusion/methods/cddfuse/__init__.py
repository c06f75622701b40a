"""CDDFuse (Zhao et al. 2023): base features that both modalities share and details of each, fused apart from each other."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from fusion_det.fusion.method import FusionMethod, MethodCard, WeightsInfo
from fusion_det.fusion.methods.cddfuse.config import CONFIGS
from fusion_det.fusion.registry import register_method
from fusion_det.fusion.training.settings import TrainSettings

if TYPE_CHECKING:
    import numpy as np
    import torch

    from fusion_det.fusion.methods.cddfuse.network import CDDFuseNet
    from fusion_det.fusion.training.recipe import Recipe

_COMMIT = "fd8da1f39d8d403b7343e577bd5a30cba38c7b7b"

PARTS = "DIDF_Encoder", "DIDF_Decoder", "BaseFuseLayer", "DetailFuseLayer"
"""Entries of the published file, and children of the network."""

PAPER_TRAINING = TrainSettings(
    crop=128, batch=8, epochs=120, peak_rate=1e-4, final_rate=1e-6, weight_decay=0.0, clip=0.01, classifier="none"
)
SMALL_TRAINING = replace(PAPER_TRAINING, crop=64, batch=4, epochs=100, peak_rate=1e-3, final_rate=1e-4)

CARD = MethodCard(
    name="cddfuse",
    label="CDDFuse",
    abbreviation="CDD",
    title="CDDFuse: Correlation-Driven Dual-Branch Feature Decomposition for Multi-Modality Image Fusion",
    family="transformer",
    fuses="luma",
    authors="Z. Zhao, H. Bai, J. Zhang, Y. Zhang, S. Xu, Z. Lin, R. Timofte, L. Van Gool",
    venue="CVPR",
    year=2023,
    arxiv="2211.14461",
    min_size=2,
    weights=WeightsInfo(
        origin=f"https://github.com/Zhaozixiang1228/MMIF-CDDFuse (models/CDDFuse_IVF.pth at commit {_COMMIT})",
        file="CDDFuse_IVF.pth",
        licence="none stated by the authors",
        git_blob="d2794226bd48961132111bceff89ce3c955b3985",
        trained_on=("msrs",),
        url=f"https://raw.githubusercontent.com/Zhaozixiang1228/MMIF-CDDFuse/{_COMMIT}/models/CDDFuse_IVF.pth",
    ),
    configs=tuple(CONFIGS),
    order=200,
    notes="Not in Table VI. The published script writes grey images, each stretched over all of 8 bits; here nothing is "
    "stretched, and the network's output is joined with the visible chroma.",
    official="luma is rounded to 8 bits; the result is grey, and stretched so that its darkest pixel is 0 and its brightest "
    "255.",
    training={"paper": PAPER_TRAINING, "small": SMALL_TRAINING},
)


@register_method(
    CARD, sources=("fusion_det.fusion.restormer", "fusion_det.fusion.strips", "fusion_det.fusion.official")
)
class CDDFuse(FusionMethod):
    """See :mod:`fusion_det.fusion.methods.cddfuse.network`; ``config`` names one of ``config.CONFIGS``."""

    card = CARD
    network: CDDFuseNet

    def __init__(self, config: str = "released") -> None:
        from fusion_det.fusion.methods.cddfuse.network import CDDFuseNet

        self.network = CDDFuseNet(CONFIGS[config])
        self.config = config

    def load_weights(self, file: Path) -> None:
        from fusion_det.fusion.checkpoint import load_checkpoint

        load_checkpoint(self.network, file, key=None, parts=PARTS, method=self.card.name, config=self.config)

    def fuse(self, ir: torch.Tensor, vi: torch.Tensor) -> torch.Tensor:
        return self.network(ir, vi)

    def recipe(self, settings: TrainSettings, classifier_weights: Path | None = None) -> Recipe:
        from fusion_det.fusion.methods.cddfuse.training import CDDFuseRecipe

        return CDDFuseRecipe(settings, self.network)

    def fuse_officially(self, ir: np.ndarray, vi: np.ndarray) -> np.ndarray:
        from fusion_det.fusion.methods.cddfuse.official import fuse_officially

        return fuse_officially(self.network, ir, vi)
