"""How DeFusion learns (Liang et al. 2022): from single images, torn in two, to tell what both halves share and to mend them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, NamedTuple

import torch

from fusion_det.fusion.methods.defusion.losses import FUSED_FROM, decomposition_loss
from fusion_det.fusion.methods.defusion.network import DeFusionNet, Parts, summed
from fusion_det.fusion.methods.defusion.samples import Sample, draw_sample
from fusion_det.fusion.training.recipe import NETWORK, Moment, Phase, Recipe, Sources, Terms, halving
from fusion_det.fusion.training.settings import Option, TrainSettings

EPOCHS, IMAGES, BATCH = 51, 50_000, 4
STEPS = EPOCHS * IMAGES // BATCH
"""Published steps, by which the loss's schedule is counted."""
HALVED_EVERY, HALVINGS = 10, 4
"""Epochs between two halvings of the learning rate, and how many there are."""

SLOPE = 0.1
"""Of values below 0 in a gentle training."""

DEVIATIONS = (
    "Learnt from one image of each pair, infrared or visible, and not from photographs (COCO); in squares of the images' own "
    "resolution, not enlarged or reduced ones. The schedules of the loss and of the rate are stretched to this training's length."
)
GENTLE = (
    " Images of a fresh network are made as bright as the pairs, and the loss sees a tenth of their values below 0, so that no "
    "channel goes dark for good."
)


class Mended(NamedTuple):
    """What was shown to the network, and what it made of it."""

    sample: Sample
    parts: Parts


class DeFusionRecipe(Recipe):
    """The network takes two damaged copies of an image apart; after a while it learns to fuse the parts as well.

    Its images end in a ReLU, and a channel that is 0 everywhere learns nothing more. In short trainings that happens often:
    an untrained network's images are ten times too bright, or dark, and the first steps overshoot. ``options.gentle`` is
    against it.
    """

    options: ClassVar[Mapping[str, Option]] = {"gentle": False}

    def __init__(self, settings: TrainSettings, network: DeFusionNet) -> None:
        self.network = network
        self.slope = SLOPE if self.chosen_options(settings)["gentle"] else 0.0
        super().__init__(
            settings,
            {NETWORK: network},
            [
                Phase("part", self._mend, _terms_until(FUSED_FROM - 1), share=FUSED_FROM, fuses=False),
                Phase("part and fuse", self._mend, _terms_until(STEPS), share=STEPS - FUSED_FROM),
            ],
            DEVIATIONS + (GENTLE if self.slope else ""),
        )

    def prepare(self, batches: Iterable[Sources]) -> None:
        if self.slope:
            images = [one_of_each(sources) for sources in itertools.islice(batches, 4)]
            match_brightness(self.network, draw_sample(torch.cat(images)))

    def optimizer(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        return torch.optim.Adam(groups, lr=self.settings.peak_rate)

    def rate(self, network: str, moment: Moment) -> float:
        """Published: no rise at the beginning (``settings.warmup`` 0)."""
        peak = self.settings.peak_rate
        risen = min(1.0, moment.step / max(1.0, self.settings.warmup * moment.total))
        return risen * halving(peak, moment.done * EPOCHS, HALVED_EVERY, peak * 0.5**HALVINGS)

    def _mend(self, sources: Sources) -> Mended:
        sample = draw_sample(one_of_each(sources))
        return Mended(sample, self.network.decompose(sample.first, sample.second, training=True, slope=self.slope))


def one_of_each(sources: Sources) -> torch.Tensor:
    """The infrared or the visible image of each pair, drawn evenly, (B,3,H,W)."""
    infrared = torch.rand(len(sources.ir), 1, 1, 1) < 0.5
    return torch.where(infrared.to(sources.ir.device), sources.ir, sources.vi)


@torch.no_grad()
def match_brightness(network: DeFusionNet, sample: Sample) -> None:
    """Scale the filters of every channel of an image that is less than half or more than twice as bright as the clean images.

    A channel that is below 0 on average has them reversed. What was trained is as bright as it should be, and stays as it is.
    """
    features = network.features(sample.first, sample.second)
    for layers, maps in (
        (network.decoder_common_projection_layer, features.common),
        (network.decoder_upper_projection_layer, torch.cat((features.unique_ir, features.unique_vi))),
        (network.fusion_rule, summed(features)),
    ):
        convolution = layers[0]
        gain = (sample.clean.mean() / convolution(maps).mean((0, 2, 3))).clamp(-10, 10)
        fits = (gain > 0.5) & (gain < 2)
        convolution.weight.mul_(torch.where(fits, 1.0, gain)[:, None, None, None])  # type: ignore[operator]


def _terms_until(last: int) -> Callable[[Sources, Mended, float], Terms]:
    """The loss at the published step, at most ``last``, that so large a share of the training comes to."""

    def terms(sources: Sources, mended: Mended, done: float) -> Terms:
        sample, step = mended.sample, min(round(done * STEPS), last)
        return dict(vars(decomposition_loss(mended.parts, sample.clean, sample.mask_1, sample.mask_2, step)))

    return terms
