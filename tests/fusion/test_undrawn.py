"""Networks that are built to be loaded."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from fusion_det.fusion import FusionMethod, MethodCard, build_method, list_cards
from fusion_det.fusion.checkpoint import save_checkpoint
from fusion_det.fusion.method import padded_size
from fusion_det.fusion.undrawn import NothingDrawn

TINY = [card for card in list_cards() if "tiny" in card.configs]


def test_no_random_number_is_drawn() -> None:
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    with NothingDrawn():
        layer = nn.Linear(30, 20)
        nn.init.trunc_normal_(layer.weight)
        nn.Conv2d(3, 4, 5)
        nn.init.ones_(layer.weight)
    assert torch.equal(torch.rand(1), expected)
    assert (layer.weight == 1).all()


@pytest.mark.parametrize("card", TINY, ids=lambda card: card.name)
def test_loaded_networks_are_the_saved_ones(card: MethodCard, tmp_path: Path) -> None:
    """Nothing of a network is left to chance once its weights are loaded."""
    name = card.name
    torch.manual_seed(0)
    saved = build_method(name, weights=None, config="tiny")
    assert isinstance(saved, FusionMethod)
    assert saved.network is not None
    file = tmp_path / "own.safetensors"
    save_checkpoint(file, saved.network.state_dict(), {"method": name, "config": "tiny"})
    loaded = build_method(name, weights=file, config="tiny")
    assert isinstance(loaded, FusionMethod)
    assert loaded.network is not None
    assert set(dict(saved.network.named_parameters())) <= set(saved.network.state_dict())
    buffers = zip(saved.network.named_buffers(), loaded.network.named_buffers(), strict=True)
    assert all(torch.equal(one[1], other[1]) for one, other in buffers)
    size = padded_size(16, saved.card)
    if size <= 64:
        ir, vi = torch.rand(1, 1, size, size), torch.rand(1, 1 if saved.card.fuses == "luma" else 3, size, size)
        with torch.no_grad():
            assert torch.equal(saved.fuse(ir, vi), loaded.fuse(ir, vi))
