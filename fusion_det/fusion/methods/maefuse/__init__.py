"""MAEFuse (Li et al. 2025): features of a masked auto-encoder, fused token by token."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from fusion_det.fusion.method import FusionMethod, MethodCard, WeightsInfo
from fusion_det.fusion.methods.maefuse.config import CONFIGS
from fusion_det.fusion.registry import register_method
from fusion_det.fusion.training.settings import TrainSettings

if TYPE_CHECKING:
    import numpy as np
    import torch

    from fusion_det.fusion.methods.maefuse.network import MAEFuseNet
    from fusion_det.fusion.training.recipe import Recipe

PAPER_TRAINING = TrainSettings(
    crop=640,
    batch=32,
    epochs=450,
    warmup=0.0,
    start_rate=1e-4,
    peak_rate=1e-4,
    final_rate=1e-4,
    weight_decay=0.05,
    classifier="none",
)
"""Epochs of all phases together, the decoder's 50 among them. The rate is constant."""
SMALL_TRAINING = replace(
    PAPER_TRAINING,
    crop=128,
    batch=4,
    epochs=100,
    warmup=0.02,
    start_rate=1e-5,
    final_rate=2e-5,
    clip=1.0,
    options={"mixed": False, "fit": True},
)
"""For an encoder that is to learn along, and for hundreds of steps."""

CARD = MethodCard(
    name="maefuse",
    label="MAEFuse",
    abbreviation="MAE",
    title="MaeFuse: Transferring Omni Features With Pretrained Masked Autoencoders for Infrared and Visible Image Fusion "
    "via Guided Training",
    family="transformer",
    fuses="luma",
    authors="J. Li, J. Jiang, P. Liang, J. Ma, L. Nie",
    venue="IEEE Transactions on Image Processing 34",
    year=2025,
    arxiv="2404.11016",
    weights=WeightsInfo(
        origin="the test weight that the README of https://github.com/Henry-Lee-real/MaeFuse links to on Google Drive "
        "(also https://huggingface.co/lijiayangCS/MaeFuse)",
        file="final_new_60.pth",
        licence="none stated by the authors; the encoder is Meta's MAE, CC-BY-NC-4.0",
    ),
    configs=tuple(CONFIGS),
    table_vi=80.0,
    order=180,
    notes="The network takes 640 × 640 pixels alone: every pair is squeezed to that, whatever its shape, and the fused luma is "
    "brought back, by cubics without aliasing; the visible chroma keeps its resolution. Published: bilinear on the way there, "
    "chroma squeezed as well. Of 1024 × 768 pixels, that alone takes a fifth of the spatial frequency.",
    official="luma and chroma are OpenCV's, rounded to 8 bits, both brought to 640 × 640 bilinearly, without care for "
    "aliasing, and back by cubics; the fused image is cut off to 8 bits before its luma is taken.",
    training={"paper": PAPER_TRAINING, "small": SMALL_TRAINING},
)


@register_method(CARD, sources=("fusion_det.fusion.mae",))
class MAEFuse(FusionMethod):
    """See :mod:`fusion_det.fusion.methods.maefuse.network`; ``config`` names one of ``config.CONFIGS``."""

    card = CARD
    network: MAEFuseNet
    checkpoint_key = "model"

    def __init__(self, config: str = "released") -> None:
        from fusion_det.fusion.methods.maefuse.network import MAEFuseNet

        self.network = MAEFuseNet(CONFIGS[config])
        self.config = config

    def fuse(self, ir: torch.Tensor, vi: torch.Tensor) -> torch.Tensor:
        from fusion_det.fusion.methods.maefuse.common import fuse_at_network_size

        return fuse_at_network_size(self.network, ir, vi)

    def recipe(self, settings: TrainSettings, classifier_weights: Path | None = None) -> Recipe:
        from fusion_det.fusion.methods.maefuse.training import MAEFuseRecipe

        return MAEFuseRecipe(settings, self.network)

    def fuse_officially(self, ir: np.ndarray, vi: np.ndarray) -> np.ndarray:
        from fusion_det.fusion.methods.maefuse.official import fuse_officially

        return fuse_officially(self.network, ir, vi)
