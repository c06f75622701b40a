"""Outputs of the official implementation (commit 0a588214 of hanna-xu/U2Fusion): of its features every fourth row is kept here.

What was recorded with the published weights is in the developers' reference folder, as are the weights; tests that need it skip
elsewhere.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from filled import fill

from fusion_det.fusion.methods.u2fusion.network import U2FusionNet

# Helpers of the tests of training.
sys.path.append(str(Path(__file__).resolve().parents[1] / "training"))

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "u2fusion"
REFERENCE = Path(__file__).resolve().parents[4] / "shared" / "reference" / "u2fusion"

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
def tensors() -> list[dict[str, Any]]:
    """Of each parameter: ``name``, ``shape``, and where and how it lies in the published file."""
    return json.loads((GOLDEN / "state_dict.json").read_text())["tensors"]


@pytest.fixture(scope="session")
def filled_network() -> U2FusionNet:
    """Not to be changed."""
    network = U2FusionNet().requires_grad_(False)
    fill(network)
    return network


@pytest.fixture(scope="session")
def reference() -> Path:
    if not (REFERENCE / "weights").is_dir():
        pytest.skip(f"the published weights and what was recorded with them are not at {REFERENCE}")
    return REFERENCE
