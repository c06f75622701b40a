"""Outputs of the official implementation, recorded with filled parameters (commit 9d2fe1f9 of xiehousheng/SemLA)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from filled import fill

from fusion_det.fusion.methods.semla import SemLA
from fusion_det.fusion.methods.semla.network import SemLANet
from fusion_det.fusion.methods.semla.official import to_ycbcr

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "semla"

Arrays = dict[str, torch.Tensor]


def as_input(stored: torch.Tensor) -> torch.Tensor:
    """(1,1,H,W) of uint8 (H,W) grey or (H,W,3) RGB."""
    image = torch.from_numpy(stored.numpy() / np.float32(255))
    return (image if image.dim() == 2 else to_ycbcr(image)[0])[None, None]


@pytest.fixture(scope="session")
def golden() -> Arrays:
    """Recorded arrays, some by a few channels or by every other pixel. Inputs: ``ir``, ``vi``, ``odd_ir``, ``odd_vi``."""
    with np.load(GOLDEN / "golden.npz") as file:
        arrays = {key: torch.from_numpy(file[key]) for key in file.files}
    stored = {"ir": "ir_u8", "vi": "vi_rgb_u8", "odd_ir": "odd_ir_u8", "odd_vi": "odd_vi_rgb_u8"}
    return arrays | {name: as_input(arrays[key]) for name, key in stored.items()}


@pytest.fixture(scope="session")
def filled_method() -> SemLA:
    """With filled parameters, as if it had learnt them; not to be changed."""
    method = SemLA()
    network = method.network.requires_grad_(False)
    constant = {name: value.clone() for name, value in network.state_dict().items() if ".dwt." in name}
    fill(network)
    network.load_state_dict(constant, strict=False)
    network.get_buffer("backbone.reg0.feat_trans.bn.num_batches_tracked").fill_(1)
    return method


@pytest.fixture(scope="session")
def filled_network(filled_method: SemLA) -> SemLANet:
    return filled_method.network
