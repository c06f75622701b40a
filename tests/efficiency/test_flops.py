"""Operations against closed forms, torch's own counter, and the recurrence done with numbers that count."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from fusion_det.efficiency.flops import FlopCount, count_flops, scan_operations
from fusion_det.fusion.ssm import scan_2d, selective_scan

META = torch.device("meta")


def meta(*shape: int) -> torch.Tensor:
    return torch.empty(shape, device=META)


def counted(compute: Callable[[], object]) -> FlopCount:
    count = count_flops(compute)
    assert count.by_torch == count.layers, "the two counters disagree"
    return count


def test_convolutions() -> None:
    plain = nn.Conv2d(3, 8, 5, stride=2, padding=2, device=META)
    grouped = nn.Conv2d(8, 8, 3, groups=8, padding=1, device=META)
    up = nn.ConvTranspose2d(8, 4, 2, stride=2, device=META)
    count = counted(lambda: up(grouped(plain(meta(2, 3, 16, 20)))))
    positions = 2 * 8 * 10
    assert count.convolutions == positions * 2 * (8 * 3 * 25 + 8 * 9 + 8 * 4 * 4)
    assert count.products == count.attention == count.scans == 0


def test_convolutions_in_one_and_three_dimensions() -> None:
    line, room = nn.Conv1d(2, 5, 3, device=META), nn.Conv3d(1, 2, 3, padding=1, device=META)
    assert counted(lambda: line(meta(1, 2, 10))).total == 2 * 8 * 5 * 2 * 3
    assert counted(lambda: room(meta(1, 1, 4, 5, 6))).total == 2 * 120 * 2 * 27


@pytest.mark.parametrize(
    ("compute", "operations"),
    [
        (lambda: F.linear(meta(2, 7, 5), meta(11, 5), meta(11)), 2 * 14 * 5 * 11),
        (lambda: nn.Linear(5, 11, device=META)(meta(7, 5)), 2 * 7 * 5 * 11),
        (lambda: meta(3, 1, 7, 5) @ meta(4, 5, 6), 2 * 12 * 7 * 5 * 6),
        (lambda: meta(7, 5).mm(meta(5, 6)), 2 * 7 * 5 * 6),
        (lambda: torch.bmm(meta(3, 7, 5), mat2=meta(3, 5, 6)), 2 * 3 * 7 * 5 * 6),
        (lambda: torch.addmm(meta(6), meta(7, 5), meta(5, 6)), 2 * 7 * 5 * 6),
        (lambda: torch.baddbmm(meta(3, 7, 6), meta(3, 7, 5), meta(3, 5, 6)), 2 * 3 * 7 * 5 * 6),
        (lambda: torch.tensordot(meta(2, 3, 4), meta(3, 4, 5), dims=2), 2 * 2 * 12 * 5),
        (lambda: torch.einsum("bik, bkj -> bij", meta(3, 7, 5), meta(3, 5, 6)), 2 * 3 * 7 * 5 * 6),
        (lambda: torch.einsum("...k,kj", [meta(3, 7, 5), meta(5, 6)]), 2 * 21 * 5 * 6),
        (lambda: torch.einsum("bi,bi->bi", meta(3, 7), meta(3, 7)), 0),  # element-wise
        (lambda: torch.einsum("ba,bc->c", meta(3, 9), meta(3, 7)), 2 * 3 * 7),  # a is summed before
        (lambda: torch.einsum("ij->ji", meta(3, 7)), 0),
        (lambda: F.gelu(F.layer_norm(meta(3, 7), (7,)) + 1), 0),
    ],
)
def test_products(compute: Callable[[], object], operations: int) -> None:
    count = counted(compute)
    assert count.products == count.total == operations


def test_what_torchs_counter_does_not_know() -> None:
    count = count_flops(lambda: torch.matmul(meta(7, 5), meta(5)))
    assert (count.products, count.by_torch) == (2 * 7 * 5, 0)


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_einsum_of_two_factors_is_as_torch_counts_it(data: st.DataObject) -> None:
    size = {label: data.draw(st.integers(2, 4)) for label in "abcdef"}
    terms = ["".join(data.draw(st.permutations("abcdef"))[: data.draw(st.integers(1, 4))]) for _ in range(2)]
    present = sorted(set(terms[0] + terms[1]))
    result = "".join(label for label in present if data.draw(st.booleans()))
    factors = [meta(*(size[label] for label in term)) for term in terms]
    counted(lambda: torch.einsum(f"{terms[0]},{terms[1]}->{result}", *factors))


def test_attention() -> None:
    query, key, value = meta(2, 4, 10, 8), meta(2, 4, 13, 8), meta(2, 4, 13, 6)
    count = counted(lambda: F.scaled_dot_product_attention(query, key, value))
    assert count.attention == count.total == 2 * (2 * 4) * 10 * 13 * (8 + 6)


def test_attention_is_seen_where_the_cpu_fuses_it() -> None:
    query = torch.randn(1, 2, 10, 8)
    assert count_flops(lambda: F.scaled_dot_product_attention(query, query, query)).attention == 4 * 2 * 10 * 10 * 8


def test_multi_head_attention_and_its_fast_path() -> None:
    layer = nn.TransformerEncoderLayer(16, 4, dim_feedforward=32, batch_first=True, device=META).eval()
    count = counted(lambda: layer(meta(2, 5, 16)))
    assert count.attention == 2 * (4 * 2 * 5 * 16 * 16) + 4 * 2 * 5 * 5 * 16
    assert count.products == 2 * 2 * 5 * 16 * 32 * 2
    other = nn.MultiheadAttention(16, 4, kdim=6, vdim=7, device=META).eval()
    asked = counted(lambda: other(meta(5, 2, 16), meta(9, 2, 6), meta(9, 2, 7)))
    assert asked.total == 2 * 2 * 16 * (2 * 5 * 16 + 9 * 6 + 9 * 7) + 4 * 2 * 5 * 9 * 16


class Number:
    """A number that counts what is done with it."""

    done = 0

    def __init__(self, value: float = 1.0) -> None:
        self.value = value

    def _one(self, *_: object) -> Number:
        Number.done += 1
        return Number()

    __add__ = __mul__ = __truediv__ = exp = log = _one


@pytest.mark.parametrize("options", [(False,) * 4, (True,) * 4, (True, True, True, False)])
@pytest.mark.parametrize("states", [1, 5])
def test_operations_of_the_recurrence(options: tuple[bool, ...], states: int) -> None:
    """The recurrence written out for one channel, with numbers that count (from the second step, when a state is there)."""
    skip, bias, softplus, gate = options
    one, length = Number(), 3
    Number.done = 0
    for _ in range(length):
        u, delta, h = one, one, [one] * states
        if bias:
            delta = delta + one
        if softplus:
            delta = (delta.exp() + one).log()
        driven = delta * u
        for n in range(states):
            h[n] = (delta * one).exp() * h[n] + driven * one
        y = one * h[0]
        for n in range(1, states):
            y = y + one * h[n]
        if skip:
            y = y + one * u
        if gate:
            y = y * (one / (one.exp() + one))
    assert Number.done == scan_operations(length, 1, states, skip=skip, bias=bias, softplus=softplus, gate=gate)


@pytest.mark.parametrize("device", ["meta", "cpu"])
@pytest.mark.parametrize("backend", [None, "reference", "cpu"])
def test_a_scan_is_counted_on_every_backend(device: str, backend: str | None) -> None:
    batch, channels, groups, states, length = 2, 6, 3, 4, 11

    def given_tensor(*shape: int) -> torch.Tensor:
        return torch.zeros(shape, device=device)

    u, a = given_tensor(batch, channels, length), given_tensor(channels, states)
    b = given_tensor(batch, groups, states, length)

    def scan() -> None:
        y, last = selective_scan(u, u, a, b, b, a[:, 0], return_last_state=True, backend=backend)  # type: ignore[arg-type]
        assert y.shape == u.shape
        assert last.shape == (batch, channels, states)

    count = counted(scan)
    assert count.scans == count.total == 9 * batch * length * channels * states
    assert count.scans_exact == batch * length * channels * (7 * states - 1 + 1 + 2)


@pytest.mark.parametrize("modalities", [1, 2])
@pytest.mark.parametrize("device", ["meta", "cpu"])
def test_a_scan_of_maps(device: str, modalities: int) -> None:
    height, width, channels, rank, states = 3, 5, 6, 2, 4

    def given_tensor(*shape: int) -> torch.Tensor:
        return torch.zeros(shape, device=device)

    u = given_tensor(modalities, 1, height, width, channels)
    params = given_tensor(modalities, 1, height, width, 4, rank + 2 * states)
    weights = given_tensor(4, channels, rank), given_tensor(4, channels)
    rates = given_tensor(4, channels, states), given_tensor(4, channels)
    count = counted(lambda: scan_2d(u, params, *weights, *rates))
    steps = modalities * height * width * 4 * channels
    assert count.scans == 9 * steps * states
    assert count.scans_exact == steps * (7 * states - 1 + 1 + 2 + 1 + 3)
    assert count.products == 2 * steps * rank, "the projection to Δ"


def test_watching_changes_nothing() -> None:
    """Outside the counter a scan is a scan, and a mode that only looks gets the same numbers."""
    generator = torch.Generator().manual_seed(0)
    u, b = torch.randn(1, 2, 9, generator=generator), torch.randn(1, 1, 3, 9, generator=generator)
    a = -torch.rand(2, 3, generator=generator)
    expected = selective_scan(u, u, a, b, b, delta_softplus=True, backend="reference")
    seen: list[object] = []

    class Looking(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            seen.append(func)
            return func(*args, **(kwargs or {}))

    with Looking():
        watched = selective_scan(u, u, a, b, b, delta_softplus=True, backend="reference")
    assert seen.count(selective_scan) == 1
    assert isinstance(expected, torch.Tensor)
    assert isinstance(watched, torch.Tensor)
    torch.testing.assert_close(watched, expected, rtol=0, atol=0)
