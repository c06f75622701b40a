"""How SemLA learns (Xie et al. 2023): to match places of images that are out of place, and to rebuild images it is to fuse."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import torch
from torch import nn

from fusion_det.errors import ConfigError
from fusion_det.fusion.methods.semla.losses import matching_loss, rebuilding_loss
from fusion_det.fusion.methods.semla.network import STRIDE, SemLANet
from fusion_det.fusion.methods.semla.warps import corresponding_places, draw_homographies, warp
from fusion_det.fusion.training.recipe import Moment, Phase, Recipe, Sources, Terms
from fusion_det.fusion.training.settings import Option, TrainSettings

EXTRACTING, CALIBRATING, RELATING, FUSING = "extractor", "calibration", "relation", "fusion"
"""Networks of the recipe: all of the published one, but for the saliency head."""


class Schedule(NamedTuple):
    """Of a phase. epochs: as published. rate: over that of the fusion network. decay: of the rate, in every epoch."""

    epochs: int
    rate: float
    decay: float


SCHEDULES: Mapping[str, Schedule] = {
    "match": Schedule(13, 3.0, 0.908),
    "calibrate": Schedule(2, 0.4, 0.998),
    "relate": Schedule(10, 0.4, 0.998),
    "rebuild": Schedule(20, 1.0, 0.998),
}
REGISTERING = "match", "calibrate", "relate"
EPOCHS_TO_REGISTER = sum(SCHEDULES[name].epochs for name in REGISTERING)
FROM_INFRARED = 0.3
"""Probability with which an image to rebuild is the infrared one."""
LATER_DEGREES = 40.0
"""By how much images are turned after the first phase."""
GROWTH = 0.03
"""Of the weight of what the relation alone matches, in every epoch of the second phase."""

DEVIATIONS = "Learnt from pairs with random crops and flips, not from COCO and images made infrared; without other augmentations."
WITHOUT_MASKS = (
    "Registration is learnt without masks of what is salient and without the MatchFormer teacher, so that its saliency head "
    "knows nothing and only whole scenes can be matched; in batches of one size."
)
WITHOUT_REGISTRATION = "The fusion network alone, for aligned pairs; the registration network has learnt nothing."


class Matched(NamedTuple):
    """Features (B,C,h,w) of both images, and which of their places correspond: the arguments of ``losses.matching_loss``.

    relation_vi, relation_ir: the parts of the features that the relation of salient places adds.
    """

    features_vi: torch.Tensor
    features_ir: torch.Tensor
    matches: torch.Tensor
    relation_vi: torch.Tensor
    relation_ir: torch.Tensor


class Rebuilt(NamedTuple):
    """Images and what the fusion network makes of them, (B,1,H,W)."""

    image: torch.Tensor
    rebuilt: torch.Tensor


class SemLARecipe(Recipe):
    """The registration network learns to match images with warped ones; then the fusion network learns to rebuild images.

    ``settings.peak_rate`` is the fusion network's; the others' are in proportion. Options:

    - ``registration``: share of all steps in which the registration network learns. With 0 it learns nothing, and pairs can be
      fused by the common protocol alone, which needs none.
    - ``semantics``: the saliency head learns, too. This needs masks.

    Raises:
        ConfigError: options out of range, masks that are not there, crops that the registration network cannot take.
    """

    options: ClassVar[Mapping[str, Option]] = {"registration": 25 / 45, "semantics": False}

    def __init__(self, settings: TrainSettings, network: SemLANet) -> None:
        options = self.chosen_options(settings)
        share = float(options["registration"])
        if options["semantics"]:
            raise ConfigError(
                "--set options.semantics=true: the saliency head of semla needs pairs with masks of what is salient (IVS), which "
                "no dataset reader here provides; leave the option out, or take the authors' weights, which fusion-det methods "
                "names"
            )
        if not 0 <= share < 1:
            raise ConfigError(f"--set options.registration={share:g}: a share of the training, from 0 to less than 1")
        if share and settings.crop % STRIDE:
            raise ConfigError(
                f"--crop {settings.crop}: semla's registration network takes multiples of {STRIDE}, such as "
                f"{settings.crop + -settings.crop % STRIDE}"
            )
        self.backbone, self.fusion, self.registration = network.backbone, network.fusion, share
        backbone = self.backbone
        parts: dict[str, nn.Module] = {FUSING: self.fusion}
        if share:
            extractor = (backbone.reg0, backbone.reg1, backbone.reg2, backbone.reg3, backbone.pred_reg)
            parts |= {
                EXTRACTING: nn.ModuleList(extractor),
                CALIBRATING: nn.ModuleList((backbone.csc0, backbone.csc1)),
                RELATING: backbone.ssr,
            }
        super().__init__(
            settings,
            parts,
            [*(self._registering(share) if share else ()), self._rebuilding(1 - share)],
            " ".join((DEVIATIONS, WITHOUT_MASKS if share else WITHOUT_REGISTRATION)),
        )

    def _registering(self, share: float) -> list[Phase]:
        match, calibrate, relate = (share * SCHEDULES[name].epochs / EPOCHS_TO_REGISTER for name in REGISTERING)
        both = CALIBRATING, RELATING
        return [
            Phase("match", self._match, _matching_terms, (EXTRACTING,), match, fuses=False),
            Phase("calibrate", self._relate, self._calibrating_terms, both, calibrate, fuses=False),
            Phase("relate", self._relate, _matching_terms, (RELATING,), relate, fuses=False),
        ]

    def _rebuilding(self, share: float) -> Phase:
        return Phase("rebuild", self._rebuild, _rebuilding_terms, (FUSING,), share)

    def optimizer(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        return torch.optim.Adam(groups, lr=self.settings.peak_rate)

    def rate(self, network: str, moment: Moment) -> float:
        schedule = SCHEDULES[self.phases[moment.phase].name]
        epoch = int(schedule.epochs * moment.phase_done + 1e-9)
        return self.settings.peak_rate * schedule.rate * schedule.decay**epoch

    def _warped(self, sources: Sources, degrees: float | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Infrared images that are out of place, and the places of the visible ones that correspond to theirs."""
        size = sources.ir.shape[-2], sources.ir.shape[-1]
        homographies = draw_homographies(len(sources.ir), size, *(() if degrees is None else (degrees,)))
        moved = warp(sources.ir, homographies)
        return moved, corresponding_places(homographies, size).to(moved.device)

    def _match(self, sources: Sources) -> Matched:
        moved, matches = self._warped(sources)
        of_vi, of_ir = self.backbone.extract(moved, sources.luma)
        return Matched(of_vi, of_ir, matches, of_vi, of_ir)

    def _relate(self, sources: Sources) -> Matched:
        moved, matches = self._warped(sources, LATER_DEGREES)
        plain_vi, plain_ir = self.backbone.extract(moved, sources.luma)
        salient_ir = self.backbone.saliency(plain_ir)
        salient_vi = self.backbone.saliency(self.backbone.calibrate(plain_vi, plain_ir, salient_ir))
        of_vi, of_ir = self.backbone.ssr(salient_vi, salient_ir)
        return Matched(plain_vi + of_vi, plain_ir + of_ir, matches, of_vi, of_ir)

    def _rebuild(self, sources: Sources) -> Rebuilt:
        infrared = torch.rand(len(sources.ir), 1, 1, 1, device=sources.ir.device) < FROM_INFRARED
        image = torch.where(infrared, sources.ir, sources.luma)
        return Rebuilt(image, self.fusion.rebuild(image))

    def _calibrating_terms(self, sources: Sources, found: Matched, done: float) -> Terms:
        matches = found.matches.long()
        matching = matching_loss(found.features_vi, found.features_ir, matches)
        relation = matching_loss(found.relation_vi, found.relation_ir, matches)
        first, second, _ = (SCHEDULES[name].epochs for name in REGISTERING)
        epoch = min(second - 1, max(0, int(done / self.registration * EPOCHS_TO_REGISTER - first)))
        return {"total": matching + (1 + GROWTH * epoch) * relation, "matching": matching, "relation": relation}


def _matching_terms(sources: Sources, found: Matched, done: float) -> Terms:
    return {"total": matching_loss(found.features_vi, found.features_ir, found.matches.long())}


def _rebuilding_terms(sources: Sources, rebuilt: Rebuilt, done: float) -> Terms:
    terms = rebuilding_loss(*rebuilt)
    return {"total": terms.total, **terms._asdict()}
