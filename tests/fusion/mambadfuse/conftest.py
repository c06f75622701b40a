"""Outputs of the official implementation, recorded with filled parameters (commit 0c2a117e of Lizhe1228/MambaDFuse)."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from filled import fill

from fusion_det.fusion.methods.mambadfuse import MambaDFuse
from fusion_det.fusion.methods.mambadfuse.network import MambaDFuseNet

# Helpers of the tests of training.
sys.path.append(str(Path(__file__).resolve().parents[1] / "training"))

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "mambadfuse"

Arrays = dict[str, torch.Tensor]


def load(file: Path) -> Arrays:
    with np.load(file) as archive:
        return {key: torch.from_numpy(archive[key]) for key in archive.files}


@pytest.fixture(scope="session")
def golden() -> Arrays:
    """Of a whole pair; the suffix tells which tokens, or channels (the first two of every twelfth), are kept."""
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
def filled_method() -> MambaDFuse:
    """With filled parameters; not to be changed."""
    method = MambaDFuse()
    fill(method.network.requires_grad_(False))
    return method


@pytest.fixture(scope="session")
def filled_network(filled_method: MambaDFuse) -> MambaDFuseNet:
    return filled_method.network
