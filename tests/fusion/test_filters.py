"""Borders against numpy's padding, convolution against scipy's."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.ndimage
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion_det.fusion.filters import Border, convolve, extend

MARGIN = st.integers(0, 20)
NUMPY_MODE = {"reflect": "reflect", "replicate": "edge", "zero": "constant"}


@settings(max_examples=80, deadline=None)
@given(st.integers(1, 8), st.integers(1, 8), MARGIN, MARGIN, MARGIN, MARGIN, st.sampled_from(sorted(NUMPY_MODE)))
def test_extend_is_numpy_pad(
    height: int, width: int, left: int, right: int, top: int, bottom: int, border: Border
) -> None:
    """numpy goes on mirroring when the margin is wider than the image, as we do."""
    image = np.random.default_rng(0).random((height, width))
    ours = extend(torch.from_numpy(image)[None, None], (left, right, top, bottom), border)[0, 0].numpy()
    expected = np.pad(image, ((top, bottom), (left, right)), mode=NUMPY_MODE[border])  # type: ignore[call-overload]
    np.testing.assert_array_equal(ours, expected)


@pytest.mark.parametrize("dim", [-2, -1])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_convolve_is_correlation_inside(dim: int, stride: int) -> None:
    image = np.random.default_rng(0).random((13, 14))
    taps = [0.1, -0.5, 0.9, 0.2]
    ours = convolve(torch.from_numpy(image)[None, None], taps, dim, stride)[0, 0].numpy()
    lines = np.moveaxis(image, dim, -1)
    valid = np.stack([np.correlate(line, taps, mode="valid") for line in lines])[:, ::stride]
    np.testing.assert_allclose(ours, np.moveaxis(valid, -1, dim), atol=1e-12)


def test_convolve_agrees_with_scipy_on_symmetric_kernels() -> None:
    image = np.random.default_rng(0).random((9, 20))
    ours = convolve(torch.from_numpy(image)[None, None], [0.25, 0.5, 0.25], -1)[0, 0].numpy()
    np.testing.assert_allclose(ours, scipy.ndimage.convolve1d(image, [0.25, 0.5, 0.25], axis=1)[:, 1:-1])
