"""Inputs for selective scans, and the comparison of a backend with the reference in float64."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from fusion_det.fusion.ssm.reference import selective_scan_reference

NAMES = ("u", "delta", "A", "B", "C", "D", "delta_bias")
Scan = Callable[..., tuple[torch.Tensor, torch.Tensor]]
Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Case:
    """One scan's sizes and options; ``dtype`` is that of the sequences."""

    batch: int = 1
    channels: int = 4
    groups: int = 1
    states: int = 3
    length: int = 10
    softplus: bool = True
    skip: bool = True
    bias: bool = True
    dtype: torch.dtype = torch.float32
    delta_scale: float = 1.0
    rate_scale: float = 3.0

    def inputs(self, seed: int = 0) -> Tensors:
        """Float64 tensors whose values the dtypes of a fast backend can hold; D and delta_bias only if the case has them."""
        generator = torch.Generator().manual_seed(seed)

        def normal(*shape: int) -> torch.Tensor:
            return torch.randn(*shape, generator=generator, dtype=torch.float64)

        made = {
            "u": normal(self.batch, self.channels, self.length),
            "delta": normal(self.batch, self.channels, self.length) * self.delta_scale,
            "A": -normal(self.channels, self.states).abs() * self.rate_scale,
            "B": normal(self.batch, self.groups, self.states, self.length),
            "C": normal(self.batch, self.groups, self.states, self.length),
            "D": normal(self.channels),
            "delta_bias": normal(self.channels),
        }
        if not self.softplus:  # steps are positive
            made["delta"], made["delta_bias"] = made["delta"].abs(), made["delta_bias"].abs()
        if not self.skip:
            del made["D"]
        if not self.bias:
            del made["delta_bias"]
        return {name: tensor.to(self.low(name)).double() for name, tensor in made.items()}

    def low(self, name: str) -> torch.dtype:
        """The dtype in which a fast backend gets this tensor."""
        return self.dtype if name in ("u", "delta", "B", "C") else torch.float32


def run(scan: Scan, inputs: Tensors, dy: torch.Tensor, softplus: bool) -> Tensors:
    """y, the last state, and the gradients of Σ y·dy, named d + the input's name."""
    leaves = {name: tensor.detach().clone().requires_grad_() for name, tensor in inputs.items()}
    y, last_state = scan(*(leaves.get(name) for name in NAMES), softplus)
    y.backward(dy.to(y))
    gradients = {"d" + name: leaf.grad for name, leaf in leaves.items() if leaf.grad is not None}
    assert len(gradients) == len(inputs)
    return {"y": y.detach(), "last_state": last_state.detach(), **gradients}


def errors(scan: Scan, case: Case, device: str = "cpu", seed: int = 0) -> dict[str, float]:
    """Largest error of each result against the reference in float64, over the largest value of that result."""
    inputs = case.inputs(seed)
    generator = torch.Generator().manual_seed(seed + 1)
    dy = torch.randn(inputs["u"].shape, generator=generator, dtype=torch.float64).to(case.dtype).double()
    expected = run(selective_scan_reference, inputs, dy, case.softplus)
    given = {name: tensor.to(device, case.low(name)) for name, tensor in inputs.items()}
    found = run(scan, given, dy.to(device), case.softplus)
    assert all(found[name].shape == expected[name].shape for name in expected)
    assert all(found["d" + name].dtype == given[name].dtype for name in given)
    assert found["y"].dtype == case.dtype
    return {
        name: ((found[name].cpu().double() - value).abs().max() / value.abs().max().clamp_min(1e-30)).item()
        for name, value in expected.items()
    }
