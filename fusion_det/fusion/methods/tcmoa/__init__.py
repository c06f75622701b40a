"""TC-MoA (Zhu et al. 2024): a masked auto-encoder that adapters teach to fuse, by one gate for each task."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from fusion_det.fusion.method import FusionMethod, MethodCard, WeightsInfo
from fusion_det.fusion.methods.tcmoa.config import CONFIGS, TASKS
from fusion_det.fusion.registry import register_method
from fusion_det.fusion.training.settings import TrainSettings

if TYPE_CHECKING:
    import numpy as np
    import torch

    from fusion_det.fusion.methods.tcmoa.network import TCMoANet
    from fusion_det.fusion.training.recipe import Recipe

PAPER_TRAINING = TrainSettings(
    crop=448,
    batch=9,
    epochs=20,
    warmup=0.1,
    start_rate=0.0,
    peak_rate=3e-4,
    final_rate=1e-5,
    weight_decay=0.05,
    classifier="none",
)
"""The batch is that of three GPUs together."""
SMALL_TRAINING = replace(PAPER_TRAINING, crop=112, batch=4, epochs=100, clip=1.0, options={"fit": True})
"""For an auto-encoder that is to learn along, and for hundreds of steps."""

CARD = MethodCard(
    name="tcmoa",
    label="TC-MoA",
    abbreviation="TCM",
    title="Task-Customized Mixture of Adapters for General Image Fusion",
    family="transformer",
    fuses="rgb",
    authors="P. Zhu, Y. Sun, B. Cao, Q. Hu",
    venue="CVPR",
    year=2024,
    arxiv="2403.12494",
    size_multiple=112,
    min_size=112,
    weights=WeightsInfo(
        origin="the TC-MoA weight that the README of https://github.com/YangSun22/TC-MoA links to on Google Drive and Baidu",
        file="TC-MoA.pth",
        licence="none stated by the authors; the auto-encoder is Meta's MAE, CC-BY-NC-4.0",
        trained_on=("llvip", "scie", "realmff", "mfi-whu"),
    ),
    configs=tuple(CONFIGS),
    order=220,
    notes="Images more than 448 pixels high and wide are fused in windows of 448, as published; others are mirrored up to "
    "multiples of 112, not resized. The modal shifts, which no checkpoint holds and the authors' program draws anew each "
    "time, are zeros here; the colours of the result are not stretched.",
    official="images that are at most 448 pixels high or wide are resized to multiples of 112 and back, bilinearly; the "
    "result is stretched over all of 8 bits, its three channels together. In float32, where the authors' runs are in float16.",
    training={"paper": PAPER_TRAINING, "small": SMALL_TRAINING},
)


@register_method(CARD, sources=("fusion_det.fusion.mae",))
class TCMoA(FusionMethod):
    """See :mod:`fusion_det.fusion.methods.tcmoa.network`; ``config`` names one of ``config.CONFIGS``."""

    card = CARD
    network: TCMoANet
    task = 0
    """What is fused: an index into ``config.TASKS``."""

    def __init__(self, config: str = "large") -> None:
        from fusion_det.fusion.methods.tcmoa.network import TCMoANet

        self.network = TCMoANet(CONFIGS[config])
        self.config = config

    def load_weights(self, file: Path) -> None:
        from fusion_det.fusion.checkpoint import load_checkpoint
        from fusion_det.fusion.methods.tcmoa.checkpoint import todays_names

        load_checkpoint(
            self.network, file, key="model", method=self.card.name, config=self.config, renamed=todays_names
        )

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> None:
        """Adapters stay in float32, as published."""
        adapters = (*self.network.blocks_MoA, *self.network.decoder_blocks_MoA)
        exact = [{name: value.clone() for name, value in part.state_dict().items()} for part in adapters]
        super().to(device, dtype)
        for adapter, state in zip(adapters, exact, strict=True):
            adapter.float().load_state_dict(state)

    def for_task(self, task: str) -> TCMoA:
        chosen = copy.copy(self)
        chosen.task = TASKS.index(task) if task in TASKS else 0
        return chosen

    def fuse(self, ir: torch.Tensor, vi: torch.Tensor) -> torch.Tensor:
        from fusion_det.fusion.methods.tcmoa.windows import fuse_any

        return fuse_any(self.network, ir.expand_as(vi), vi, self.task)

    def recipe(self, settings: TrainSettings, classifier_weights: Path | None = None) -> Recipe:
        from fusion_det.fusion.methods.tcmoa.training import TCMoARecipe

        return TCMoARecipe(settings, self.network)

    def fuse_officially(self, ir: np.ndarray, vi: np.ndarray) -> np.ndarray:
        from fusion_det.fusion.methods.tcmoa.official import fuse_officially

        return fuse_officially(self.network, ir, vi, self.task)
