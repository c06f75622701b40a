"""The four orders of a map against index arithmetic; scans of maps against walking from position to position."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion_det.fusion.ssm import scan_2d
from fusion_det.fusion.ssm.directions import (
    fold_directions,
    interleave,
    separate,
    turn_to_directions,
    unfold_directions,
)

SIDE = st.integers(1, 6)


def order(direction: int, height: int, width: int) -> list[tuple[int, int]]:
    """(row, column) of each step."""
    rows = [(i, j) for i in range(height) for j in range(width)]
    columns = [(i, j) for j in range(width) for i in range(height)]
    return [rows, columns, rows[::-1], columns[::-1]][direction]


@settings(max_examples=30, deadline=None)
@given(SIDE, SIDE, st.lists(st.integers(1, 3), max_size=2))
def test_unfold_reads_in_the_four_orders(height: int, width: int, leading: list[int]) -> None:
    maps = torch.randn(*leading, height, width)
    sequences = unfold_directions(maps)
    assert sequences.shape == (4, *leading, height * width)
    for k in range(4):
        expected = torch.stack([maps[..., i, j] for i, j in order(k, height, width)], -1)
        assert torch.equal(sequences[k], expected)


@settings(max_examples=30, deadline=None)
@given(SIDE, SIDE)
def test_fold_puts_every_step_back_and_adds(height: int, width: int) -> None:
    sequences = torch.randn(4, 2, height * width)
    expected = torch.zeros(2, height, width)
    for k in range(4):
        for step, (i, j) in enumerate(order(k, height, width)):
            expected[:, i, j] += sequences[k, :, step]
    torch.testing.assert_close(fold_directions(sequences, height, width), expected)


@settings(max_examples=30, deadline=None)
@given(SIDE, SIDE)
def test_turning_is_unfolding_what_is_the_same_for_all_directions(height: int, width: int) -> None:
    maps = torch.randn(2, height, width)
    row_major = maps.flatten(-2).expand(4, 2, -1)
    assert torch.equal(turn_to_directions(row_major, height, width), unfold_directions(maps))


def test_modalities_take_turns() -> None:
    infrared, visible = torch.arange(6.0).view(2, 3), 10 + torch.arange(6.0).view(2, 3)
    alternating = interleave(torch.stack((infrared, visible)))
    assert alternating[0].tolist() == [0, 10, 1, 11, 2, 12]
    assert torch.equal(separate(alternating, 2), torch.stack((infrared, visible)))


# Scans of maps


def map_inputs(modalities: int, height: int, width: int, walks: int = 4) -> dict[str, torch.Tensor]:
    """b=2, d=3, r=2, N=2; float64."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    return {
        "u": normal(modalities, 2, height, width, 3),
        "params": normal(modalities, 2, height, width, walks, 6),
        "dt_weight": normal(walks, 3, 2),
        "dt_bias": normal(walks, 3),
        "A": -normal(walks, 3, 2).abs(),
        "D": normal(walks, 3),
    }


def walk(
    u: torch.Tensor,
    params: torch.Tensor,
    dt_weight: torch.Tensor,
    dt_bias: torch.Tensor,
    A: torch.Tensor,
    D: torch.Tensor,
    directions: Sequence[int] = (0, 1, 2, 3),
) -> torch.Tensor:
    """Go from position to position; the modalities' tokens of a position follow each other (spec.md, sections 2 and 4)."""
    y = torch.zeros_like(u)
    for k, direction in enumerate(directions):
        state = torch.zeros(*u.shape[1:2], *A.shape[1:], dtype=u.dtype)  # (b,d,N)
        for i, j in order(direction, *u.shape[2:4]):
            for m in range(u.shape[0]):
                t, B, C = params[m, :, i, j, k].split((dt_weight.shape[2], A.shape[2], A.shape[2]), dim=-1)
                step = F.softplus(t @ dt_weight[k].T + dt_bias[k])  # (b,d)
                token = u[m, :, i, j]
                state = (step[..., None] * A[k]).exp() * state + (step * token)[..., None] * B[:, None]
                y[m, :, i, j] += (state * C[:, None]).sum(-1) + D[k] * token
    return y


@pytest.mark.parametrize("modalities", [1, 2])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 4), (5, 2)])
def test_composed_scan_is_a_walk_over_the_map(modalities: int, height: int, width: int) -> None:
    inputs = map_inputs(modalities, height, width)
    torch.testing.assert_close(scan_2d(**inputs, backend="reference"), walk(**inputs))


@pytest.mark.parametrize("directions", [(0,), (3,), (0, 2), (3, 1), (2, 0, 1), (1, 1)], ids=str)
@pytest.mark.parametrize("modalities", [1, 2])
def test_some_directions_alone(modalities: int, directions: tuple[int, ...]) -> None:
    inputs = map_inputs(modalities, 3, 4, len(directions))
    composed = scan_2d(**inputs, directions=directions, backend="reference")
    torch.testing.assert_close(composed, walk(**inputs, directions=directions))


@pytest.mark.parametrize("directions", [(), (4,), (0, -1)], ids=str)
def test_unknown_directions(directions: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="directions are some of"):
        scan_2d(**map_inputs(1, 2, 2, len(directions)), directions=directions)


def test_composed_scan_on_meta_has_the_shape_of_u() -> None:
    inputs = {name: tensor.to("meta") for name, tensor in map_inputs(2, 40, 30).items()}
    assert scan_2d(**inputs).shape == inputs["u"].shape


def test_autocast_changes_nothing() -> None:
    inputs = {name: tensor.float() for name, tensor in map_inputs(2, 4, 5).items()}
    expected = scan_2d(**inputs, backend="reference")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(scan_2d(**inputs, backend="reference"), expected)


def test_gradients_of_the_composition() -> None:
    inputs = {name: tensor.requires_grad_() for name, tensor in map_inputs(2, 2, 2).items()}

    def y(*tensors: torch.Tensor) -> torch.Tensor:
        return scan_2d(*tensors, backend="reference")

    assert torch.autograd.gradcheck(y, tuple(inputs.values()))


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("u", (3, 2, 4, 5, 3), "M = 1 or 2 modalities"),
        ("u", (2, 4, 5, 3), "M = 1 or 2 modalities"),
        ("params", (2, 2, 4, 5, 4, 7), "params is"),
        ("dt_weight", (4, 3), "dt_weight is"),
        ("dt_bias", (12,), "dt_bias is"),
        ("A", (12, 2), "A \\(K,d,N\\)"),
        ("D", (4, 2), "D is"),
    ],
)
def test_maps_that_do_not_fit(name: str, shape: tuple[int, ...], message: str) -> None:
    inputs = map_inputs(2, 4, 5)
    inputs[name] = torch.zeros(math.prod(shape)).view(shape)
    with pytest.raises(ValueError, match=message):
        scan_2d(**inputs)
