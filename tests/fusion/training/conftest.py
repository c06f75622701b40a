"""Small classifiers and pairs for the tests of training."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from fusion_det.fusion.training.classifiers import STAGES, Classifier


@pytest.fixture
def tiny_classifier() -> Classifier:
    """A classifier of five classes whose stages halve the image."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        widths = [3, 4, 6, 8, 10]
        stages = [nn.Sequential(nn.Conv2d(a, b, 3, 2, 1), nn.ReLU()) for a, b in itertools.pairwise(widths)]
        head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[STAGES], 5))
        return Classifier(stages, head)
