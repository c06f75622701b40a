"""SMC-Mamba (AAAI 2026), an unofficial re-implementation: general image fusion by state space models and chosen experts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from fusion_det.fusion.method import FusionMethod, MethodCard, WeightsInfo
from fusion_det.fusion.methods.smc_mamba.config import CONFIGS
from fusion_det.fusion.registry import register_method
from fusion_det.fusion.training.settings import TrainSettings

if TYPE_CHECKING:
    import torch

    from fusion_det.fusion.methods.smc_mamba.network import SMCMambaNet
    from fusion_det.fusion.training.recipe import Recipe

PAPER_TRAINING = TrainSettings(
    crop=128,
    batch=1,
    epochs=20,
    warmup=0.0,
    start_rate=2e-4,
    peak_rate=2e-4,
    final_rate=1e-6,
    weight_decay=0.0,
    clip=1.0,
    classifier="none",
)
"""Published are the optimiser, the rate and its halving, and the batch; not the crop, nor how long."""
SMALL_TRAINING = replace(
    PAPER_TRAINING,
    crop=112,
    batch=2,
    epochs=100,
    warmup=0.03,
    peak_rate=1.5e-3,
    final_rate=3e-5,
    ema=0.998,
    options={
        "targets": "task",
        "intensity": 10.0,
        "structure": 8.0,
        "edges": 60.0,
        "diversity": 0.1,
        "consensus": 0.1,
        "halve_every": 0,
    },
)

CARD = MethodCard(
    name="smc_mamba",
    label="SMC-Mamba (unofficial)",
    abbreviation="SMC",
    title="Self-supervised Multiplex Consensus Mamba for General Image Fusion (unofficial re-implementation)",
    family="mamba",
    fuses="luma",
    venue="AAAI",
    year=2026,
    arxiv="2512.20921",
    size_multiple=16,
    min_size=16,
    weights=WeightsInfo(
        origin="nowhere (none are published, nor is there code): this project's own come with it, or fusion-det train-fusion "
        "smc_mamba",
        file="smc_mamba.safetensors",
        licence="AGPL-3.0-or-later (this project's training)",
    ),
    configs=tuple(CONFIGS),
    order=300,
    notes="Unofficial: built from a summary of the paper, whose authors have published neither code nor weights. What the "
    "summary leaves open is decided in this project (config.py of the method); its figures are not the paper's.",
    training={"paper": PAPER_TRAINING, "small": SMALL_TRAINING},
)


@register_method(CARD, sources=("fusion_det.fusion.ssm",))
class SMCMamba(FusionMethod):
    """See :mod:`fusion_det.fusion.methods.smc_mamba.network`; ``config`` names one of ``config.CONFIGS``."""

    card = CARD
    network: SMCMambaNet
    float32_parameters = frozenset({"A_log", "D", "dt_bias"})

    def __init__(self, config: str = "default") -> None:
        from fusion_det.fusion.methods.smc_mamba.network import SMCMambaNet

        self.network = SMCMambaNet(CONFIGS[config])
        self.config = config

    def fuse(self, ir: torch.Tensor, vi: torch.Tensor) -> torch.Tensor:
        return self.network(ir, vi)

    def recipe(self, settings: TrainSettings, classifier_weights: Path | None = None) -> Recipe:
        from fusion_det.fusion.methods.smc_mamba.training import SMCMambaRecipe

        return SMCMambaRecipe(settings, self.network)
