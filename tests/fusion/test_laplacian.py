"""Laplacian pyramid against scipy and the identities of Burt and Adelson's paper."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.ndimage
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion_det.fusion.methods.laplacian.pyramid import (
    GENERATING_KERNEL,
    expand,
    fuse_pyramids,
    laplacian_pyramid,
    levels_for,
    reconstruct,
    reduce,
)

SIDES = st.integers(1, 70)


def blurred(image: np.ndarray, gain: float = 1.0) -> np.ndarray:
    """scipy's "mirror" is the border that does not repeat the outermost pixel."""
    kernel = gain * np.array(GENERATING_KERNEL)
    rows = scipy.ndimage.correlate1d(image, kernel, axis=0, mode="mirror")
    return scipy.ndimage.correlate1d(rows, kernel, axis=1, mode="mirror")


def test_kernel_is_normalised_symmetric_and_of_equal_contribution() -> None:
    e, d, c, d2, e2 = GENERATING_KERNEL
    assert (e, d) == (e2, d2)
    assert sum(GENERATING_KERNEL) == pytest.approx(1)
    assert c + 2 * e == pytest.approx(2 * d)


@pytest.mark.parametrize("size", [(3, 3), (8, 6), (17, 22), (31, 2)], ids=str)
def test_reduce_is_blur_and_subsample(size: tuple[int, int]) -> None:
    image = np.random.default_rng(0).random(size)
    ours = reduce(torch.from_numpy(image)[None, None])[0, 0].numpy()
    np.testing.assert_allclose(ours, blurred(image)[::2, ::2], atol=1e-12)


@pytest.mark.parametrize("size", [(2, 2), (3, 4), (8, 6), (17, 22), (31, 5)], ids=str)
def test_expand_is_zeros_between_and_blur(size: tuple[int, int]) -> None:
    small = np.random.default_rng(0).random((-(-size[0] // 2), -(-size[1] // 2)))
    spread = np.zeros(size)
    spread[::2, ::2] = small
    ours = expand(torch.from_numpy(small)[None, None], *size)[0, 0].numpy()
    np.testing.assert_allclose(ours, blurred(spread, gain=2.0), atol=1e-12)


@settings(max_examples=50, deadline=None)
@given(SIDES, SIDES, st.integers(0, 6))
def test_reconstruction_is_exact(height: int, width: int, levels: int) -> None:
    image = torch.rand(2, 1, height, width, dtype=torch.float64)
    pyramid = laplacian_pyramid(image, levels)
    assert len(pyramid) == levels + 1
    torch.testing.assert_close(reconstruct(pyramid), image, atol=1e-12, rtol=0)


@settings(max_examples=30, deadline=None)
@given(SIDES, SIDES, st.integers(0, 6), st.floats(0, 1))
def test_a_flat_image_has_no_detail(height: int, width: int, levels: int, value: float) -> None:
    *details, base = laplacian_pyramid(torch.full((1, 1, height, width), value, dtype=torch.float64), levels)
    assert all(detail.abs().max() < 1e-12 for detail in details)
    torch.testing.assert_close(base, torch.full_like(base, value), atol=1e-12, rtol=0)


def test_without_levels_fusing_is_averaging() -> None:
    a, b = torch.rand(1, 1, 9, 9), torch.rand(1, 1, 9, 9)
    torch.testing.assert_close(fuse_pyramids(a, b, 0), (a + b) / 2)


def test_one_level_keeps_the_stronger_detail() -> None:
    a, b = torch.rand(1, 1, 20, 20), torch.rand(1, 1, 20, 20)
    (da, ba), (db, bb) = laplacian_pyramid(a, 1), laplacian_pyramid(b, 1)
    stronger = torch.from_numpy(np.where(np.abs(da.numpy()) > np.abs(db.numpy()), da.numpy(), db.numpy()))
    expected = stronger + expand((ba + bb) / 2, 20, 20)
    torch.testing.assert_close(fuse_pyramids(a, b, 1), expected)


@pytest.mark.parametrize(
    ("size", "levels"), [((768, 1024), 5), ((480, 640), 4), ((31, 500), 1), ((30, 500), 0), ((1, 1), 0)], ids=str
)
def test_levels(size: tuple[int, int], levels: int) -> None:
    """768 → 384 → 192 → 96 → 48 → 24; 480 → … → 30; 31 → 16; 30 would go to 15."""
    assert levels_for(*size) == levels
