"""MambaDFuse (Li et al. 2024): Mamba over all pixels, in chains for each modality and in blocks that scan three sequences."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from fusion_det.fusion.method import FusionMethod, MethodCard, WeightsInfo
from fusion_det.fusion.methods.mambadfuse.config import CONFIGS
from fusion_det.fusion.registry import register_method
from fusion_det.fusion.training.settings import TrainSettings

if TYPE_CHECKING:
    import numpy as np
    import torch

    from fusion_det.fusion.methods.mambadfuse.network import MambaDFuseNet
    from fusion_det.fusion.training.recipe import Recipe

_COMMIT = "0c2a117e72c386af5403991753a25fbfd7fcdcbb"
_FILE = "Model/Infrared_Visible_Fusion/Infrared_Visible_Fusion/models/10000_E.pth"

PAPER_TRAINING = TrainSettings(
    crop=128, batch=12, epochs=111, peak_rate=2e-5, final_rate=0.0, weight_decay=0.0, classifier="none", ema=0.999
)
"""The released weights are of step 10,000, which is 111 epochs of MSRS's training pairs; which pairs it were is not said."""
SMALL_TRAINING = replace(PAPER_TRAINING, crop=64, batch=4, peak_rate=1e-3, final_rate=1e-4, clip=1.0, ema=0.99)

CARD = MethodCard(
    name="mambadfuse",
    label="MambaDFuse",
    abbreviation="Mam",
    title="MambaDFuse: A Mamba-based Dual-phase Model for Multi-modality Image Fusion",
    family="mamba",
    fuses="luma",
    authors="Z. Li, H. Pan, K. Zhang, Y. Wang, F. Yu",
    venue="arXiv",
    year=2024,
    arxiv="2404.08406",
    weights=WeightsInfo(
        origin=f"https://github.com/Lizhe1228/MambaDFuse ({_FILE} at commit {_COMMIT})",
        file="10000_E.pth",
        licence="none stated by the authors",
        git_blob="64f391ebe525ec38c59a381311adb9ffdfbe51b9",
        trained_on=("msrs", "roadscene", "m3fd"),
        url=f"https://raw.githubusercontent.com/Lizhe1228/MambaDFuse/{_COMMIT}/{_FILE}",
    ),
    configs=tuple(CONFIGS),
    table_vi=79.6,
    order=140,
    notes="The published script mirrors images up to the next multiple of 8 pixels, of which the scans see the right margin; "
    "here nothing is added. The authors name MSRS, RoadScene and M3FD as data and do not say on which of them the weights were "
    "trained: all three count as seen.",
    official="luma is OpenCV's 8-bit grey; images are mirrored at the bottom and the right to the next larger multiple of 8, by "
    "8 pixels where they have one; the result is grey, rounded half to even.",
    training={"paper": PAPER_TRAINING, "small": SMALL_TRAINING},
)


@register_method(CARD, sources=("fusion_det.fusion.ssm", "fusion_det.fusion.strips"))
class MambaDFuse(FusionMethod):
    """See :mod:`fusion_det.fusion.methods.mambadfuse.network`; ``config`` names one of ``config.CONFIGS``."""

    card = CARD
    network: MambaDFuseNet
    checkpoint_key = "params"
    float32_parameters = frozenset({"A_log", "A_b_log", "D", "D_b", "D_c"})

    def __init__(self, config: str = "released") -> None:
        from fusion_det.fusion.methods.mambadfuse.network import MambaDFuseNet

        self.network = MambaDFuseNet(CONFIGS[config])
        self.config = config

    def fuse(self, ir: torch.Tensor, vi: torch.Tensor) -> torch.Tensor:
        return self.network(ir, vi)

    def recipe(self, settings: TrainSettings, classifier_weights: Path | None = None) -> Recipe:
        from fusion_det.fusion.methods.mambadfuse.training import MambaDFuseRecipe

        return MambaDFuseRecipe(settings, self.network)

    def fuse_officially(self, ir: np.ndarray, vi: np.ndarray) -> np.ndarray:
        from fusion_det.fusion.methods.mambadfuse.official import fuse_officially

        return fuse_officially(self.network, ir, vi)
