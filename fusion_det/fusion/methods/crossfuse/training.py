"""How CrossFuse learns (Li & Wu 2024, arXiv:2406.10581): to rebuild images of either modality, then to fuse their features."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import torch

from fusion_det.errors import ConfigError
from fusion_det.fusion.methods.crossfuse.losses import fusion_loss, rebuilding_loss
from fusion_det.fusion.methods.crossfuse.network import CrossFuseNet, Pair, stretched
from fusion_det.fusion.training.recipe import Moment, Phase, Recipe, Sources, Terms
from fusion_det.fusion.training.settings import Option, TrainSettings

CODING = "auto_encoder_ir", "auto_encoder_vi"
ATTENDING, DECODING = "attention", "decoder"
"""Networks of the recipe: both auto-encoders, and the two parts of the fusion network."""
CROP_MULTIPLE = 16
"""Tokens are of 2 × 2 places, and places of 8 × 8 pixels."""
FULL_RATE = 2 / 4, 2 / 32
"""Shares of the two phases after which the rate falls to a tenth: published epochs of theirs."""

DEVIATIONS = (
    "Random crops with flips, not whole images resized to 256 × 256; both auto-encoders learn at once, in batches of the "
    "fusion network's size, and start equal (the paper names no start)."
)


class Rebuilt(NamedTuple):
    """Both sources and what their auto-encoders make of them, (B,1,H,W) in [0,1]."""

    ir: torch.Tensor
    vi: torch.Tensor


class CrossFuseRecipe(Recipe):
    """The auto-encoders learn, and are then frozen: the fusion network learns to fuse what their encoders find.

    ``settings.peak_rate`` is the decoder's of the fusion network. ``settings.final_rate`` is what it never falls below. Options:

    - ``coding_share``: of all steps, in which the auto-encoders learn.
    - ``coding_rate``: their learning rate over that of the fusion network.
    - ``attention_rate``: that of the fusion network's attention over that of its decoder. What tokens give is a grid until much
      is learnt; within few steps, the decoder learns to fuse sooner than it learns to do without the grid.

    Raises:
        ConfigError: options out of range, crops that cannot be cut into tokens.
    """

    options: ClassVar[Mapping[str, Option]] = {"coding_share": 0.5, "coding_rate": 0.1, "attention_rate": 1.0}

    def __init__(self, settings: TrainSettings, network: CrossFuseNet) -> None:
        if settings.crop % CROP_MULTIPLE:
            raise ConfigError(
                f"--crop {settings.crop}: crossfuse learns from multiples of {CROP_MULTIPLE}, such as "
                f"{settings.crop + -settings.crop % CROP_MULTIPLE}"
            )
        options = self.chosen_options(settings)
        share = float(options["coding_share"])
        self.rates = {name: float(options["coding_rate"]) for name in CODING}
        self.rates |= {ATTENDING: float(options["attention_rate"]), DECODING: 1.0}
        if not 0 < share < 1 or not min(self.rates.values()) > 0:
            raise ConfigError(
                f"--set options.…: coding_share {share:g} is between 0 and 1, coding_rate and attention_rate more than 0"
            )
        self.network = network
        super().__init__(
            settings,
            {
                **{name: network.get_submodule(name) for name in CODING},
                ATTENDING: network.fusion.cross_atten_block,
                DECODING: network.fusion.decoder_fusion,
            },
            [
                Phase("rebuild", self._rebuild, _rebuilding_terms, learns=CODING, share=share, fuses=False),
                Phase("fuse", self._fuse, _fusion_terms, learns=(ATTENDING, DECODING), share=1 - share),
            ],
            DEVIATIONS,
        )

    def optimizer(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        # As published: of all parameters, biases and norms among them, and as a part of the gradient.
        decayed = [{**group, "weight_decay": self.settings.weight_decay} for group in groups]
        return torch.optim.Adam(decayed, lr=self.settings.peak_rate)

    def rate(self, network: str, moment: Moment) -> float:
        rate = self.settings.peak_rate * self.rates[network]
        fallen = moment.phase_done >= FULL_RATE[moment.phase]
        return max(self.settings.final_rate * self.rates[network], 0.1 * rate) if fallen else rate

    def _rebuild(self, sources: Sources) -> Rebuilt:
        return Rebuilt(self.network.auto_encoder_ir(sources.ir), self.network.auto_encoder_vi(sources.luma))

    def _fuse(self, sources: Sources) -> torch.Tensor:
        encoded = [
            encode(image) for encode, image in zip(self.network.encoders, (sources.ir, sources.luma), strict=True)
        ]
        shallow, deep = (Pair(*maps) for maps in zip(*encoded, strict=True))
        fused: torch.Tensor = self.network.fusion(shallow, deep)
        return stretched(fused)


def _rebuilding_terms(sources: Sources, rebuilt: Rebuilt, done: float) -> Terms:
    infrared = rebuilding_loss(255 * rebuilt.ir, 255 * sources.ir).total
    visible = rebuilding_loss(255 * rebuilt.vi, 255 * sources.luma).total
    return {"total": infrared + visible, "infrared": infrared, "visible": visible}


def _fusion_terms(sources: Sources, fused: torch.Tensor, done: float) -> Terms:
    terms = fusion_loss(255 * fused, 255 * sources.ir, 255 * sources.luma)
    return {"total": terms.total, **terms._asdict()}
