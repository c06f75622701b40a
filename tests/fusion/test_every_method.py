"""Every registered method, whatever it is: what tables, the runner and users rely on."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
import torch

from fusion_det.fusion import FusionMethod, MethodCard, build_method, list_cards
from fusion_det.fusion.frame import fuse_frames
from fusion_det.fusion.method import padded_size
from fusion_det.fusion.spec import is_safe_name

CARDS = list_cards()
IDENTITY_EXCEPTIONS = frozenset[str]()
"""Methods that may change an image even if both sources are equal (networks); none yet."""

every_method = pytest.mark.parametrize("card", CARDS, ids=lambda card: card.name)


@pytest.fixture(autouse=True)
def _two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def build(card: MethodCard) -> FusionMethod:
    """In its small variant if it has one: some published networks have hundreds of millions of parameters."""
    method = build_method(card.name, weights=None, config="tiny" if "tiny" in card.configs else None)
    assert isinstance(method, FusionMethod)
    return method


def smallest(card: MethodCard, height: int, width: int) -> tuple[int, int]:
    """The smallest size that the method itself takes."""
    return padded_size(height, card), padded_size(width, card)


def pair(card: MethodCard, batch: int, height: int, width: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    channels = 1 if card.fuses == "luma" else 3
    ir = torch.rand(batch, 1, height, width, generator=generator)
    return ir, torch.rand(batch, channels, height, width, generator=generator)


@every_method
def test_card_is_complete(card: MethodCard) -> None:
    assert is_safe_name(card.name)
    assert card.name == card.name.lower()
    assert card.label
    assert card.title
    assert card.family in {"control", "arithmetic", "multi-scale", "cnn", "transformer", "mamba", "diffusion"}
    assert card.fuses in ("luma", "rgb")
    assert card.size_multiple >= 1
    assert 0 <= card.size_remainder < card.size_multiple
    assert card.min_size >= 1
    assert len(set(card.configs)) == len(card.configs)
    if card.authors:
        assert card.venue
        assert card.year
    if card.table_vi is not None:
        assert 70 < card.table_vi < 90, "Table VI is in percent"
    if card.weights is not None:
        assert card.weights.origin
        assert card.weights.file
        assert card.weights.licence
        assert card.weights.git_blob is None or re.fullmatch("[0-9a-f]{40}", card.weights.git_blob)
        assert card.weights.sha256 is None or re.fullmatch("[0-9a-f]{64}", card.weights.sha256)


def test_names_abbreviations_and_places_are_unique() -> None:
    for field in ("name", "label", "abbreviation", "order"):
        values = [str(getattr(card, field)).lower() for card in CARDS]
        assert sorted(set(values)) == sorted(values), f"two methods share a {field}"


def test_table_vi_controls() -> None:
    assert {card.name: card.table_vi for card in CARDS if card.family == "control"} == {"ir": 73.8, "vi": 79.3}


@every_method
def test_method_carries_its_card(card: MethodCard) -> None:
    assert build(card).card == card


@every_method
@pytest.mark.parametrize("size", [(1, 1), (1, 7), (3, 5), (16, 16), (33, 47)], ids=str)
def test_shape_dtype_and_finiteness(card: MethodCard, size: tuple[int, int]) -> None:
    ir, vi = pair(card, 2, *smallest(card, *size))
    fused = build(card).fuse(ir, vi)
    assert fused.shape == vi.shape
    assert fused.dtype == torch.float32
    assert fused.device == vi.device
    assert torch.isfinite(fused).all()


@every_method
@pytest.mark.parametrize("size", [(1, 1), (2, 1), (3, 5), (31, 18)], ids=str)
@pytest.mark.parametrize("color", ["ycbcr", "gray"])
def test_runner_gives_any_size_exactly(card: MethodCard, size: tuple[int, int], color: str) -> None:
    method = build(card)
    ir, vi = torch.rand(2, 1, *size), torch.rand(2, 3, *size)
    with torch.no_grad():
        fused = fuse_frames(method, ir, vi, color)  # type: ignore[arg-type]
    assert fused.shape == ((2, *size, 3) if color == "ycbcr" else (2, *size))
    assert fused.dtype == torch.uint8


@every_method
def test_sources_are_left_as_they_are(card: MethodCard) -> None:
    ir, vi = pair(card, 1, *smallest(card, 20, 24))
    before = ir.clone(), vi.clone()
    build(card).fuse(ir, vi)
    assert torch.equal(ir, before[0])
    assert torch.equal(vi, before[1])


@every_method
def test_the_same_every_time(card: MethodCard) -> None:
    method = build(card)
    ir, vi = pair(card, 1, *smallest(card, 24, 40))
    assert torch.equal(method.fuse(ir, vi), method.fuse(ir, vi))


@every_method
def test_batch_equals_single(card: MethodCard) -> None:
    method = build(card)
    ir, vi = pair(card, 3, *smallest(card, 35, 50))
    together = method.fuse(ir, vi)
    alone = torch.cat([method.fuse(ir[i : i + 1], vi[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(together, alone, atol=1e-5 * max(1.0, float(alone.abs().max())), rtol=0)


@every_method
def test_non_contiguous_sources(card: MethodCard) -> None:
    method = build(card)
    ir, vi = pair(card, 1, *smallest(card, 24, 24))
    strided = method.fuse(ir.mT.contiguous().mT, vi.mT.contiguous().mT)
    torch.testing.assert_close(strided, method.fuse(ir, vi), atol=1e-5, rtol=0)


@every_method
@pytest.mark.parametrize("level", [0.0, 0.25, 1.0])
def test_equal_flat_sources(card: MethodCard, level: float) -> None:
    size = smallest(card, 40, 40)
    flat = torch.full((1, 1, *size), level)
    fused = build(card).fuse(flat, flat.expand(-1, 1 if card.fuses == "luma" else 3, -1, -1))
    assert torch.isfinite(fused).all()
    if card.name not in IDENTITY_EXCEPTIONS and card.weights is None:
        torch.testing.assert_close(fused, torch.full_like(fused, level), atol=1e-6, rtol=0)


@every_method
def test_identical_sources_give_that_image(card: MethodCard) -> None:
    if card.weights is not None:
        pytest.skip("a network need not return its input")
    image = pair(card, 2, *smallest(card, 45, 60))[0]
    vi = image.expand(-1, 1 if card.fuses == "luma" else 3, -1, -1)
    torch.testing.assert_close(build(card).fuse(image, vi), vi, atol=1e-6, rtol=0)


@every_method
@pytest.mark.parametrize("levels", [(0.0, 1.0), (1.0, 0.0), (0.0, 0.0), (1.0, 1.0)], ids=str)
def test_extreme_contrast_stays_finite(card: MethodCard, levels: tuple[float, float]) -> None:
    height, width = smallest(card, 40, 44)
    ir, vi = pair(card, 1, height, width)
    ir, vi = torch.full_like(ir, levels[0]), torch.full_like(vi, levels[1])
    checker = (torch.arange(height)[:, None] + torch.arange(width)) % 2
    ir[..., : width // 2] = checker[:, : width // 2].float()
    vi[..., width // 4 :] = checker[:, width // 4 :].float()
    fused = build(card).fuse(ir, vi)
    assert torch.isfinite(fused).all()
    if card.weights is None:  # an untrained network may have any range
        assert fused.min() > -2
        assert fused.max() < 3


@every_method
def test_gradient_flows_where_there_is_something_to_learn(card: MethodCard) -> None:
    method = build(card)
    if card.weights is None:
        assert method.network is None
        return
    assert method.network is not None
    assert not method.trained
    ir, vi = pair(card, 1, *smallest(card, 32, 32))
    method.network.train()
    method.fuse(ir, vi).mean().backward()
    gradients = [p.grad for p in method.network.parameters() if p.grad is not None]
    assert any(g.abs().sum() > 0 for g in gradients)


@pytest.mark.gpu
@every_method
def test_gpu_agrees_with_cpu(card: MethodCard) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    method = build(card)
    ir, vi = pair(card, 2, *smallest(card, 45, 60))
    on_cpu = method.fuse(ir, vi)
    method.to("cuda")
    torch.testing.assert_close(method.fuse(ir.cuda(), vi.cuda()).cpu(), on_cpu, atol=1e-4, rtol=0)
