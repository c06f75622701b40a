"""Outputs of the official implementation, recorded with filled parameters (commit 589f5cba of Zhaozixiang1228/MMIF-DDFM)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from filled import fill

from fusion_det.fusion.methods.ddfm.config import DDFMConfig
from fusion_det.fusion.methods.ddfm.network import UNet

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "ddfm"

Arrays = dict[str, torch.Tensor]


@pytest.fixture(scope="session")
def golden() -> Arrays:
    """Recorded arrays. Images are uint8; of some arrays there is a part, see the tests."""
    with np.load(GOLDEN / "golden.npz") as file:
        return {key: torch.from_numpy(file[key]) for key in file.files}


@pytest.fixture(scope="session")
def narrow_network() -> UNet:
    """The published shape at the recorded width, with filled parameters, for five steps; not to be changed."""
    network = UNet(DDFMConfig(width=32, steps=5)).requires_grad_(False)
    fill(network)
    return network
