"""The compiled scans: against recorded values, the reference in float64, and plain compositions."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable, Iterator, Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion_det.fusion.ssm import scan_2d, selective_scan
from fusion_det.fusion.ssm.cpu.autograd import selective_scan_cpu
from fusion_det.fusion.ssm.cpu.steps import CHUNK
from fusion_det.fusion.ssm.cpu.threads import run_tasks
from fusion_det.fusion.ssm.scan_2d import compose_scan_2d
from tests.fusion.ssm.scan_cases import NAMES, Case, errors, run

TOLERANCE = 3e-5
"""Relative to the largest value of a result: float32 sums over up to thousands of steps."""


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_recorded_scan_and_gradients(scan_golden: dict[str, torch.Tensor]) -> None:
    inputs = {name: scan_golden[name] for name in NAMES}
    found = run(selective_scan_cpu, inputs, scan_golden["grad_y"], True)
    for name in ("y", "last_state"):
        torch.testing.assert_close(found[name], scan_golden[name], atol=1e-5, rtol=0)
    for name in NAMES:
        torch.testing.assert_close(found["d" + name], scan_golden["grad_" + name], atol=1e-5, rtol=1e-5)


def test_recorded_scan_with_gate_and_without_extras(scan_golden: dict[str, torch.Tensor]) -> None:
    u, delta, A, B, C, D, bias = (scan_golden[name] for name in NAMES)
    gated = selective_scan(u, delta, A, B, C, D, bias, True, z=scan_golden["z"], backend="cpu")
    torch.testing.assert_close(gated, scan_golden["y_gated"], atol=1e-5, rtol=0)
    bare = selective_scan(u, delta.abs(), A, B, C, backend="cpu")
    torch.testing.assert_close(bare, scan_golden["y_no_softplus_no_D"], atol=1e-5, rtol=0)


CASES = {
    "one_step": Case(length=1),
    "one_channel_one_state": Case(channels=1, states=1, length=70),
    "exactly_a_chunk": Case(channels=16, states=4, length=CHUNK),
    "a_chunk_and_one": Case(channels=17, states=5, length=CHUNK + 1),
    "s4fusion": Case(channels=4 * 72, groups=4, states=18, length=331),
    "groups_of_odd_width": Case(batch=2, channels=33, groups=3, states=7, length=130),
    "a_group_for_each_channel": Case(channels=5, groups=5, states=2, length=90),
    "many_states": Case(batch=2, channels=20, states=64, length=150),
    "long": Case(channels=3, states=2, length=5000),
    "no_softplus": Case(batch=2, channels=18, states=3, length=100, softplus=False, skip=False, bias=False),
    "huge_steps": Case(channels=16, states=4, length=200, delta_scale=40.0),
    "fast_decay": Case(channels=16, states=4, length=200, rate_scale=1e4),
    "hardly_any_decay": Case(channels=16, states=4, length=2000, rate_scale=1e-4, delta_scale=0.1),
    "bfloat16": Case(channels=24, states=6, length=100, dtype=torch.bfloat16),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_agrees_with_the_reference_in_float64(case: Case) -> None:
    tolerance = TOLERANCE if case.dtype == torch.float32 else 1e-2
    found = errors(selective_scan_cpu, case)
    assert max(found.values()) < tolerance, found


@settings(max_examples=60, deadline=None)
@given(
    batch=st.integers(1, 3),
    groups=st.integers(1, 3),
    in_group=st.integers(1, 40),
    states=st.integers(1, 64),
    length=st.integers(1, 200),
    delta_scale=st.sampled_from([0.0, 0.1, 1.0, 30.0]),
    rate_scale=st.sampled_from([0.0, 1e-3, 1.0, 100.0]),
    softplus=st.booleans(),
    threads=st.integers(1, 5),
    seed=st.integers(0, 1000),
)
def test_any_shape(
    batch: int,
    groups: int,
    in_group: int,
    states: int,
    length: int,
    delta_scale: float,
    rate_scale: float,
    softplus: bool,
    threads: int,
    seed: int,
) -> None:
    torch.set_num_threads(threads)
    case = Case(
        batch, groups * in_group, groups, states, length, softplus, delta_scale=delta_scale, rate_scale=rate_scale
    )
    found = errors(selective_scan_cpu, case, seed=seed)
    # A bias gradient is a sum over everything, which may nearly vanish beside its terms.
    assert max(value for name, value in found.items() if name not in ("ddelta_bias", "dD")) < 1e-4, found
    assert max(found.values()) < 5e-3, found


@settings(max_examples=15, deadline=None)
@given(length=st.integers(1, 5000), states=st.integers(1, 20), channels=st.integers(1, 20), seed=st.integers(0, 99))
def test_any_length(length: int, states: int, channels: int, seed: int) -> None:
    found = errors(selective_scan_cpu, Case(1, channels, 1, states, length), seed=seed)
    assert max(value for name, value in found.items() if name not in ("ddelta_bias", "dD")) < 1e-4, found


@pytest.mark.parametrize("scale", [1e-30, 1e3, 1e30])
def test_no_nan_where_the_reference_has_none(scale: float) -> None:
    u, delta, A, B, C, D, bias = (Case(channels=16, length=100).inputs()[name].float() for name in NAMES)
    for inputs in ((u, delta * scale, A, B, C), (u, delta, A * scale, B, C), (u * min(scale, 1e20), delta, A, B, C)):
        expected = selective_scan(*inputs, D, bias, True, backend="reference")
        found = selective_scan(*inputs, D, bias, True, backend="cpu")
        assert torch.isfinite(expected).all()
        assert torch.isfinite(found).all()
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))


def test_nan_stays_visible() -> None:
    for name in ("u", "delta", "A", "B", "C"):
        inputs = {key: value.float() for key, value in Case(channels=16, length=20).inputs().items()}
        inputs[name].view(-1)[0] = torch.nan
        y = selective_scan(*(inputs[key] for key in NAMES), True, backend="cpu")
        assert y.isnan().any(), name


def test_strided_and_expanded_inputs() -> None:
    inputs = {key: value.float() for key, value in Case(2, 18, 2, 3, 90).inputs().items()}
    expected = selective_scan(*(inputs[key] for key in NAMES), True, backend="cpu")
    turned = {key: x.mT.contiguous().mT if x.dim() > 1 else x for key, x in inputs.items()}
    assert not turned["u"].is_contiguous()
    assert torch.equal(selective_scan(*(turned[key] for key in NAMES), True, backend="cpu"), expected)
    one = {**inputs, "B": inputs["B"][:1].expand(2, -1, -1, -1), "C": inputs["C"][:1].expand(2, -1, -1, -1)}
    whole = {**one, "B": one["B"].contiguous(), "C": one["C"].contiguous()}
    assert torch.equal(
        selective_scan(*(one[key] for key in NAMES), True, backend="cpu"),
        selective_scan(*(whole[key] for key in NAMES), True, backend="cpu"),
    )


def plane(
    modalities: int,
    batch: int,
    height: int,
    width: int,
    channels: int,
    states: int,
    rank: int,
    seed: int = 0,
    walks: int = 4,
) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    return [
        normal(modalities, batch, height, width, channels),
        normal(modalities, batch, height, width, walks, rank + 2 * states),
        normal(walks, channels, rank) * 0.3,
        normal(walks, channels) - 2,
        -normal(walks, channels, states).abs() * 2,
        normal(walks, channels),
    ]


def plane_errors(inputs: list[torch.Tensor], directions: Sequence[int] = (0, 1, 2, 3)) -> list[float]:
    """Of y and all gradients, against the composition in float64, over each result's largest value."""
    dy = torch.randn(inputs[0].shape, generator=torch.Generator().manual_seed(1))
    results = []
    for dtype, scan in ((torch.float32, scan_2d), (torch.float64, compose_scan_2d)):
        leaves = [x.to(dtype).clone().requires_grad_() for x in inputs]
        y = scan(*leaves, directions=directions, backend="cpu" if dtype == torch.float32 else "reference")
        y.backward(dy.to(dtype))
        results.append([y.detach(), *(leaf.grad for leaf in leaves)])
    return [float((a - b).abs().max() / b.abs().max().clamp_min(1e-30)) for a, b in zip(*results, strict=True)]


