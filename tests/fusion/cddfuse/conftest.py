"""Outputs of the official implementation, recorded with filled parameters (commit fd8da1f3 of Zhaozixiang1228/MMIF-CDDFuse)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from filled import fill

from fusion_det.fusion.methods.cddfuse import CDDFuse
from fusion_det.fusion.methods.cddfuse.network import CDDFuseNet
from fusion_det.fusion.official import rounded_gray

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "cddfuse"

Arrays = dict[str, torch.Tensor]


@pytest.fixture(scope="session")
def golden() -> Arrays:
    """Recorded arrays, some by one or two of their channels; ``ir`` and ``vi`` are the network's inputs."""
    with np.load(GOLDEN / "golden.npz") as file:
        arrays = {key: torch.from_numpy(file[key]) for key in file.files}
    for name, stored in (("ir", "ir_u8"), ("vi", "vi_rgb_u8")):
        arrays[name] = torch.from_numpy(rounded_gray(arrays[stored].numpy()) / np.float32(255))[None, None]
    return arrays


def _filled() -> CDDFuse:
    method = CDDFuse()
    # Each of the four was filled by its own names when the outputs were recorded.
    for part in method.network.requires_grad_(False).children():
        fill(part)
    return method


@pytest.fixture(scope="session")
def filled_network() -> CDDFuseNet:
    """With filled parameters, whose detail features grow to a million; not to be changed."""
    return _filled().network


@pytest.fixture(scope="session")
def damped_method() -> CDDFuse:
    """The same with the exponents of the detail features divided by four; not to be changed."""
    method = _filled()
    for name, parameter in method.network.named_parameters():
        if name.endswith("theta_rho.bottleneckBlock.5.weight"):
            parameter.mul_(0.25)
    return method


@pytest.fixture(scope="session")
def damped_network(damped_method: CDDFuse) -> CDDFuseNet:
    return damped_method.network
