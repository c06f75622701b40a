"""Outputs of the official implementation, recorded with filled parameters (commit 0d900f06 of zipper112/S4Fusion)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from filled import fill

from fusion_det.fusion.methods.s4fusion.network import S4FusionNet

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "s4fusion"

Arrays = dict[str, torch.Tensor]


def _load(name: str) -> Arrays:
    with np.load(GOLDEN / name) as file:
        return {key: torch.from_numpy(file[key]) for key in file.files}


@pytest.fixture(scope="session")
def golden() -> Arrays:
    """The whole network: sources, stages, fused images."""
    return _load("golden.npz")


@pytest.fixture(scope="session")
def golden_blocks() -> Arrays:
    """Single blocks: ``MODULE PATH/ARRAY``."""
    return _load("golden_blocks.npz")


@pytest.fixture(scope="session")
def filled_network() -> Callable[[float], S4FusionNet]:
    """The released network with filled parameters, by the factor on its projections; not to be changed."""
    made: dict[float, S4FusionNet] = {}

    def get(amplify: float = 1.0) -> S4FusionNet:
        if amplify not in made:
            network = S4FusionNet().requires_grad_(False)
            fill(network, amplify)
            made[amplify] = network
        return made[amplify]

    return get
