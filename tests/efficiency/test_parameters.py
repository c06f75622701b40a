"""Which parameters count."""

from __future__ import annotations

import torch
from torch import nn

from fusion_det.efficiency.parameters import ParameterCount, count_parameters, random_pair
from fusion_det.fusion import FusionMethod, MethodCard, build_method

CARD = MethodCard(
    name="tiny",
    label="Tiny",
    abbreviation="TIN",
    title="",
    family="cnn",
    fuses="luma",
    size_multiple=8,
    size_remainder=1,
)


class Tiny(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 4, 3, padding=1)
        self.branch = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4))
        self.last = nn.Linear(4, 1, bias=False)
        self.tied = self.last
        self.scale = nn.Parameter(torch.zeros(1))
        self.forgotten = nn.Parameter(torch.ones(3))

    def forward(self, ir: torch.Tensor, vi: torch.Tensor) -> torch.Tensor:
        features = self.first(torch.cat((ir, vi), 1)) * self.scale
        self.branch(features)  # and nothing is done with it
        return self.last(features.movedim(1, -1)).movedim(-1, 1)


class TinyMethod(FusionMethod):
    card = CARD

    def __init__(self, network: nn.Module | None) -> None:
        self.network = network

    def fuse(self, ir: torch.Tensor, vi: torch.Tensor) -> torch.Tensor:
        return ir + vi if self.network is None else self.network(ir, vi)


def test_used_and_unused() -> None:
    """A factor of zero (as it begins) cuts no path; a tied layer counts once; running means are no parameters."""
    found = count_parameters(TinyMethod(Tiny().eval()))
    used = 4 * 2 * 9 + 4 + 4 + 1
    assert found == ParameterCount(used + 4 * 4 + 4 + 8 + 3, used, (("forgotten", 3), ("branch", 28)))


def test_frozen_parameters_are_used_all_the_same() -> None:
    network = Tiny().eval().requires_grad_(False)
    assert count_parameters(TinyMethod(network)).used == 81


def test_a_network_that_records_no_gradient() -> None:
    class Closed(Tiny):
        @torch.no_grad()
        def forward(self, ir: torch.Tensor, vi: torch.Tensor) -> torch.Tensor:
            return super().forward(ir, vi)

    assert count_parameters(TinyMethod(Closed().eval())) == ParameterCount(112, None)


def test_methods_without_a_network_have_none() -> None:
    method = build_method("gff")
    assert isinstance(method, FusionMethod)
    assert count_parameters(method) == ParameterCount(0, 0)


def test_pairs_are_as_the_method_takes_them() -> None:
    ir, vi = random_pair(TinyMethod(None), 20, 33, "cpu")
    assert ir.shape == vi.shape == (1, 1, 25, 33)
    assert 0 <= float(ir.min()) < float(ir.max()) <= 1
    assert not torch.equal(ir, vi)
