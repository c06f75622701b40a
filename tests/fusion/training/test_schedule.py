"""The schedule at the points where its value is known, and which parameters are decayed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from fusion_det.errors import ConfigError
from fusion_det.fusion.methods.s4fusion.network import S4FusionNet
from fusion_det.fusion.training.recipe import Phase, Recipe, halving
from fusion_det.fusion.training.schedule import WarmupCosine, parameter_groups, ramp
from fusion_det.fusion.training.settings import Option, TrainSettings


@pytest.mark.parametrize(
    ("step", "rate"),
    [
        (1, 3e-4 + 0.1 * 1.2e-3),
        (5, 9e-4),
        (10, 1.5e-3),
        (35, 1.05e-3 + 4.5e-4 * 2**-0.5),  # cos(π/4)
        (60, 1.05e-3),
        (110, 6e-4),
        (500, 6e-4),
    ],
)
def test_closed_values(step: int, rate: float) -> None:
    assert WarmupCosine(total=110, warmup=10)(step) == pytest.approx(rate, rel=1e-12)


def test_without_warmup_it_begins_at_the_peak() -> None:
    assert WarmupCosine(total=100)(0) == pytest.approx(1.5e-3)


@given(st.integers(1, 500), st.floats(0, 1))
def test_it_rises_then_falls(total: int, share: float) -> None:
    schedule = WarmupCosine(total, warmup=int(share * total))
    rates = [schedule(step) for step in range(1, total + 1)]
    assert all(3e-4 <= rate <= 1.5e-3 + 1e-12 for rate in rates)
    top = rates.index(max(rates))
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)


@pytest.mark.parametrize(
    ("done", "start", "factor"),
    [(0, 0, 1), (0.5, 0, 1), (0.59, 0.6, 0), (0.65, 0.6, 0.5), (0.7, 0.6, 1), (1, 0.6, 1), (1, 0.95, 0.5)],
)
def test_what_comes_in_late(done: float, start: float, factor: float) -> None:
    assert ramp(done, start) == pytest.approx(factor)


@pytest.mark.parametrize(("done", "rate"), [(0, 8), (0.24, 8), (0.25, 4), (0.5, 2), (0.75, 1.5), (1, 1.5)])
def test_halving(done: float, rate: float) -> None:
    assert halving(8, done, every=0.25, floor=1.5) == rate


def test_options_of_a_recipe() -> None:
    class Wide(Recipe):
        options: ClassVar[Mapping[str, Option]] = {"width": 8, "deep": False, "slope": 0.2}

    def wide(**options: object) -> dict[str, object]:
        return Wide.chosen_options(TrainSettings(options=options))  # type: ignore[arg-type]

    assert wide(width=4) == {"width": 4, "deep": False, "slope": 0.2}
    assert isinstance(wide(slope=1)["slope"], float)
    for wrong, message in (
        ({"depth": 4}, "it has width, deep"),
        ({"width": True}, "options.width=True"),
        ({"width": 4.0}, "options.width=4.0"),
        ({"slope": True}, "options.slope=True"),
    ):
        with pytest.raises(ConfigError, match=message):
            wide(**wrong)
    phase = Phase("none", lambda sources: None, lambda sources, output, done: {})
    with pytest.raises(ConfigError, match=r"options\.width: no option of this method's training; it has none"):
        Recipe(TrainSettings(options={"width": 4}), {}, [phase])


def test_marked_parameters_are_not_decayed() -> None:
    network = S4FusionNet()
    decayed, spared = parameter_groups(network, 0.01)
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    assert {names[id(parameter)].rpartition(".")[2] for parameter in spared["params"]} == {"A_logs", "Ds"}
    assert not {"A_logs", "Ds"} & {names[id(parameter)].rpartition(".")[2] for parameter in decayed["params"]}
    assert len(decayed["params"]) + len(spared["params"]) == len(names)
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.01, 0.0)


def test_frozen_parameters_are_left_out_and_empty_groups_too() -> None:
    network = nn.Linear(2, 2)
    network.bias.requires_grad_(False)
    (group,) = parameter_groups(network, 0.1)
    assert group["params"] == [network.weight]
    torch.optim.AdamW([group])
