"""How SMC-Mamba learns (arXiv:2512.20921): one network for all tasks, whose experts first differ and then agree."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import nn

from fusion_det.errors import ConfigError
from fusion_det.fusion.methods.smc_mamba import losses
from fusion_det.fusion.methods.smc_mamba.network import Insight, SMCMambaNet
from fusion_det.fusion.methods.smc_mamba.photographs import two_photographs
from fusion_det.fusion.training.recipe import NETWORK, Moment, Phase, Recipe, Sources, Terms
from fusion_det.fusion.training.settings import Option, TrainSettings
from fusion_det.fusion.training.terms import slope_distance, ssim_map
from fusion_det.tasks import IVIF

HISTORY = "gate_history"
REMEMBERED = 100
"""Steps whose choices of experts are balanced together."""

FEATURES, PIXELS, BALANCE = 0.8, 0.4, 0.01
"""Weights of L_fcl, L_pcl (published) and L_wb (ours)."""


FOCUS = 2.0
"""How often the image's terms of two foci count; see ``targets``."""

SYMMETRIC = losses.MULTI_FOCUS, losses.MULTI_EXPOSURE
"""Tasks whose sources can come in either order; every other batch of them is turned round."""


class GateHistory(nn.Module):
    """The mean gates of the last 100 steps, of both levels: part of the training's state, so that it goes on exactly."""

    gates: torch.Tensor
    steps: torch.Tensor

    def __init__(self, experts: int) -> None:
        super().__init__()
        self.register_buffer("gates", torch.zeros(2, REMEMBERED, experts))
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))

    def known(self, level: int) -> torch.Tensor:
        """(n,E), n at most 100."""
        return self.gates[level, : min(int(self.steps), REMEMBERED)]

    def with_gradient(self, level: int, mean: torch.Tensor) -> torch.Tensor:
        """Average of the known gates and of this step's, (E,), whose gradient is this step's alone and whole.

        As one of a hundred terms of an average its gradient would be a hundredth, too little to move the gate.
        """
        average = torch.cat((self.known(level), mean.detach()[None])).mean(0)
        return average + mean - mean.detach()

    @torch.no_grad()
    def remember(self, means: tuple[torch.Tensor, torch.Tensor]) -> None:
        self.gates[:, int(self.steps) % REMEMBERED] = torch.stack(means).detach()
        self.steps += 1


