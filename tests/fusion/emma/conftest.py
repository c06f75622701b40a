"""Outputs of the official implementation, recorded with filled parameters (commit 9983ca2f of Zhaozixiang1228/MMIF-EMMA)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from filled import fill

from fusion_det.fusion.methods.emma import EMMA
from fusion_det.fusion.methods.emma.network import UFuser
from fusion_det.fusion.methods.emma.sensing import SensingNet
from fusion_det.fusion.official import rounded_gray

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "emma"

Arrays = dict[str, torch.Tensor]


def published_shapes(name: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a published state dict."""
    return {key: tuple(shape) for key, shape in json.loads((GOLDEN / f"state_dict_{name}.json").read_text()).items()}


@pytest.fixture(scope="session")
def golden() -> Arrays:
    """Recorded arrays, some by their first channels alone; ``ir`` and ``vi`` are the network's inputs."""
    with np.load(GOLDEN / "golden.npz") as file:
        arrays = {key: torch.from_numpy(file[key]) for key in file.files}
    for name, stored in (("ir", "ir_u8"), ("vi", "vi_rgb_u8")):
        arrays[name] = torch.from_numpy(rounded_gray(arrays[stored].numpy()) / np.float32(255))[None, None]
    return arrays


@pytest.fixture(scope="session")
def filled_method() -> EMMA:
    """With filled parameters; not to be changed."""
    method = EMMA()
    fill(method.network.requires_grad_(False))
    return method


@pytest.fixture(scope="session")
def filled_network(filled_method: EMMA) -> UFuser:
    return filled_method.network


@pytest.fixture(scope="session")
def filled_sensing() -> SensingNet:
    """A sensing network with filled parameters; not to be changed."""
    network = SensingNet().requires_grad_(False)
    fill(network)
    return network
