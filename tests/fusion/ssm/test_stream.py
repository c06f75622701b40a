"""Layers of sequences in pieces: the same as of the whole sequences, wherever they are cut."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion_det.fusion.ssm import ConvolutionStream, ScanStream, can_stream, scan_2d


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


sizes = {
    "batch": st.integers(1, 3),
    "channels": st.integers(1, 40),
    "lengths": st.lists(st.integers(1, 90), min_size=1, max_size=4),
    "threads": st.integers(1, 3),
    "seed": st.integers(0, 1000),
}


def in_pieces(lengths: list[int], *sequences: torch.Tensor) -> list[tuple[torch.Tensor, ...]]:
    return list(zip(*(x.split(lengths, dim=1) for x in sequences), strict=True))


@settings(max_examples=25, deadline=None)
@given(**sizes)
@torch.no_grad()
def test_convolution(batch: int, channels: int, lengths: list[int], threads: int, seed: int) -> None:
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    x, weight, bias = torch.randn(batch, sum(lengths), channels), torch.randn(channels, 1, 4), torch.randn(channels)
    stream = ConvolutionStream(weight, bias)
    found = torch.cat([stream(piece) for (piece,) in in_pieces(lengths, x)], dim=1)
    before = F.pad(x.double().mT, (3, 0))
    expected = F.silu(F.conv1d(before, weight.double(), bias.double(), groups=channels)).mT
    torch.testing.assert_close(found, expected.float(), atol=2e-6, rtol=2e-6)


@settings(max_examples=25, deadline=None)
@given(**sizes, states=st.integers(1, 18), rank=st.integers(1, 7))
@torch.no_grad()
def test_scan(batch: int, channels: int, lengths: list[int], states: int, rank: int, threads: int, seed: int) -> None:
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    u, gate = torch.randn(2, batch, sum(lengths), channels)
    params = torch.randn(batch, sum(lengths), rank + 2 * states)
    weights = torch.randn(channels, rank), torch.randn(channels), -torch.rand(channels, states), torch.randn(channels)
    stream = ScanStream(*weights)
    found = torch.cat([stream(*piece) for piece in in_pieces(lengths, u, params, gate.clone())], dim=1)
    maps = (u[None, :, None].double(), params[None, :, None, :, None].double())
    scanned = scan_2d(*maps, *(x[None].double() for x in weights), directions=(0,), backend="reference")
    expected = scanned[0, :, 0] * F.silu(gate.double())
    torch.testing.assert_close(found, expected.float(), atol=3e-5 * float(expected.abs().max()), rtol=0)


@torch.no_grad()
def test_extreme_gates() -> None:
    """As torch's SiLU: no NaN from the exponential, and NaN stays NaN."""
    values = torch.tensor([-200.0, -88.0, -20.0, 0.0, 20.0, 200.0, 3e38, float("nan")])
    ones = torch.ones(1, 8, 1)
    scan = ScanStream(torch.zeros(1, 1), torch.zeros(1), -torch.ones(1, 1), torch.ones(1))
    gated = scan(ones, torch.zeros(1, 8, 3), values[None, :, None].clone())
    convolved = ConvolutionStream(torch.tensor([[[0.0, 0.0, 0.0, 1.0]]]), torch.zeros(1))(values[None, :, None])
    for found in (gated, convolved):
        torch.testing.assert_close(found.flatten(), F.silu(values), equal_nan=True)


def test_other_numbers_of_taps() -> None:
    with pytest.raises(ValueError, match="4 taps"):
        ConvolutionStream(torch.zeros(5, 1, 3), torch.zeros(5))


def test_not_where_gradients_are_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.zeros(1)
    assert not can_stream(x)
    with torch.no_grad():
        assert can_stream(x)
        assert not can_stream(x.double())
        assert not can_stream(x.to("meta"))
        monkeypatch.setenv("FUSION_DET_SCAN", "reference")
        assert not can_stream(x)
