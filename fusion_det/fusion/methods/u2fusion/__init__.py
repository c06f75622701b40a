"""U2Fusion (Xu et al. 2022): one densely connected network for several kinds of image fusion."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from fusion_det.errors import MethodError
from fusion_det.fusion.method import FusionMethod, MethodCard, WeightsInfo
from fusion_det.fusion.methods.u2fusion.config import CONFIGS
from fusion_det.fusion.registry import register_method
from fusion_det.fusion.training.settings import TrainSettings

if TYPE_CHECKING:
    import numpy as np
    import torch

    from fusion_det.fusion.methods.u2fusion.network import U2FusionNet
    from fusion_det.fusion.training.recipe import Recipe

WEIGHTS = WeightsInfo(
    origin="https://github.com/hanna-xu/U2Fusion (model/ at commit 0a5882140df67b3e0b588e1f2233e18cf944f1a4)",
    file="model.ckpt.data-00000-of-00001",
    licence="none stated by the authors",
    git_blob="70083a119d1450610b192b93fdfc5b0e42e4858e",
    sha256="e50cada8d4ec92f2577ad5db5d212fba521dffb35d04e00a20364b43512c64c8",
    trained_on=("roadscene",),
    url="https://raw.githubusercontent.com/hanna-xu/U2Fusion/0a5882140df67b3e0b588e1f2233e18cf944f1a4/model/"
    "model.ckpt.data-00000-of-00001",
)

PAPER_TRAINING = TrainSettings(
    crop=64,
    batch=18,
    epochs=96,
    warmup=0.0,
    start_rate=1e-4,
    peak_rate=1e-4,
    final_rate=1e-4,
    weight_decay=0.0,
    classifier="vgg16",
)
"""Three passes over all squares of 64 × 64 pixels, of which an image of RoadScene has 32; here a pass takes one of each pair."""
SMALL_TRAINING = replace(
    PAPER_TRAINING, batch=4, epochs=100, start_rate=3e-3, peak_rate=3e-3, classifier="efficientnet_lite0"
)
"""With a rate that falls from thirty times the published one, by which nothing is learnt in a few hundred steps."""

CARD = MethodCard(
    name="u2fusion",
    label="U2Fusion",
    abbreviation="U2F",
    title="U2Fusion: A Unified Unsupervised Image Fusion Network",
    family="cnn",
    fuses="luma",
    authors="H. Xu, J. Ma, J. Jiang, X. Guo, H. Ling",
    venue="IEEE Transactions on Pattern Analysis and Machine Intelligence 44(1)",
    year=2022,
    min_size=2,
    weights=WEIGHTS,
    configs=tuple(CONFIGS),
    table_vi=80.1,
    order=130,
    notes="One checkpoint for all the kinds of fusion it was trained on in turn: infrared and visible, exposures, foci. The "
    "published script also stretches every image by its own maximum, which here it is not.",
    official="Luma and chroma by the rounded BT.601 constants; the result is multiplied until its own maximum, over all "
    "pixels and channels, is 255; it is in colour only if exactly one of the two files is. Saved as PNG, where the script "
    "keeps the visible file's format.",
    training={"paper": PAPER_TRAINING, "small": SMALL_TRAINING},
)


@register_method(CARD)
class U2Fusion(FusionMethod):
    """See :mod:`fusion_det.fusion.methods.u2fusion.network`; ``config`` names one of ``config.CONFIGS``."""

    card = CARD
    network: U2FusionNet

    def __init__(self, config: str = "released") -> None:
        from fusion_det.fusion.methods.u2fusion.network import U2FusionNet

        self.network = U2FusionNet(CONFIGS[config])
        self.config = config

    def load_weights(self, file: Path) -> None:
        """The published TensorFlow data file, or a state dict of :class:`U2FusionNet` (``.safetensors`` and others)."""
        from fusion_det.fusion.checkpoint import load_checkpoint, shapes_of
        from fusion_det.fusion.methods.u2fusion import published_weights

        if published_weights.is_tensorflow(file):
            if self.config != "released":
                raise MethodError(f"{file} is the checkpoint of u2fusion's configuration released, not {self.config}")
            self.network.load_state_dict(published_weights.read(file, shapes_of(self.network)))
        else:
            load_checkpoint(self.network, file, key=None, method=self.card.name, config=self.config)

    def fuse(self, ir: torch.Tensor, vi: torch.Tensor) -> torch.Tensor:
        return self.network(ir, vi)

    def recipe(self, settings: TrainSettings, classifier_weights: Path | None = None) -> Recipe:
        from fusion_det.fusion.methods.u2fusion.training import U2FusionRecipe

        return U2FusionRecipe(settings, self.network, classifier_weights)

    def fuse_officially(self, ir: np.ndarray, vi: np.ndarray) -> np.ndarray:
        from fusion_det.fusion.methods.u2fusion.official import fuse_officially

        return fuse_officially(self.network, ir, vi)
