"""EMMA's published procedure: to its bytes, four windows included."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from fusion_det.errors import MethodError
from fusion_det.fusion.methods.emma import EMMA
from fusion_det.fusion.methods.emma.network import UFuser
from fusion_det.fusion.methods.emma.official import fuse_in_passes
from fusion_det.fusion.official import rounded_gray, saved_by_skimage, stretched

Arrays = dict[str, torch.Tensor]


def test_from_bytes_to_bytes(golden: Arrays, filled_method: EMMA) -> None:
    found = filled_method.fuse_officially(golden["odd_ir_u8"].numpy(), golden["odd_vi_rgb_u8"].numpy())
    final = golden["odd_final"].numpy().astype(np.float64)
    sure = np.abs(final % 1 - 0.5) > 0.01
    assert sure.mean() > 0.95
    np.testing.assert_array_equal(found[sure], np.rint(final)[sure])
    assert np.abs(found - final).max() < 0.52


def test_windows_are_stitched_as_recorded(golden: Arrays, filled_network: UFuser) -> None:
    pair = (
        torch.from_numpy(rounded_gray(golden[name].numpy()) / np.float32(255))[None, None]
        for name in ("odd_ir_u8", "odd_vi_rgb_u8")
    )
    found = fuse_in_passes(filled_network, *pair)[0, 0]
    torch.testing.assert_close(found, golden["odd_stitched"], atol=1e-4, rtol=0)
    final = torch.from_numpy(stretched(found.numpy(), "emma"))
    torch.testing.assert_close(final, golden["odd_final"], atol=0.01, rtol=0)


@pytest.mark.parametrize(("height", "width", "passes"), [(64, 96, 1), (64, 97, 2), (65, 96, 2), (95, 33, 4)])
def test_every_pixel_comes_from_one_window(
    height: int, width: int, passes: int, golden: Arrays, filled_network: UFuser
) -> None:
    """With a "network" that returns its infrared window and the number of its call."""
    calls = []

    class Copies(torch.nn.Module):
        def forward(self, ir: torch.Tensor, vi: torch.Tensor) -> torch.Tensor:
            calls.append(tuple(ir.shape[-2:]))
            return ir

    ir = torch.arange(float(height * width)).view(1, 1, height, width)
    network: Callable[..., torch.Tensor] = Copies()
    torch.testing.assert_close(fuse_in_passes(network, ir, ir), ir)  # type: ignore[arg-type]
    assert calls == [(height // 32 * 32, width // 32 * 32)] * passes


def test_small_pairs_are_refused(filled_method: EMMA) -> None:
    with pytest.raises(MethodError, match="32 × 32"):
        filled_method.fuse_officially(np.zeros((31, 64), np.uint8), np.zeros((31, 64), np.uint8))


def test_images_without_contrast_cannot_be_stretched() -> None:
    with pytest.raises(MethodError, match="contrast"):
        stretched(np.full((3, 4), 0.5, np.float32), "emma")


def test_rounding_is_half_down() -> None:
    assert saved_by_skimage(np.array([0.5, 1.4999, 1.5, 1.5001, 254.5, 255.0])).tolist() == [0, 1, 1, 2, 254, 255]


def test_grey_of_equal_channels_is_that_grey() -> None:
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    np.testing.assert_array_equal(rounded_gray(np.repeat(levels[..., None], 3, axis=2)), levels)
    np.testing.assert_array_equal(rounded_gray(levels), levels)


def test_grey_is_rounded_luma() -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (50, 60, 3), dtype=np.uint8)
    luma = rgb @ np.array([299, 587, 114]) / 1000
    found = rounded_gray(rgb)
    assert np.abs(found - luma).max() <= 0.5 + 1e-9
    assert found.dtype == np.float32
