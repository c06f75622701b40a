"""S4Fusion (Ma et al. 2024): a U-shaped state space network that scans infrared and visible features in turns."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fusion_det.fusion.method import FusionMethod, MethodCard, WeightsInfo
from fusion_det.fusion.methods.s4fusion.config import CONFIGS
from fusion_det.fusion.registry import register_method
from fusion_det.fusion.training.settings import TermWeights, TrainSettings

if TYPE_CHECKING:
    import numpy as np
    import torch

    from fusion_det.fusion.explanation import Explanation
    from fusion_det.fusion.methods.s4fusion.network import S4FusionNet

SMALL_TRAINING = TrainSettings(
    crop=133,
    batch=4,
    epochs=100,
    start_rate=3e-4,
    final_rate=3e-5,
    clip=1.0,
    classifier="efficientnet_lite0",
    weights=TermWeights(perception=0.1, ssim=5.0),
    perception_from=0.6,
    intensity="brighter",
    information=False,
    edges="direction",
    ema=0.998,
)
"""In an hour on two cores, the published loss leads to poor pictures: the classifier is satisfied by a lattice before there is an
image, L1 takes its grey levels from the source with more texture alone, which makes bright skies black, and edges that need have
no direction become ripples. So here the perception term comes late and weighs little, grey levels are drawn to the brighter
source, and edges keep their direction. Figures: benchmarks/README.md."""

CARD = MethodCard(
    name="s4fusion",
    label="S4Fusion",
    abbreviation="S4F",
    title="S4Fusion: Saliency-aware Selective State Space Model for Infrared and Visible Image Fusion",
    family="mamba",
    fuses="luma",
    authors="H. Ma, H. Li, C. Cheng, G. Wang, X. Song, X.-J. Wu",
    venue="arXiv",
    year=2024,
    arxiv="2405.20881",
    size_multiple=12,
    size_remainder=1,
    min_size=13,
    padding_side="both",
    weights=WeightsInfo(
        origin="https://github.com/zipper112/S4Fusion (model/model.pkl at commit 0d900f06ced076ccd2e0b16bbcb4539f89cf5dfa)",
        file="model.pkl",
        licence="none stated by the authors",
        git_blob="ec101bb3e8cd84fab46e12266813687a61f2a82e",
        trained_on=("msrs", "m3fd", "roadscene"),
        url="https://raw.githubusercontent.com/zipper112/S4Fusion/0d900f06ced076ccd2e0b16bbcb4539f89cf5dfa/model/model.pkl",
    ),
    configs=tuple(CONFIGS),
    explains=True,
    training={"small": SMALL_TRAINING},
    table_vi=81.3,
    order=190,
    notes="The released network. The released script pads with zeros; here images are mirrored at their edges. It writes the "
    "fused luma alone, as grey images; here it is joined with the visible chroma by this project's conversion (the same luma; "
    "colours within 0.0003 of the inverse that the script defines and does not call). Going by the published lists of names, "
    "M3FD here is its 300-pair fusion subset.",
    official="Pads with zeros, which darkens the outermost rows and columns of sizes that do not fit; writes grey images.",
)


@register_method(CARD, sources=("fusion_det.fusion.ssm",))
class S4Fusion(FusionMethod):
    """See :mod:`fusion_det.fusion.methods.s4fusion.network`; ``config`` names one of ``config.CONFIGS``."""

    card = CARD
    network: S4FusionNet
    checkpoint_key = "model"
    float32_parameters = frozenset({"A_logs", "Ds", "dt_projs_bias"})

    def __init__(self, config: str = "released") -> None:
        from fusion_det.fusion.methods.s4fusion.network import S4FusionNet

        self.network = S4FusionNet(CONFIGS[config])
        self.config = config

    def fuse(self, ir: torch.Tensor, vi: torch.Tensor) -> torch.Tensor:
        return self.network(ir, vi)

    def fuse_officially(self, ir: np.ndarray, vi: np.ndarray) -> np.ndarray:
        from fusion_det.fusion.methods.s4fusion.official import fuse_officially

        return fuse_officially(self, ir, vi)

    def explain(self, ir: torch.Tensor, vi: torch.Tensor) -> Explanation:
        from fusion_det.fusion.methods.s4fusion.explain import explain

        return explain(self.network, self.config, ir, vi)
