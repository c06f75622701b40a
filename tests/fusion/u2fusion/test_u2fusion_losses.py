"""The losses against recorded values, scipy and scikit-image."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import convolve
from scipy.special import softmax
from skimage.metrics import structural_similarity

from fusion_det.fusion.methods.u2fusion import losses

Arrays = dict[str, torch.Tensor]


def test_content_loss(golden_loss: Arrays) -> None:
    first, second, fused = (golden_loss[name] for name in ("source1", "source2", "fused"))
    for i, source in enumerate((first, second), start=1):
        torch.testing.assert_close(1 - losses.ssim(source, fused), golden_loss[f"one_minus_ssim{i}"], atol=1e-5, rtol=0)
    found = losses.content_loss(first, second, fused, golden_loss["weights"])
    for name, value in (("total", "content_loss"), ("ssim", "ssim_loss"), ("mse", "mse_loss")):
        torch.testing.assert_close(getattr(found, name), golden_loss[value], atol=1e-5, rtol=1e-5)


def test_ssim_is_scikit_images(golden_loss: Arrays) -> None:
    x, y = golden_loss["source1"].double(), golden_loss["fused"].double()
    for i, value in enumerate(losses.ssim(x, y)):
        options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "full": True}
        _, every_pixel = structural_similarity(x[i, 0].numpy(), y[i, 0].numpy(), data_range=1, **options)
        assert float(value) == pytest.approx(every_pixel[5:-5, 5:-5].mean(), abs=1e-9)


def test_gradient_energy(golden_loss: Arrays) -> None:
    features = golden_loss["features"]
    torch.testing.assert_close(losses.gradient_energy(features), golden_loss["features_gradient_energy"])
    kernel = np.full((3, 3), 1 / 8)
    kernel[1, 1] = -1
    maps = features[0].double().numpy()
    expected = np.mean([convolve(plane, kernel, mode="constant") ** 2 for plane in maps])
    assert float(losses.gradient_energy(features)[0]) == pytest.approx(expected, rel=1e-5)
    several = losses.information([features, 2 * features])
    torch.testing.assert_close(several, 2.5 * losses.gradient_energy(features))


def test_source_weights() -> None:
    first, second = torch.tensor([3200.0, 0.0]), torch.tensor([0.0, 100.0])
    expected = softmax(np.array([[1.0, 0.0], [0.0, 1 / 32]]), axis=1)
    np.testing.assert_allclose(losses.source_weights(first, second, 3200), expected, rtol=1e-6)


def test_vgg_input() -> None:
    source = torch.rand(2, 1, 64, 50)
    shown = losses.vgg_input(source)
    assert shown.shape == (2, 3, 224, 224)
    rows, columns = np.arange(224) * 64 // 224, np.arange(224) * 50 // 224
    expected = 255 * source.numpy()[:, 0][:, rows][:, :, columns]
    for channel, mean in enumerate((103.939, 116.779, 123.68)):
        np.testing.assert_allclose(shown[:, channel], expected - mean, atol=1e-4)


def test_the_loss_has_a_gradient(golden_loss: Arrays) -> None:
    fused = golden_loss["fused"].clone().requires_grad_()
    losses.content_loss(golden_loss["source1"], golden_loss["source2"], fused, golden_loss["weights"]).total.backward()
    assert fused.grad is not None
    assert fused.grad.abs().sum() > 0
