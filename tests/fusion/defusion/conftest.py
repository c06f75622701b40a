"""Outputs of the official implementation (commit 9e7a09a6 of erfect2020/DecompositionForFusion), recorded with filled parameters.

The first recorded channels of each array are kept here, all of ``fused``.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from filled import filled_value

from fusion_det.fusion.methods.defusion import DeFusion

# Helpers of the tests of training.
sys.path.append(str(Path(__file__).resolve().parents[1] / "training"))

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "defusion"

Arrays = dict[str, torch.Tensor]


def load(file: Path) -> Arrays:
    with np.load(file) as archive:
        return {key: torch.from_numpy(archive[key]) for key in archive.files}


@pytest.fixture(scope="session")
def golden() -> Arrays:
    return load(GOLDEN / "golden.npz")


@pytest.fixture(scope="session")
def golden_loss() -> Arrays:
    return load(GOLDEN / "golden_loss.npz")


@pytest.fixture(scope="session")
def published_shapes() -> dict[str, tuple[int, ...]]:
    return {name: tuple(shape) for name, shape in json.loads((GOLDEN / "state_dict.json").read_text()).items()}


@pytest.fixture(scope="session")
def filled_method() -> DeFusion:
    """With filled parameters, those of two names by the first of them; not to be changed."""
    method = DeFusion()
    with torch.no_grad():
        for name, parameter in method.network.named_parameters():
            parameter.copy_(filled_value(name, tuple(parameter.shape)))
    method.network.requires_grad_(False).eval()
    return method