@pytest.mark.parametrize("modalities", [1, 2])
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1), (8, 8), (5, 13), (31, 7)], ids=str)
def test_maps_walked_by_index_equal_the_composition(modalities: int, size: tuple[int, int]) -> None:
    assert max(plane_errors(plane(modalities, 2, *size, 20, 3, 2))) < 1e-4


@settings(max_examples=25, deadline=None)
@given(
    modalities=st.integers(1, 2),
    batch=st.integers(1, 3),
    height=st.integers(1, 17),
    width=st.integers(1, 17),
    channels=st.integers(1, 40),
    states=st.integers(1, 19),
    rank=st.integers(1, 20),
    threads=st.integers(1, 6),
)
def test_maps_of_any_shape(
    modalities: int, batch: int, height: int, width: int, channels: int, states: int, rank: int, threads: int
) -> None:
    torch.set_num_threads(threads)
    assert max(plane_errors(plane(modalities, batch, height, width, channels, states, rank))) < 5e-4


@settings(max_examples=15, deadline=None)
@given(
    directions=st.lists(st.integers(0, 3), min_size=1, max_size=4),
    modalities=st.integers(1, 2),
    batch=st.integers(1, 2),
    height=st.integers(1, 9),
    width=st.integers(1, 90),
    threads=st.integers(1, 4),
)
def test_some_directions_of_maps(
    directions: list[int], modalities: int, batch: int, height: int, width: int, threads: int
) -> None:
    torch.set_num_threads(threads)
    inputs = plane(modalities, batch, height, width, 20, 3, 2, walks=len(directions))
    assert max(plane_errors(inputs, directions)) < 5e-4


