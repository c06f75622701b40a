"""CrossFuse (Li & Wu 2024): features of two auto-encoders, and attention to what is unlike in them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from fusion_det.fusion.method import FusionMethod, MethodCard, PublishedFile, WeightsInfo
from fusion_det.fusion.methods.crossfuse.config import CONFIGS
from fusion_det.fusion.registry import register_method
from fusion_det.fusion.training.settings import TrainSettings

if TYPE_CHECKING:
    import numpy as np
    import torch

    from fusion_det.fusion.methods.crossfuse.network import CrossFuseNet
    from fusion_det.fusion.training.recipe import Recipe

_COMMIT = "bb00cb43119be10e40e4442814bd3ae506a4d239"
_FOLDER = f"https://raw.githubusercontent.com/hli1221/CrossFuse/{_COMMIT}/models"

FUSION_FILE = "fusetrans_epoch_32_bs_8_num_20k_lr_0.1_s1_c1.model"
AUTO_ENCODER_FILES = {
    "auto_encoder_ir": "auto_encoder_epoch_4_ir.model",
    "auto_encoder_vi": "auto_encoder_epoch_4_vi.model",
}
"""By the name of the network."""
_BLOBS = {
    "auto_encoder_ir": "8c1cec7bc8ba4f484bd4b40b4e2134036b5228f9",
    "auto_encoder_vi": "5564ae20d87026e41e1419f88722b4b3c11555ab",
}

PAPER_TRAINING = TrainSettings(
    crop=256, batch=8, epochs=64, peak_rate=1e-3, weight_decay=0.9, classifier="none", final_rate=0.0
)
"""Of both phases, which have as many steps: 4 epochs of 40,000 images in pairs, 32 of 20,000 pairs in eights."""
SMALL_TRAINING = replace(
    PAPER_TRAINING,
    crop=144,
    batch=2,
    epochs=100,
    peak_rate=1e-2,
    final_rate=1e-2,
    weight_decay=0.0,
    clip=1.0,
    options={"coding_share": 0.3, "coding_rate": 0.5, "attention_rate": 0.02},
)
"""For hundreds of steps."""

CARD = MethodCard(
    name="crossfuse",
    label="CrossFuse",
    abbreviation="Cro",
    title="CrossFuse: A Novel Cross Attention Mechanism based Infrared and Visible Image Fusion Approach",
    family="transformer",
    fuses="luma",
    authors="H. Li, X.-J. Wu",
    venue="Information Fusion 103",
    year=2024,
    arxiv="2406.10581",
    min_size=136,
    weights=WeightsInfo(
        origin=f"https://github.com/hli1221/CrossFuse (models/transfuse and models/autoencoder at commit {_COMMIT})",
        file=FUSION_FILE,
        licence="none stated by the authors",
        git_blob="6e3afe223562a48e7f467f03081b2772fccbda63",
        trained_on=("kaist",),
        url=f"{_FOLDER}/transfuse/{FUSION_FILE}",
        beside=tuple(
            PublishedFile(file, git_blob=_BLOBS[part], url=f"{_FOLDER}/autoencoder/{file}")
            for part, file in AUTO_ENCODER_FILES.items()
        ),
    ),
    configs=tuple(CONFIGS),
    table_vi=80.2,
    order=160,
    notes="The network itself stretches every image, so that its darkest pixel is black and its brightest white. The published "
    "script writes grey images and cuts off fractions; here the result is rounded and joined with the visible chroma.",
    official="luma is OpenCV's, rounded to 8 bits; the result is grey, and cut off to 8 bits, not rounded. From 136 × 136 pixels "
    "on.",
    training={"paper": PAPER_TRAINING, "small": SMALL_TRAINING},
)


@register_method(CARD, sources=("fusion_det.fusion.strips",))
class CrossFuse(FusionMethod):
    """See :mod:`fusion_det.fusion.methods.crossfuse.network`; ``config`` names one of ``config.CONFIGS``."""

    card = CARD
    network: CrossFuseNet

    def __init__(self, config: str = "released") -> None:
        from fusion_det.fusion.methods.crossfuse.network import CrossFuseNet

        self.network = CrossFuseNet(CONFIGS[config])
        self.config = config

    def load_weights(self, file: Path) -> None:
        from fusion_det.fusion.methods.crossfuse.checkpoint import load_weights

        load_weights(self.network, file, AUTO_ENCODER_FILES, self.config)

    def fuse(self, ir: torch.Tensor, vi: torch.Tensor) -> torch.Tensor:
        return self.network(ir, vi)

    def recipe(self, settings: TrainSettings, classifier_weights: Path | None = None) -> Recipe:
        from fusion_det.fusion.methods.crossfuse.training import CrossFuseRecipe

        return CrossFuseRecipe(settings, self.network)

    def fuse_officially(self, ir: np.ndarray, vi: np.ndarray) -> np.ndarray:
        from fusion_det.fusion.methods.crossfuse.official import fuse_officially

        return fuse_officially(self.network, ir, vi)
