"""Outputs of the official implementation, recorded with filled parameters (commit bb00cb43 of hli1221/CrossFuse)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from filled import fill

from fusion_det.fusion.methods.crossfuse import CrossFuse
from fusion_det.fusion.methods.crossfuse.network import CrossFuseNet

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "crossfuse"

Arrays = dict[str, torch.Tensor]


@pytest.fixture(scope="session")
def golden() -> Arrays:
    """Recorded arrays, some by a few of their channels or by every other pixel; ``ir`` and ``vi`` are inputs in [0,1]."""
    with np.load(GOLDEN / "golden.npz") as file:
        arrays = {key: torch.from_numpy(file[key]) for key in file.files}
    return arrays | {name: arrays[name] / np.float32(255) for name in ("ir", "vi")}


def _filled() -> CrossFuse:
    method = CrossFuse()
    # Each of the three was filled by its own names when the outputs were recorded.
    for part in method.network.requires_grad_(False).children():
        fill(part)
    return method


@pytest.fixture(scope="session")
def filled_network() -> CrossFuseNet:
    """With filled parameters, those of the box filters among them; not to be changed."""
    return _filled().network


@pytest.fixture(scope="session")
def filled_method() -> CrossFuse:
    """The same, but box filters are what they are in the published files; not to be changed."""
    method = _filled()
    weights = method.network.fusion.decoder_fusion.weight
    for box in (weights.conv_sh, weights.conv_de):
        box.weight.fill_(1 / 9)
    return method


@pytest.fixture(scope="session")
def boxed_network(filled_method: CrossFuse) -> CrossFuseNet:
    return filled_method.network
