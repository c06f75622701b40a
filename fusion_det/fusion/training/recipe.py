"""What the training of a method consists of: networks, phases with their losses, an optimiser. The loop asks for nothing else.

A method with published losses of its own returns its :class:`Recipe` from :meth:`FusionMethod.recipe`; any other network is
trained as :mod:`fusion_det.fusion.training.default` says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import nn

from fusion_det.errors import ConfigError
from fusion_det.fusion.training.schedule import WarmupCosine
from fusion_det.fusion.training.settings import Option, TrainSettings
from fusion_det.tasks import IVIF

NETWORK = "network"
"""Name of the method's own network among those of its recipe."""

Terms = Mapping[str, torch.Tensor]
"""Parts of a loss by name, tensors without dimensions; ``total`` is what is minimised, the others are written down."""


class Sources(NamedTuple):
    """A batch of crops on the device, float32 in [0,1]: ``ir`` (B,1,H,W), ``vi`` (B,3,H,W) RGB, ``luma`` (B,1,H,W) of ``vi``.

    task: that of all of its pairs (:data:`fusion_det.tasks.TASKS`); ``ir`` is the first source of any task, ``vi`` the
        second. The terms of a loss have the same names for all tasks.
    """

    ir: torch.Tensor
    vi: torch.Tensor
    luma: torch.Tensor
    task: str = IVIF


@dataclass(frozen=True)
class Phase:
    """A stretch of a training with a loss of its own.

    name: in messages and in the curve. share: of the training's steps, relative to the other phases'.
    forward: what the networks make of a batch, in their precision: a tensor, or tensors in tuples, lists and dictionaries.
    loss: of the batch and of that, both float32; the last argument is the share of the whole training that is done (1 when
        validating).
    learns: names of the networks whose parameters learn; the others are frozen and in evaluation mode.
    fuses: the method's network gives fused images worth looking at in this phase; only then are there pictures and checkpoints.
    """

    name: str
    forward: Callable[[Sources], Any]
    loss: Callable[[Sources, Any, float], Terms]
    learns: tuple[str, ...] = (NETWORK,)
    share: float = 1.0
    fuses: bool = True


@dataclass(frozen=True)
class Moment:
    """Where a training is. step: the number of the step to be taken, the first is 1. phase: index of its phase.

    begun: steps done before this phase began. ended: number of its last step.
    """

    step: int
    total: int
    phase: int = 0
    begun: int = 0
    ended: int = 0

    @property
    def done(self) -> float:
        """Share of the training that is done before this step."""
        return (self.step - 1) / self.total

    @property
    def phase_done(self) -> float:
        """Share of the phase that is done before this step."""
        return (self.step - 1 - self.begun) / max(1, self.ended - self.begun)


class Recipe:
    """The defaults are S4Fusion's optimiser and schedule.

    Args:
        networks: everything that learns, by name; ``"network"`` is the method's own, or parts of it have names of their own.
        phases: at least one; the last one fuses.
        deviations: what differs from the published training, a sentence or two for the checkpoint's card.
    """

    clip_each = False
    """Whether the gradient's norm is limited for each network by itself."""
    options: ClassVar[Mapping[str, Option]] = {}
    """What can be set about this training beside the common settings, with the defaults: ``settings.options``."""

    def __init__(
        self,
        settings: TrainSettings,
        networks: Mapping[str, nn.Module],
        phases: Sequence[Phase],
        deviations: str = "",
    ) -> None:
        self.chosen_options(settings)
        self.settings, self.networks, self.phases = settings, nn.ModuleDict(networks), tuple(phases)
        self.deviations = deviations

    @classmethod
    def chosen_options(cls, settings: TrainSettings) -> dict[str, Option]:
        """All of ``options``, by the settings where these name them.

        Raises:
            ConfigError: an unknown option, or a value of another type than the default's (a whole number may stand for a
                float).
        """
        chosen = dict(cls.options)
        for name, value in settings.options.items():
            if name not in cls.options:
                known = ", ".join(cls.options) or "none"
                raise ConfigError(f"--set options.{name}: no option of this method's training; it has {known}")
            if type(value) is int and isinstance(cls.options[name], float):
                value = float(value)
            if type(value) is not type(cls.options[name]):
                raise ConfigError(f"--set options.{name}={value}: a value like {cls.options[name]}")
            chosen[name] = value
        return chosen

    def optimizer(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        """Of all networks together; their groups have ``params``, ``weight_decay`` and ``network`` (a name)."""
        return torch.optim.AdamW(groups, lr=self.settings.peak_rate)

    def rate(self, network: str, moment: Moment) -> float:
        """The learning rate of a network's parameters in a step."""
        s = self.settings
        warmup = round(s.warmup * moment.total)
        return WarmupCosine(moment.total, warmup, s.start_rate, s.peak_rate, s.final_rate)(moment.step)

    def vary(self, sources: Sources) -> Sources:
        """What is learnt from in the place of a training batch's crops, beside their flips: other images, another task.

        Random numbers are torch's own, seeded for the step. Batches of the validation are not varied.
        """
        return sources

    def helpers(self) -> Iterable[nn.Module]:
        """Frozen networks that losses look through: moved to the device, not saved."""
        return ()

    def prepare(self, batches: Iterable[Sources]) -> None:
        """Settle what depends on the pairs before the first step of a fresh training. batches: middles of some pairs."""

    def state(self) -> dict[str, float]:
        """What :meth:`prepare` found; kept in the training's state and on the cards of its checkpoints."""
        return {}

    def restore(self, state: Mapping[str, float]) -> None:
        """Take up a state."""

    def after_step(self) -> None:
        """Whatever follows a step of the optimiser."""


def halving(peak: float, done: float, every: float, floor: float = 0.0) -> float:
    """A rate that is halved each time that another ``every`` (a share) is ``done``, not below ``floor``."""
    return max(floor, peak * 0.5 ** int(done / every + 1e-9))
