"""EMMA's losses and transformations against recorded values and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from fusion_det.fusion.methods.emma.losses import fusion_loss, image_distance
from fusion_det.fusion.methods.emma.network import UFuser
from fusion_det.fusion.methods.emma.sensing import SensingNet
from fusion_det.fusion.methods.emma.transforms import COPIES, draw_shifts, rotate, transform

Arrays = dict[str, torch.Tensor]


def recorded_shifts(golden: Arrays) -> list[tuple[int, int]]:
    return list(zip(golden["equiv_shift_rows"].tolist(), golden["equiv_shift_cols"].tolist(), strict=True))


def test_transformations_are_as_recorded(golden: Arrays) -> None:
    transformed = transform(golden["fused"], recorded_shifts(golden))
    assert transformed.shape == (COPIES, 1, 64, 96)
    torch.testing.assert_close(transformed[:, :, ::4, ::4], golden["equiv_Ft"], atol=1e-4, rtol=0)


def test_losses_are_as_recorded(golden: Arrays, filled_network: UFuser, filled_sensing: SensingNet) -> None:
    """One sensing network stands for both, as it did when the values were recorded."""
    ir, vi, fused = golden["ir"], golden["vi"], golden["fused"]
    transformed = transform(fused, recorded_shifts(golden))
    sensed = filled_sensing(transformed)
    sees = filled_sensing(fused)
    terms = fusion_loss(ir, vi, sees, sees, transformed, filled_network(sensed, sensed))
    for value, name in (
        (terms.infrared, "sense_ir"),
        (terms.visible, "sense_vi"),
        (terms.equivariance, "equiv"),
        (terms.total, "total"),
    ):
        torch.testing.assert_close(value[None], golden[f"loss_{name}"], atol=1e-5, rtol=0)


def test_copies_follow_one_another_and_stay_apart() -> None:
    x = torch.rand(2, 1, 12, 18)
    together = transform(x, [(1, -2), (3, 4), (-5, 6)])
    for index in range(2):
        alone = transform(x[index : index + 1], [(1, -2), (3, 4), (-5, 6)])
        torch.testing.assert_close(together[index::2], alone)
    torch.testing.assert_close(together[:2], x)
    torch.testing.assert_close(together[2:4], torch.from_numpy(np.roll(x.numpy(), (1, -2), (2, 3))))
    torch.testing.assert_close(together[-2:], x.flip((2, 3)))


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_quarter_turns(turns: int) -> None:
    x = torch.rand(2, 3, 9, 9)
    torch.testing.assert_close(rotate(x, 90.0 * turns), torch.rot90(x, turns, (2, 3)), atol=1e-5, rtol=0)


@pytest.mark.parametrize("degrees", [10.0, 130.0, 250.0])
def test_rotation_of_a_picture_is_scipys(degrees: float) -> None:
    smooth = ndimage.gaussian_filter(np.random.default_rng(0).random((32, 44)), 2)
    expected = ndimage.rotate(smooth, degrees, reshape=False, order=1)
    found = rotate(torch.from_numpy(smooth)[None, None], degrees)[0, 0].numpy()
    # What lies half outside of the picture is half of it to torch, and nothing to scipy.
    inside = ndimage.rotate(np.ones_like(smooth), degrees, reshape=False, order=1) == 1
    assert inside.sum() > 300
    np.testing.assert_allclose(found[inside], expected[inside], atol=1e-9)


def test_shifts_are_drawn_without_repetition() -> None:
    seen = set()
    for seed in range(60):
        shifts = draw_shifts(4, 9, torch.Generator().manual_seed(seed))
        rows, columns = zip(*shifts, strict=True)
        assert len(set(rows)) == len(set(columns)) == 3
        assert all(0 < abs(row) < 4 for row in rows)
        assert all(0 < abs(column) < 9 for column in columns)
        seen.update(rows)
        assert shifts == draw_shifts(4, 9, torch.Generator().manual_seed(seed))
    assert seen == {-3, -2, -1, 1, 2, 3}


def test_images_too_small_to_shift() -> None:
    with pytest.raises(ValueError, match="2×50"):
        draw_shifts(2, 50)


def test_distance_of_images() -> None:
    x = torch.rand(2, 1, 10, 11)
    assert float(image_distance(x, x)) == 0
    assert float(image_distance(x, x + 0.25)) == pytest.approx(0.25, abs=1e-6)