def test_scans_of_maps_have_exact_derivatives() -> None:
    """Finite differences of the reference agree with the compiled gradients along random directions."""
    inputs = [x.double() for x in plane(2, 1, 4, 5, 6, 3, 2)]
    leaves = [x.float().requires_grad_() for x in inputs]
    scan_2d(*leaves, backend="cpu").sum().backward()
    for i, leaf in enumerate(leaves):
        direction = torch.randn(inputs[i].shape, generator=torch.Generator().manual_seed(i), dtype=torch.float64)
        step = 1e-6
        ends = []
        for sign in (1, -1):
            moved = [x + sign * step * direction if j == i else x for j, x in enumerate(inputs)]
            ends.append(scan_2d(*moved, backend="reference").sum())
        assert leaf.grad is not None
        slope = (leaf.grad.double() * direction).sum()
        torch.testing.assert_close(slope, (ends[0] - ends[1]) / (2 * step), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16], ids=str)
def test_default_dtype_has_no_say(dtype: torch.dtype) -> None:
    inputs = plane(2, 1, 9, 9, 20, 3, 2)
    torch.set_default_dtype(dtype)
    try:
        found = plane_errors(inputs)
    finally:
        torch.set_default_dtype(torch.float32)
    assert max(found) < 1e-4


def test_states_are_kept_only_for_a_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parameters ask for gradients inside ``no_grad`` too, where keeping states for them would be memory for nothing."""
    from fusion_det.fusion.ssm.cpu import autograd

    inputs = [torch.nn.Parameter(x) for x in plane(1, 1, 5, 5, 4, 3, 2)]
    keeps: list[bool] = []

    def seen(kernel: Callable[..., None], shared: tuple[object, ...], tasks: list[tuple[object, ...]]) -> None:
        keeps.extend(bool(task[2]) for task in tasks)
        run_tasks(kernel, shared, tasks)

    monkeypatch.setattr(autograd, "run_tasks", seen)
    for grad in (False, True):
        keeps.clear()
        with torch.set_grad_enabled(grad):
            scan_2d(*inputs, backend="cpu")
        assert set(keeps) == {grad}


def test_results_take_no_more_memory_than_they_show() -> None:
    """Partial results of threads are added up and let go."""
    torch.set_num_threads(4)
    leaves = [x.requires_grad_() for x in plane(1, 1, 6, 6, 64, 3, 2)]
    y = scan_2d(*leaves, backend="cpu")
    gradients = torch.autograd.grad(y.sum(), leaves)
    for tensor in (y, *gradients):
        assert tensor.untyped_storage().nbytes() == tensor.nbytes


def test_result_is_the_same_every_time_and_from_many_threads() -> None:
    """Several Python threads may scan at once, as a server does, each with torch's threads below it."""
    inputs = plane(2, 1, 20, 30, 40, 6, 3)
    expected = scan_2d(*inputs)
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        for y in pool.map(lambda _: scan_2d(*inputs), range(24)):
            assert torch.equal(y, expected)


def test_batch_equals_single() -> None:
    u, params, *weights = plane(2, 3, 9, 11, 24, 5, 2)
    together = scan_2d(u, params, *weights)
    for item in range(3):
        alone = scan_2d(u[:, item : item + 1], params[:, item : item + 1], *weights)
        torch.testing.assert_close(together[:, item : item + 1], alone, atol=1e-5, rtol=1e-5)
