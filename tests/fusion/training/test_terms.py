"""Terms of losses against other libraries and closed forms; crops without contrast."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage
from skimage.metrics import structural_similarity

from fusion_det.fusion.training.patches import has_contrast, with_contrast
from fusion_det.fusion.training.recipe import Sources
from fusion_det.fusion.training.terms import correlation, slope_distance, sobel, sobel_responses, ssim_map


def test_sobel_is_scipys() -> None:
    image = np.random.default_rng(0).random((9, 12))
    for border, mode in (("zero", "constant"), ("replicate", "nearest"), ("reflect", "mirror")):
        across, down = sobel_responses(torch.from_numpy(image)[None, None], border)  # type: ignore[arg-type]
        np.testing.assert_allclose(across[0, 0], ndimage.sobel(image, axis=1, mode=mode), atol=1e-12)
        np.testing.assert_allclose(down[0, 0], ndimage.sobel(image, axis=0, mode=mode), atol=1e-12)
    expected = sum(np.abs(ndimage.sobel(image, axis=axis, mode="constant")) for axis in (0, 1))
    np.testing.assert_allclose(sobel(torch.from_numpy(image)[None, None])[0, 0], expected, atol=1e-12)


def test_slope_distance_is_between_the_slopes_of_both() -> None:
    x, y = np.random.default_rng(1).random((2, 10, 11))
    slopes = [[ndimage.sobel(image, axis=axis, mode="nearest") / 8 for axis in (0, 1)] for image in (x, y)]
    expected = np.abs(np.array(slopes[0]) - np.array(slopes[1])).mean()
    found = slope_distance(*(torch.from_numpy(image)[None, None] for image in (x, y)))
    assert float(found) == pytest.approx(expected, abs=1e-12)


def test_ssim_is_that_of_scikit_image() -> None:
    x, y = np.random.default_rng(2).random((2, 24, 30))
    _, expected = structural_similarity(
        x, y, data_range=1.0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, full=True
    )
    found = ssim_map(*(torch.from_numpy(image)[None, None] for image in (x, y)))[0, 0]
    inside = (slice(5, -5), slice(5, -5))  # borders are continued in another way
    np.testing.assert_allclose(found.numpy()[inside], expected[inside], atol=1e-6)


def test_correlation_is_numpys_by_channel() -> None:
    x, y = np.random.default_rng(3).random((2, 2, 3, 6, 7))
    y = y + x
    expected = np.mean([np.corrcoef(x[b, c].ravel(), y[b, c].ravel())[0, 1] for b in range(2) for c in range(3)])
    assert float(correlation(torch.from_numpy(x), torch.from_numpy(y))) == pytest.approx(expected, abs=1e-6)


def test_correlation_without_contrast_is_zero_and_has_a_gradient() -> None:
    flat = torch.full((1, 2, 5, 5), 0.3, requires_grad=True)
    value = correlation(flat, torch.rand(1, 2, 5, 5))
    value.backward()
    assert value.item() == pytest.approx(0, abs=1e-3)
    assert flat.grad is not None
    assert flat.grad.isfinite().all()


@pytest.mark.parametrize("share", [0.02, 0.09, 0.11, 0.5])
def test_contrast_is_that_of_numpys_percentiles(share: float) -> None:
    patches = 1 - np.array([share, 0.3]).reshape(2, 1, 1, 1) * np.random.default_rng(4).random((2, 1, 128, 128))
    low, high = np.percentile(patches.reshape(2, -1), [10, 90], axis=1)
    assert has_contrast(torch.from_numpy(patches)).tolist() == ((high - low) / high >= 0.1).tolist()


def test_black_has_no_contrast() -> None:
    assert has_contrast(torch.zeros(1, 1, 8, 8)).tolist() == [False]


def test_crops_without_contrast_are_left_out_unless_all_are() -> None:
    noise, black = torch.rand(1, 3, 16, 16), torch.zeros(1, 3, 16, 16)
    ir, vi = torch.cat((noise, noise, black))[:, :1], torch.cat((noise, black, noise))
    kept = with_contrast(Sources(ir, vi, vi[:, :1]))
    assert len(kept.ir) == len(kept.vi) == len(kept.luma) == 1
    assert torch.equal(kept.vi, noise)
    none = Sources(ir[2:], vi[2:], vi[2:, :1])
    assert with_contrast(none) is none
