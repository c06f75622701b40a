"""Outputs of the official implementation, recorded with filled parameters (commit 0bcc1cee of wdhudiekou/IRFS).

Of the fusion network and the losses one channel a stage is kept here. Those of FGCCNet are in the developers' reference folder
alone, and tests that need them skip elsewhere.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from filled import fill, filled_value

from fusion_det.fusion.methods.irfs.network import FSFNet

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "irfs"
REFERENCE = Path(__file__).resolve().parents[4] / "shared" / "reference" / "irfs"

Arrays = dict[str, torch.Tensor]
Shapes = dict[str, tuple[int, ...]]


def load(file: Path) -> Arrays:
    with np.load(file) as archive:
        return {key: torch.from_numpy(archive[key]) for key in archive.files}


def published_shapes(file: Path) -> Shapes:
    return {entry["name"]: tuple(entry["shape"]) for entry in json.loads(file.read_text())["tensors"]}


@pytest.fixture(scope="session")
def golden() -> Arrays:
    return load(GOLDEN / "golden.npz")


@pytest.fixture(scope="session")
def golden_loss() -> Arrays:
    return load(GOLDEN / "golden_loss.npz")


@pytest.fixture(scope="session")
def names_and_shapes() -> Shapes:
    return published_shapes(GOLDEN / "state_dict.json")


@pytest.fixture(scope="session")
def fgccnet_reference() -> tuple[Shapes, Arrays]:
    if not REFERENCE.is_dir():
        pytest.skip(f"the developers' reference outputs are not at {REFERENCE}")
    return published_shapes(REFERENCE / "state_dict_fgccnet.json"), load(REFERENCE / "golden_fgccnet.npz")


@pytest.fixture
def filled_network() -> FSFNet:
    network = FSFNet().requires_grad_(False)
    fill(network)
    # The slope has two names; the recording was filled by the first of them.
    network.head_1.body[1].weight.copy_(filled_value("head_1.body.1.weight", (1,)))
    return network
