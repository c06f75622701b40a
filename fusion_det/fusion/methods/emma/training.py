"""How EMMA learns (Zhao et al. 2024, arXiv:2305.11443): first to guess the sources from a fused image, then to fuse."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F

from fusion_det.errors import ConfigError
from fusion_det.fusion.methods.emma.losses import fusion_loss
from fusion_det.fusion.methods.emma.network import UFuser
from fusion_det.fusion.methods.emma.sensing import SIZE_MULTIPLE, SensingNet
from fusion_det.fusion.methods.emma.transforms import COPIES, draw_shifts, transform
from fusion_det.fusion.training.patches import with_contrast
from fusion_det.fusion.training.recipe import NETWORK, Moment, Phase, Recipe, Sources, Terms, halving
from fusion_det.fusion.training.settings import Option, TrainSettings

SENSING = "sensing_ir", "sensing_vi"
"""Ai and Av among the networks of the recipe."""
HALVED_EVERY = 10 / 40, 20 / 120
"""Shares of the two phases after which the rate is halved: published epochs of theirs."""

DEVIATIONS = (
    "The sensing networks learn from means and maxima of the pairs, made as they go, and not from results of DIDFuse and AUIF; "
    "in batches of the fusion network's size, not of 64. Crops are random and flipped, not on a fixed grid; those without "
    "contrast are left out of their batch, unless it has no others."
)


class Sensed(NamedTuple):
    """What comes out in the first phase, (B,1,H,W) each: the sources, and what Ai and Av make of their fusion."""

    ir: torch.Tensor
    vi: torch.Tensor
    sensed_ir: torch.Tensor
    sensed_vi: torch.Tensor


class Fused(NamedTuple):
    """What comes out in the second phase: the arguments of ``losses.fusion_loss``."""

    ir: torch.Tensor
    vi: torch.Tensor
    sensed_ir: torch.Tensor
    sensed_vi: torch.Tensor
    transformed: torch.Tensor
    fused_again: torch.Tensor


class EMMARecipe(Recipe):
    """The sensing networks learn, and are then frozen: the fusion network learns by what they see in its images.

    The published training is for a GPU: both sensing networks have 39 million parameters, and see every crop eleven times a step.
    Options:

    - ``sensing_width``: of :class:`~fusion_det.fusion.methods.emma.sensing.SensingNet`.
    - ``sensing_share``: of all steps, in which the sensing networks learn.
    - ``transforms``: how many of the ten images that become of a crop the fusion shall be equivariant to in one step, drawn anew
      each time. Fewer make the same term on average, and are fused sooner.

    ``settings.final_rate`` is what the learning rate never falls below.

    Raises:
        ConfigError: options out of range, crops that the sensing networks cannot take.
    """

    options: ClassVar[Mapping[str, Option]] = {"sensing_width": 64, "sensing_share": 0.25, "transforms": COPIES}

    def __init__(self, settings: TrainSettings, network: UFuser) -> None:
        if settings.crop % SIZE_MULTIPLE:
            fits = settings.crop + -settings.crop % SIZE_MULTIPLE
            raise ConfigError(
                f"--crop {settings.crop}: emma's sensing networks take multiples of {SIZE_MULTIPLE}, such as {fits}"
            )
        options = self.chosen_options(settings)
        width, share = int(options["sensing_width"]), float(options["sensing_share"])
        self.transforms = int(options["transforms"])
        if width < 1 or not 0 < share < 1 or not 1 <= self.transforms <= COPIES:
            raise ConfigError(
                f"--set options.…: sensing_width {width} is at least 1, sensing_share {share:g} between 0 and 1, transforms "
                f"{self.transforms} from 1 to {COPIES}"
            )
        super().__init__(
            settings,
            {NETWORK: network, **{name: SensingNet(width) for name in SENSING}},
            [
                Phase("sense", self._sense, _sensing_terms, learns=SENSING, share=share, fuses=False),
                Phase("fuse", self._fuse, _fusion_terms, share=1 - share),
            ],
            " ".join((DEVIATIONS, *_reductions(width, share, self.transforms))),
        )

    def optimizer(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        return torch.optim.Adam(groups, lr=self.settings.peak_rate)

    def rate(self, network: str, moment: Moment) -> float:
        return halving(self.settings.peak_rate, moment.phase_done, HALVED_EVERY[moment.phase], self.settings.final_rate)

    def _see(self, fused: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        seen_ir, seen_vi = (self.networks[name](fused) for name in SENSING)
        return seen_ir, seen_vi

    def _sense(self, sources: Sources) -> Sensed:
        sources = with_contrast(sources)
        ir, vi = sources.ir, sources.luma
        return Sensed(ir, vi, *self._see(simple_fusion(ir, vi)))

    def _fuse(self, sources: Sources) -> Fused:
        sources = with_contrast(sources)
        ir, vi = sources.ir, sources.luma
        fused = self.networks[NETWORK](ir, vi).float()  # half precision is too coarse for the rotations' grids
        transformed = self._transform(fused)
        again = self.networks[NETWORK](*self._see(transformed))
        return Fused(ir, vi, *self._see(fused), transformed, again)

    def _transform(self, fused: torch.Tensor) -> torch.Tensor:
        images = transform(fused, draw_shifts(*fused.shape[-2:]))
        if self.transforms == COPIES:
            return images
        chosen = torch.randperm(COPIES)[: self.transforms]
        return images.unflatten(0, (COPIES, -1))[chosen.to(images.device)].flatten(0, 1)


def _reductions(width: int, share: float, transforms: int) -> Iterator[str]:
    """What the options make smaller than it was published."""
    published = EMMARecipe.options
    if width != published["sensing_width"]:
        yield f"The sensing networks are {width} channels wide, not {published['sensing_width']}."
    if share != published["sensing_share"]:
        yield f"They take {share:.0%} of the steps, not a quarter."
    if transforms != COPIES:
        yield f"{transforms} of the {COPIES} transformations are drawn in each step."


def simple_fusion(ir: torch.Tensor, vi: torch.Tensor) -> torch.Tensor:
    """The mean of each pair, or its brighter pixels; which of both is drawn. (B,1,H,W) to the same."""
    drawn = torch.rand(len(ir), 1, 1, 1, device=ir.device) < 0.5
    return torch.where(drawn, (ir + vi) / 2, torch.maximum(ir, vi))


def _sensing_terms(sources: Sources, sensed: Sensed, done: float) -> Terms:
    infrared, visible = F.mse_loss(sensed.sensed_ir, sensed.ir), F.mse_loss(sensed.sensed_vi, sensed.vi)
    return {"total": infrared + visible, "infrared": infrared, "visible": visible}


def _fusion_terms(sources: Sources, fused: Fused, done: float) -> Terms:
    terms = fusion_loss(*fused)
    return {"total": terms.total, **terms._asdict()}
