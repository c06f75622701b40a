"""Outputs of the official implementation, recorded with filled parameters (commit 3ee1e7a8 of millieXie/FusionMamba)."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from filled import filled_value

from fusion_det.fusion.methods.fusionmamba import FusionMamba

# Helpers of the tests of training.
sys.path.append(str(Path(__file__).resolve().parents[1] / "training"))

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "fusionmamba"

Arrays = dict[str, torch.Tensor]


def load(file: Path) -> Arrays:
    with np.load(file) as archive:
        return {key: torch.from_numpy(archive[key]) for key in archive.files}


@pytest.fixture(scope="session")
def golden() -> Arrays:
    """Of a whole pair; of stages every sixteenth channel is kept."""
    return load(GOLDEN / "golden.npz")


@pytest.fixture(scope="session")
def golden_blocks() -> Arrays:
    """Inputs and outputs of single blocks: ``module/name``."""
    return load(GOLDEN / "golden_blocks.npz")


@pytest.fixture(scope="session")
def golden_loss() -> Arrays:
    return load(GOLDEN / "golden_loss.npz")


@pytest.fixture(scope="session")
def published_shapes() -> dict[str, tuple[int, ...]]:
    return {name: tuple(shape) for name, shape in json.loads((GOLDEN / "state_dict.json").read_text()).items()}


@pytest.fixture(scope="session")
def filled_method() -> FusionMamba:
    """With filled parameters; not to be changed. Built without drawing 225 million random numbers first."""
    with torch.device("meta"):
        method = FusionMamba()
    state = {name: filled_value(name, tuple(value.shape)) for name, value in method.network.state_dict().items()}
    method.network.load_state_dict(state, assign=True)
    method.network.requires_grad_(False).eval()
    return method
