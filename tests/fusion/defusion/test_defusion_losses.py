"""The loss against recorded values at every turn of its schedule."""

from __future__ import annotations

import pytest
import torch

from fusion_det.fusion.methods.defusion.losses import decomposition_loss, fusion_weight, outside_weight
from fusion_det.fusion.methods.defusion.network import Parts

Arrays = dict[str, torch.Tensor]


def test_recorded_losses(golden_loss: Arrays) -> None:
    parts = Parts(*(golden_loss[name] for name in ("common", "unique_1", "unique_2", "fused")))
    steps, recorded = golden_loss["step"].tolist(), golden_loss["total_common_unique1_unique2_fusion"]
    for step, expected in zip(steps, recorded, strict=True):
        found = decomposition_loss(parts, golden_loss["clean"], golden_loss["mask1"], golden_loss["mask2"], step)
        terms = (found.total, found.common, found.unique_1, found.unique_2, found.fusion)
        torch.testing.assert_close(torch.stack(terms), expected, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize(
    ("step", "outside", "fusion"),
    [
        (0, 0, 0),
        (2_999, 0, 0),
        (3_000, 0.15 * (3 / 7) ** 2, 0),
        (7_000, 0.15, 0),
        (16_999, 0.15, 0),
        (17_000, 0.15, 0.25),
        (24_000, 0.15, 1),
        (40_000, 0.15, 1),
        (40_001, 0.015, 1),
    ],
)
def test_schedule(step: int, outside: float, fusion: float) -> None:
    assert outside_weight(step) == pytest.approx(outside)
    assert fusion_weight(step) == pytest.approx(fusion)


def test_parts_in_their_places_cost_nothing() -> None:
    """Whatever else they show: at the beginning nothing is asked of it."""
    clean, mask_1 = torch.rand(2, 3, 8, 8), (torch.rand(2, 1, 8, 8) > 0.3).float()
    mask_2 = torch.maximum((torch.rand(2, 1, 8, 8) > 0.5).float(), 1 - mask_1)
    found = decomposition_loss(Parts(clean, clean, clean, clean), clean, mask_1, mask_2, 0)
    assert found.total == 0
    later = decomposition_loss(Parts(clean, clean, clean, clean), clean, mask_1, mask_2, 20_000)
    assert later.fusion == 0
    assert later.total > 0
