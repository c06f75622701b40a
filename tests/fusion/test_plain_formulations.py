"""What is computed in strips, bands and products of weights is what the papers write, to rounding errors."""

from __future__ import annotations

import pytest
import torch
from plain_formulations import METHODS, as_published

from fusion_det.fusion import FusionMethod, build_method, list_cards
from fusion_det.fusion.frame import padded_size

TOLERANCES = {"crossfuse": 1e-3}
"""It divides by sums of features that are nearly nothing at places."""


CONFIGS = {"fusionmamba": "tiny"}
"""Of a network that is too large to be copied here."""


@pytest.mark.parametrize("name", [card.name for card in list_cards() if card.name in METHODS])
@torch.no_grad()
def test_same_image(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    monkeypatch.setattr("fusion_det.fusion.strips.PIXELS", 600)
    monkeypatch.setattr("fusion_det.fusion.methods.mambadfuse.blocks.PIECE", 900)
    method = build_method(name, weights=None, config=CONFIGS.get(name))
    assert isinstance(method, FusionMethod)
    assert method.network is not None
    for parameter in method.network.parameters():
        if parameter.requires_grad:  # some start at zero or one, which would hide what they do
            parameter.add_(0.02 * torch.randn_like(parameter))
    height, width = (padded_size(size, method.card) for size in (150, 26))
    channels = 1 if method.card.fuses == "luma" else 3
    ir, vi = torch.rand(2, 1, height, width), torch.rand(2, channels, height, width)
    fused = method.fuse(ir, vi)
    method.network = as_published(method.network)
    # An untrained network may give any range.
    tolerance = TOLERANCES.get(name, 1e-5) * max(1.0, float(fused.abs().max()))
    torch.testing.assert_close(method.fuse(ir, vi), fused, atol=tolerance, rtol=0)
