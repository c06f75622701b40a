"""Outputs of the official implementation, recorded with filled parameters (commit 48e4a549 of YangSun22/TC-MoA)."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from filled import fill
from PIL import Image

from fusion_det.fusion.mae import normalised
from fusion_det.fusion.methods.tcmoa.config import TCMoAConfig
from fusion_det.fusion.methods.tcmoa.network import TCMoANet
from fusion_det.fusion.methods.tcmoa.official import as_tensor

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "tcmoa"
FULL = Path(__file__).resolve().parents[4] / "shared" / "reference" / "tcmoa" / "golden_full.npz"
REDUCED = TCMoAConfig(width=128, depth=8, heads=4, decoder_width=64, decoder_depth=4, decoder_heads=4)
"""The network that the arrays were recorded of."""

Arrays = dict[str, np.ndarray]
Shapes = dict[str, tuple[int, ...]]


@pytest.fixture(scope="session")
def golden() -> Arrays:
    """Recorded arrays: of every 28th token, and of some pixels. Those of a wide pair are called ``wide_…``."""
    with np.load(GOLDEN / "golden.npz") as file:
        return dict(file)


@pytest.fixture(scope="session")
def full_golden() -> Arrays:
    """Of the network at its published width."""
    if not FULL.is_file():
        pytest.skip(f"the developers' recorded outputs are not at {FULL}")
    with np.load(FULL) as file:
        return dict(file)


@pytest.fixture(scope="session")
def published_shapes() -> dict[str, Shapes]:
    """By configuration."""
    files = {"large": "state_dict.json", "base": "state_dict_base.json"}
    return {
        name: {key: tuple(shape) for key, shape in json.loads((GOLDEN / file).read_text()).items()}
        for name, file in files.items()
    }


@pytest.fixture(scope="session")
def filled_network(golden: Arrays) -> TCMoANet:
    """With filled parameters and the recorded modal shifts; not to be changed."""
    return filled(golden, keep="nothing")


@pytest.fixture(scope="session")
def sincos_network(golden: Arrays) -> TCMoANet:
    """The same, but for the tables of positions."""
    return filled(golden, keep="pos_embed")


def filled(golden: Arrays, keep: str) -> TCMoANet:
    network = TCMoANet(REDUCED).requires_grad_(False)
    buffers = {name: value.clone() for name, value in network.named_buffers() if name.endswith((".mean", ".std"))}
    kept = {name: value.clone() for name, value in network.state_dict().items() if keep in name}
    fill(network)
    network.load_state_dict({**kept, **buffers}, strict=False)
    for adapters, name in ((network.blocks_MoA, "enc"), (network.decoder_blocks_MoA, "dec")):
        for adapter, shifts in zip(adapters, golden[f"modal_shifts_{name}"], strict=True):
            adapter.modal_shifts.copy_(torch.from_numpy(shifts))
    return network


Inputs = Callable[[Arrays, str], tuple[torch.Tensor, torch.Tensor]]


@pytest.fixture(scope="session")
def network_inputs() -> Inputs:
    """From recorded arrays to ir and vi as the published script gives them to its network."""

    def prepared(image: np.ndarray) -> torch.Tensor:
        height, width = (extent + -extent % 112 for extent in image.shape[:2])
        return normalised(
            as_tensor(np.array(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)))
        )

    return lambda golden, prefix: (prepared(golden[f"{prefix}ir"]), prepared(golden[f"{prefix}vi"]))
