"""Outputs of the official implementation, recorded with filled parameters (commit 08e14e89 of Henry-Lee-real/MaeFuse)."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from filled import fill

from fusion_det.fusion.methods.maefuse import official
from fusion_det.fusion.methods.maefuse.config import MAEFuseConfig
from fusion_det.fusion.methods.maefuse.network import MAEFuseNet

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "maefuse"
FULL = Path(__file__).resolve().parents[4] / "shared" / "reference" / "maefuse" / "golden_full.npz"
REDUCED = MAEFuseConfig(width=64, depth=3, heads=4, decoder_width=32, decoder_depth=2, decoder_heads=4)
"""The network that the arrays were recorded of; it takes 640 × 640 pixels as well."""

Arrays = dict[str, np.ndarray]


@pytest.fixture(scope="session")
def golden() -> Arrays:
    """Recorded arrays: of every 64th token, and of some pixels."""
    with np.load(GOLDEN / "golden.npz") as file:
        return dict(file)


@pytest.fixture(scope="session")
def published_shapes() -> dict[str, tuple[int, ...]]:
    return {name: tuple(shape) for name, shape in json.loads((GOLDEN / "state_dict.json").read_text()).items()}


@pytest.fixture(scope="session")
def filled_network() -> MAEFuseNet:
    """With filled parameters, tables of positions among them; not to be changed."""
    network = MAEFuseNet(REDUCED).requires_grad_(False)
    fill(network)
    return network


@pytest.fixture(scope="session")
def sincos_network() -> MAEFuseNet:
    """With filled parameters, but for the tables of positions; not to be changed."""
    network = MAEFuseNet(REDUCED).requires_grad_(False)
    tables = {name: value.clone() for name, value in network.state_dict().items() if "pos_embed" in name}
    fill(network)
    network.load_state_dict(tables, strict=False)
    return network


@pytest.fixture(scope="session")
def full_golden() -> Arrays:
    """Of the network at its published width."""
    if not FULL.is_file():
        pytest.skip(f"the developers' recorded outputs are not at {FULL}")
    with np.load(FULL) as file:
        return dict(file)


Inputs = Callable[[Arrays], tuple[torch.Tensor, torch.Tensor]]


@pytest.fixture(scope="session")
def network_inputs() -> Inputs:
    """From recorded arrays to ir and vi as the published script gives them to its network, (1,3,640,640)."""

    def made(golden: Arrays) -> tuple[torch.Tensor, torch.Tensor]:
        luma = np.repeat(official.squeezed(official.ycrcb(golden["vi"][..., ::-1]), 640)[..., :1], 3, axis=2)
        infrared = official.squeezed(golden["ir"][..., ::-1], 640)
        ir, vi = (torch.from_numpy(official.network_input(image))[None] for image in (infrared, luma))
        return ir, vi

    return made
