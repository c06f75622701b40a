"""DDFM (Zhao et al. 2023): sampling from a diffusion prior that knows photographs, drawn to both sources at every step."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from fusion_det.fusion.method import FusionMethod, MethodCard, WeightsInfo
from fusion_det.fusion.methods.ddfm.config import CONFIGS
from fusion_det.fusion.registry import register_method
from fusion_det.fusion.training.settings import TrainSettings

if TYPE_CHECKING:
    import numpy as np
    import torch

    from fusion_det.fusion.methods.ddfm.network import UNet
    from fusion_det.fusion.training.recipe import Recipe

PAPER_TRAINING = TrainSettings(
    crop=256,
    batch=256,
    steps=1_980_000,
    warmup=0.0,
    start_rate=1e-4,
    peak_rate=1e-4,
    final_rate=1e-4,
    weight_decay=0.0,
    ema=0.9999,
    classifier="none",
)
"""Of guided diffusion's ImageNet prior (Dhariwal and Nichol 2021, Appendix I); DDFM itself trains nothing."""
SMALL_TRAINING = replace(
    PAPER_TRAINING,
    crop=64,
    batch=8,
    steps=None,
    epochs=100,
    warmup=0.05,
    start_rate=0.0,
    peak_rate=3e-3,
    final_rate=3e-4,
    ema=None,
    clip=1.0,
)

CARD = MethodCard(
    name="ddfm",
    label="DDFM",
    abbreviation="DDF",
    title="DDFM: Denoising Diffusion Model for Multi-Modality Image Fusion",
    family="diffusion",
    fuses="luma",
    authors="Z. Zhao, H. Bai, Y. Zhu, J. Zhang, S. Xu, Y. Zhang, K. Zhang, D. Meng, R. Timofte, L. Van Gool",
    venue="ICCV",
    year=2023,
    arxiv="2303.06840",
    size_multiple=32,
    weights=WeightsInfo(
        origin="the unconditional 256 × 256 ImageNet model of guided diffusion (OpenAI), which DDFM takes unchanged",
        file="256x256_diffusion_uncond.pt",
        licence="MIT",
        sha256="a37c32fffd316cd494cf3f35b339936debdc1576dad13fe57c42399a5dbc78b1",
        trained_on=("imagenet",),
        url="https://openaipublic.blob.core.windows.net/diffusion/jul-2021/256x256_diffusion_uncond.pt",
    ),
    configs=tuple(CONFIGS),
    seconds_per_megapixel={"released": 15_000.0, "tiny": 2.0},
    table_vi=80.4,
    order=110,
    notes="Samples each image in 100 calls of a network of 553 million parameters: hours for a few pairs on a CPU. The "
    "published script crops to multiples of 32 and stretches each image over all of 8 bits; here images are mirrored up to "
    "such a size, and the fused luma, which the sampler has in [-1,1] as it has the sources, is taken back to [0,1] as they "
    "were taken there. The start noise is drawn on the CPU, so that it is the same on every device.",
    official="both sources in grey, rounded to 8 bits; the result is grey, and stretched so that its darkest pixel is 0 and its "
    "brightest 255. The script crops to multiples of 32 pixels; pairs of any other size are refused.",
    training={"paper": PAPER_TRAINING, "small": SMALL_TRAINING},
)


@register_method(CARD, sources=("fusion_det.fusion.official",))
class DDFM(FusionMethod):
    """See :mod:`fusion_det.fusion.methods.ddfm.sampler`; ``config`` names one of ``config.CONFIGS``.

    ``network`` is the prior: ``network(noisy image, timesteps)``, which knows of no second source.
    """

    card = CARD

    def __init__(self, config: str = "released") -> None:
        self.config, self.steps = config, CONFIGS[config].steps

    @cached_property
    def network(self) -> UNet:  # type: ignore[override]
        """Made when it is first asked for: to draw half a billion random weights takes seconds, and a file may replace them."""
        from fusion_det.fusion.methods.ddfm.network import UNet

        return UNet(CONFIGS[self.config])

    def load_weights(self, file: Path) -> None:
        import torch

        from fusion_det.fusion.checkpoint import load_checkpoint
        from fusion_det.fusion.methods.ddfm.network import UNet

        with torch.device("meta"):
            network = UNet(CONFIGS[self.config])
        load_checkpoint(network, file, key=None, method=self.card.name, config=self.config)
        self.network = network

    def fuse(self, ir: torch.Tensor, vi: torch.Tensor) -> torch.Tensor:
        """As ever; float32 at every precision of the network."""
        from fusion_det.fusion.methods.ddfm.sampler import sample, start_noise

        noise = start_noise(*vi.shape[-2:]).to(vi.device)
        infrared, visible = (2 * image.float() - 1 for image in (ir, vi))
        return (sample(self.network, infrared, visible, noise, self.steps, self.after_step).luma + 1) / 2

    def recipe(self, settings: TrainSettings, classifier_weights: Path | None = None) -> Recipe:
        from fusion_det.fusion.methods.ddfm.training import DDFMRecipe

        return DDFMRecipe(settings, self.network)

    def fuse_officially(self, ir: np.ndarray, vi: np.ndarray) -> np.ndarray:
        """As ever; a MethodError for pairs that would be cropped, before hours are spent on them."""
        from fusion_det.fusion.methods.ddfm.official import fuse_officially, refuse_cropping

        refuse_cropping(*ir.shape[:2])
        return fuse_officially(self.network, ir, vi, self.steps, self.after_step)
