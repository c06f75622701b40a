"""RMSProp as TensorFlow 1 has it, which the published training uses: torch's begins and divides otherwise."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch


class RMSProp(torch.optim.Optimizer):
    """With mean squares m, which begin at 1, velocities v, and all operations for each value by itself:

        m ← decay · m + (1 - decay) · g²,   v ← momentum · v + rate · g / √(m + ε),   θ ← θ - v

    A group's ``weight_decay`` times its parameters is added to their gradients, as in torch's own.
    """

    def __init__(
        self,
        groups: Iterable[dict[str, Any]],
        lr: float,
        *,
        decay: float = 0.6,
        momentum: float = 0.15,
        epsilon: float = 1e-10,
    ) -> None:
        defaults = {"lr": lr, "decay": decay, "momentum": momentum, "epsilon": epsilon, "weight_decay": 0.0}
        super().__init__(groups, defaults)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Take a step. There is no closure that would evaluate the loss again."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, parameter.grad.add(parameter, alpha=group["weight_decay"]), group)

    def _update(self, parameter: torch.Tensor, gradient: torch.Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            state["mean_square"] = torch.ones_like(parameter)
            state["velocity"] = torch.zeros_like(parameter)
        mean_square, velocity = state["mean_square"], state["velocity"]
        mean_square.lerp_(gradient.square(), 1 - group["decay"])
        velocity.mul_(group["momentum"]).addcdiv_(gradient, (mean_square + group["epsilon"]).sqrt(), value=group["lr"])
        parameter.sub_(velocity)
