"""How the learning rate goes, and what weight decay leaves alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from torch import nn


@dataclass(frozen=True)
class WarmupCosine:
    """The learning rate rises in a straight line, then falls along half a cosine (S4Fusion, Sec. IV-A).

    The rates are the paper's. How long the rise takes, and in which unit, is not published; here both are optimiser steps.

    warmup, total: steps of the rise, and of the whole training.
    """

    total: int
    warmup: int = 0
    start: float = 3e-4
    peak: float = 1.5e-3
    final: float = 6e-4

    def __call__(self, step: int) -> float:
        """The rate of the step of this number; the first is 1. After ``total`` it stays at ``final``."""
        if step < self.warmup:
            return self.start + step / max(1, self.warmup) * (self.peak - self.start)
        way = min(1.0, (step - self.warmup) / max(1, self.total - self.warmup))
        return max(self.final, self.final + (self.peak - self.final) * (1 + math.cos(math.pi * way)) / 2)


def ramp(done: float, start: float) -> float:
    """0 until ``done`` is ``start``, then straight up to 1 within another tenth; 1 for start 0."""
    return 1.0 if start == 0 else min(1.0, max(0.0, (done - start) / 0.1))


def parameter_groups(network: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Groups for an optimiser: parameters with a true attribute ``_no_weight_decay`` are not decayed, all others are."""
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    spared = [parameter for parameter in parameters if getattr(parameter, "_no_weight_decay", False)]
    decayed = [parameter for parameter in parameters if not getattr(parameter, "_no_weight_decay", False)]
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": spared, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]