class SMCMambaRecipe(Recipe):
    """One phase; the batches are of one task each. Options:

    - ``targets``: "document": grey levels of the brighter source, of the sharper one, or the mean of two exposures, and likeness
      in structure to both sources. "task": as that, but the contrasts everywhere are to be those of the source with the
      stronger edges around, of two foci all that of the sharper one; local means of two exposures, not pixels, are compared
      with their mean, whose contrast is raised; what concerns the image of two foci counts twice, since its losses are small.
    - ``intensity``, ``structure``, ``edges``, ``bscl``: factors of L_int, of L_ssim, of a term of edges that the document lacks,
      and of L_fcl and L_pcl together.
    - ``diversity``, ``consensus``: factors of these terms; 0 in two of the document's ablations.
    - ``photographs``: share of the batches of infrared and visible images in whose place two foci or two exposures of their
      visible images are learnt from; see :mod:`.photographs`.
    - ``halve_every``: steps after which the rate is halved again and again, beside its cosine; 0: never.

    Raises:
        ConfigError: unknown targets.
    """

    options: ClassVar[Mapping[str, Option]] = {
        "targets": "document",
        "intensity": 1.0,
        "structure": 1.0,
        "edges": 0.0,
        "bscl": 1.0,
        "diversity": 1.0,
        "consensus": 1.0,
        "photographs": 0.0,
        "halve_every": 1000,
    }

    def __init__(self, settings: TrainSettings, network: SMCMambaNet) -> None:
        chosen = self.chosen_options(settings)
        if chosen["targets"] not in ("document", "task"):
            raise ConfigError(f"--set options.targets={chosen['targets']}: document or task")
        self.by_task = chosen["targets"] == "task"
        self.halve_every = int(chosen["halve_every"])
        self.factors = {name: float(value) for name, value in chosen.items() if isinstance(value, float)}
        networks = {NETWORK: network, HISTORY: GateHistory(len(network.level(0).experts))}
        super().__init__(settings, networks, [Phase("fuse", self._fuse, self._loss)], self._deviations(chosen))

    def _deviations(self, chosen: Mapping[str, Option]) -> str:
        changed = [
            f"{name} {value:g} (document: {self.options[name]})"
            for name, value in chosen.items()
            if not isinstance(value, str) and value != self.options[name]
        ]
        targets = ["targets by task"] if self.by_task else []
        return "Unofficial: no code is published. " + ("; ".join(targets + changed) + "." if targets or changed else "")

    def optimizer(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        return torch.optim.Adam(groups, lr=self.settings.peak_rate)

    def rate(self, network: str, moment: Moment) -> float:
        rate = super().rate(network, moment)
        if not self.halve_every:
            return rate
        return max(self.settings.final_rate, rate * 0.5 ** ((moment.step - 1) // self.halve_every))

    def vary(self, sources: Sources) -> Sources:
        if sources.task == IVIF and torch.rand(()) < self.factors["photographs"]:
            sources = two_photographs(sources.luma)
        if sources.task in SYMMETRIC and torch.rand(()) < 0.5:
            sources = sources._replace(ir=sources.luma, vi=sources.ir.expand_as(sources.vi), luma=sources.ir)
        return sources

    def _fuse(self, sources: Sources) -> Insight:
        network = self.networks[NETWORK]
        assert isinstance(network, SMCMambaNet)
        return network.look_inside(sources.ir, sources.luma)

    def _loss(self, sources: Sources, insight: Insight, done: float) -> Terms:
        first, second, fused = sources.ir, sources.luma, insight.image
        pairs = [
            (level.fused.movedim(-1, 1), maps.movedim(-1, 2))
            for level, maps in zip(insight.levels, insight.features, strict=True)
        ]
        features = torch.stack([losses.contrast(own, source) for own, both in pairs for source in both]).sum()
        pixels = losses.contrast(fused, first) + losses.contrast(fused, second)
        structure = self._structure(sources, fused)
        intensity = self._intensity(sources, fused)
        edges = self._edges(sources, fused)
        balanced, likeness, disagreement = self._agreement(insight)
        early = early_share(done)
        f = self.factors
        agreement = BALANCE * balanced + f["diversity"] * early * likeness + f["consensus"] * (1 - early) * disagreement
        image = f["structure"] * structure + f["intensity"] * intensity + f["edges"] * edges
        if self.by_task and sources.task == losses.MULTI_FOCUS:
            image = FOCUS * image
        return {
            "total": f["bscl"] * (FEATURES * features + PIXELS * pixels) + agreement + image,
            "features": features,
            "pixels": pixels,
            "balance": balanced,
            "likeness": likeness,
            "disagreement": disagreement,
            "structure": structure,
            "intensity": intensity,
            "edges": edges,
        }

    def _intensity(self, sources: Sources, fused: torch.Tensor) -> torch.Tensor:
        target = losses.target(sources.task, sources.ir, sources.luma)
        if self.by_task and sources.task == losses.MULTI_EXPOSURE:
            # Local means alone, so that contrast within them is free to be that of the better source.
            return losses.smooth(fused - losses.spread(target)).abs().mean()
        return (fused - target).abs().mean()

    def _structure(self, sources: Sources, fused: torch.Tensor) -> torch.Tensor:
        """1 - SSIM: of both sources; or of the sharper; or, of contrasts alone, of whichever has the stronger edges around."""
        first, second = sources.ir, sources.luma
        if self.by_task and sources.task == losses.MULTI_FOCUS:
            return 1 - ssim_map(fused, losses.sharper(first, second)).mean()
        if self.by_task:
            # How bright it is there is for L_int alone: else a livelier dark source leaves smudges on a bright one.
            first_is, second_is = losses.contrast_likeness(fused, first), losses.contrast_likeness(fused, second)
            return 1 - torch.where(losses.is_livelier(first, second), first_is, second_is).mean()
        return 1 - (ssim_map(fused, first).mean() + ssim_map(fused, second).mean()) / 2

    def _edges(self, sources: Sources, fused: torch.Tensor) -> torch.Tensor:
        first, second = sources.ir, sources.luma
        if sources.task == losses.MULTI_FOCUS:
            return slope_distance(fused, losses.sharper(first, second))
        return losses.edge_distance(fused, first, second, losses.is_livelier(first, second))

    def _agreement(self, insight: Insight) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """L_wb, L_div and L_cons, summed over the levels."""
        history = self.networks[HISTORY]
        assert isinstance(history, GateHistory)
        means = [level.gates.mean(0) for level in insight.levels]
        balanced = [losses.balance(history.with_gradient(i, mean)[None]) for i, mean in enumerate(means)]
        if insight.image.requires_grad:
            history.remember((means[0], means[1]))
        opinions = [level.opinions for level in insight.levels]
        return (
            torch.stack(balanced).sum(),
            torch.stack([losses.likeness(maps) for maps in opinions]).sum(),
            torch.stack([losses.disagreement(maps) for maps in opinions]).sum(),
        )


def early_share(done: float) -> float:
    """λ(t) = cos(πt/2T), 1 at the beginning and 0 at the end. done: t/T."""
    return math.cos(math.pi / 2 * min(1.0, max(0.0, done)))
