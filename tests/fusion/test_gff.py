"""Guided-filter fusion against plain loops over windows, scipy, and what the paper says must happen."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.ndimage
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion_det.fusion.methods.gff.guided_filter import box_mean, guided_filter
from fusion_det.fusion.methods.gff.two_scale import fuse_two_scale, saliency


def naive_box_mean(image: np.ndarray, radius: int) -> np.ndarray:
    height, width = image.shape
    out = np.empty_like(image)
    for y in range(height):
        for x in range(width):
            window = image[max(0, y - radius) : y + radius + 1, max(0, x - radius) : x + radius + 1]
            out[y, x] = window.mean()
    return out


def naive_guided_filter(guide: np.ndarray, image: np.ndarray, radius: int, eps: float) -> np.ndarray:
    """He et al., Algorithm 1 by its definition: a linear fit in every window, averaged over the windows of a pixel."""
    height, width = guide.shape
    slope, offset = np.empty_like(guide), np.empty_like(guide)
    for y in range(height):
        for x in range(width):
            where = (
                slice(max(0, y - radius), y + radius + 1),
                slice(max(0, x - radius), x + radius + 1),
            )
            g, p = guide[where], image[where]
            slope[y, x] = ((g - g.mean()) * (p - p.mean())).mean() / (g.var() + eps)
            offset[y, x] = p.mean() - slope[y, x] * g.mean()
    return naive_box_mean(slope, radius) * guide + naive_box_mean(offset, radius)


def tensor(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(array)[None, None]


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 23), st.integers(1, 23), st.integers(0, 30), st.integers(0, 2**31))
def test_box_mean_is_the_mean_of_what_lies_inside(height: int, width: int, radius: int, seed: int) -> None:
    image = np.random.default_rng(seed).random((height, width))
    ours = box_mean(tensor(image), radius)[0, 0].numpy()
    size = 2 * radius + 1
    total = scipy.ndimage.uniform_filter(image, size, mode="constant")
    inside = scipy.ndimage.uniform_filter(np.ones_like(image), size, mode="constant")
    np.testing.assert_allclose(ours, total / inside, atol=1e-9)


@pytest.mark.parametrize(("radius", "eps"), [(1, 1e-6), (3, 0.3), (7, 1e-6), (45, 0.3)])
def test_guided_filter_is_its_definition(radius: int, eps: float) -> None:
    rng = np.random.default_rng(radius)
    guide = rng.random((17, 22))
    image = (rng.random((17, 22)) > 0.5).astype(float)
    ours = guided_filter(tensor(guide), tensor(image), radius, eps)[0, 0].numpy()
    np.testing.assert_allclose(ours, naive_guided_filter(guide, image, radius, eps), atol=1e-7)


def test_guided_filter_keeps_its_guide_for_tiny_eps() -> None:
    guide = torch.rand(1, 1, 30, 30, dtype=torch.float64)
    torch.testing.assert_close(guided_filter(guide, guide, 4, 1e-12), guide, atol=1e-8, rtol=0)


def test_saliency_is_blurred_laplacian_magnitude() -> None:
    image = np.random.default_rng(0).random((25, 31))
    magnitude = np.abs(scipy.ndimage.laplace(image, mode="nearest"))
    expected = scipy.ndimage.gaussian_filter(magnitude, 5.0, radius=5, mode="nearest")
    np.testing.assert_allclose(saliency(tensor(image))[0, 0].numpy(), expected, atol=1e-12)


def test_flat_source_gives_way_to_the_one_with_detail() -> None:
    """Away from any border of decision, a featureless image gets no weight: the result is the textured one."""
    rng = np.random.default_rng(1)
    texture = tensor(0.5 + 0.3 * rng.standard_normal((120, 120)).clip(-1, 1))
    flat = torch.full_like(texture, 0.5)
    torch.testing.assert_close(fuse_two_scale(texture, flat), texture, atol=1e-5, rtol=0)


def test_which_source_is_called_infrared_does_not_matter() -> None:
    a, b = torch.rand(2, 1, 40, 50), torch.rand(2, 1, 40, 50)
    torch.testing.assert_close(fuse_two_scale(a, b), fuse_two_scale(b, a), atol=1e-6, rtol=0)


def test_detail_of_each_half_survives() -> None:
    """Left half textured in one source, right half in the other: both textures are in the result."""
    rng = np.random.default_rng(2)
    noise = 0.2 * rng.standard_normal((200, 200)).clip(-1, 1)
    left, right = noise.copy(), noise.copy()
    left[:, 100:], right[:, :100] = 0, 0
    fused = fuse_two_scale(tensor(0.5 + left), tensor(0.5 + right))[0, 0].numpy()
    np.testing.assert_allclose(fused[:, :80], 0.5 + noise[:, :80], atol=0.02)
    np.testing.assert_allclose(fused[:, 120:], 0.5 + noise[:, 120:], atol=0.02)
