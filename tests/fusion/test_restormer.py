"""Restormer's blocks against their plain formulation, and maps in strips."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from fusion_det.fusion import strips
from fusion_det.fusion.restormer import ChannelNorm, DepthwiseAttention, FullAttention, GatedMlp, conv
from fusion_det.fusion.strips import by_strips, strips_of


def plain_attention(qkv: torch.Tensor, scale: torch.Tensor, projection: nn.Conv2d) -> torch.Tensor:
    """As it was published: normalise, compare, weigh, put together, project."""
    batch, _, height, width = qkv.shape
    q, k, v = (part.reshape(batch, len(scale), -1, height * width) for part in qkv.chunk(3, dim=1))
    weights = (F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).mT * scale).softmax(-1)
    mixed = (weights @ v).reshape(batch, -1, height, width)
    result: torch.Tensor = projection(mixed)
    return result


def plain_depthwise(attention: DepthwiseAttention, x: torch.Tensor) -> torch.Tensor:
    return plain_attention(attention.qkv_dwconv(attention.qkv(x)), attention.temperature, attention.project_out)


def plain_full(attention: FullAttention, x: torch.Tensor) -> torch.Tensor:
    return plain_attention(attention.qkv2(attention.qkv1(x)), attention.scale, attention.proj)


@pytest.mark.parametrize(
    ("made", "plain"), [(DepthwiseAttention, plain_depthwise), (FullAttention, plain_full)], ids=["depthwise", "full"]
)
@pytest.mark.parametrize(("channels", "heads"), [(8, 2), (6, 1), (4, 4)])
def test_attention_and_its_gradients(
    made: Callable[..., nn.Module], plain: Callable[..., torch.Tensor], channels: int, heads: int
) -> None:
    torch.manual_seed(0)
    attention, norm = made(channels, heads).double(), ChannelNorm(channels).double()
    with torch.no_grad():
        for parameter in (*attention.parameters(), *norm.parameters()):
            parameter.add_(torch.randn_like(parameter))
    x = torch.randn(2, channels, 9, 7, dtype=torch.double, requires_grad=True)
    found, expected = attention(x, norm), x + plain(attention, norm(x))
    torch.testing.assert_close(found, expected)
    weight = torch.randn_like(x)
    inputs = [x, *norm.parameters(), *attention.parameters()]
    gradients, wanted = (
        torch.autograd.grad((y * weight).sum(), inputs, allow_unused=True, materialize_grads=True)
        for y in (found, expected)
    )
    torch.testing.assert_close(gradients, wanted)


def test_attention_of_flat_maps_has_gradients() -> None:
    """Channels of length zero are divided by something else."""
    attention, norm = FullAttention(4, 2), ChannelNorm(4)
    attention(torch.zeros(1, 4, 8, 8), norm).sum().backward()
    assert all(p.grad.isfinite().all() for p in attention.parameters() if p.grad is not None)


def test_gated_mlp() -> None:
    mlp = GatedMlp(4, 6, groups=6, padding_mode="reflect").double()
    x = torch.randn(2, 4, 6, 5, dtype=torch.double)
    inner = F.conv2d(x, mlp.project_in.weight)
    inner = F.conv2d(F.pad(inner, (1, 1, 1, 1), mode="reflect"), mlp.dwconv.weight, groups=6)
    expected = F.conv2d(F.gelu(inner[:, :6]) * inner[:, 6:], mlp.project_out.weight)
    torch.testing.assert_close(mlp(x), expected)
    with torch.no_grad():
        torch.testing.assert_close(mlp(x), expected)


@given(height=st.integers(1, 40), width=st.integers(1, 9), batch=st.integers(1, 3), halo=st.integers(0, 3))
def test_strips_cover_a_map_once(height: int, width: int, batch: int, halo: int) -> None:
    x = torch.arange(float(batch * height * width)).view(batch, 1, height, width)
    with torch.no_grad(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(strips, "PIXELS", 30)
        parts = strips_of(x, halo)
    assert torch.equal(torch.cat([part.of(x) for part in parts], dim=2), x)
    for part in parts:
        assert torch.equal(part.inside(part.cut(x)), part.of(x))
        assert part.above == min(halo, part.first)
        assert part.below == min(halo, height - part.end)


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("padding_mode", ["zeros", "reflect"])
def test_convolution_by_strips(residual: bool, padding_mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strips, "PIXELS", 40)
    layer = conv(3, 3, 3, padding_mode=padding_mode)  # type: ignore[arg-type]
    x = torch.rand(2, 3, 17, 6)
    expected = x + layer(x) if residual else layer(x)
    with torch.no_grad():
        assert len(strips_of(x)) > 3
        torch.testing.assert_close(by_strips(layer, x, residual=residual), expected)
    recorded = by_strips(layer, x, residual=residual)
    assert recorded.requires_grad
    torch.testing.assert_close(recorded, expected)
