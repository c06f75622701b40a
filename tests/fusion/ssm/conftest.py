"""Recorded scans, and no leaning on what the caller's environment chose."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from fusion_det.fusion.ssm import BACKEND_ENV

GOLDEN = Path(__file__).parents[2] / "golden" / "s4fusion" / "selective_scan_golden.npz"


@pytest.fixture(autouse=True)
def no_backend_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(BACKEND_ENV, raising=False)


@pytest.fixture(scope="session")
def scan_golden() -> dict[str, torch.Tensor]:
    """Inputs, outputs and gradients of mamba-ssm's reference scan, b=2, d=6, N=4, L=11, G=2 (spec.md, section 2).

    ``u, delta, A, B, C, D, delta_bias, z, grad_y`` → ``y, last_state, y_gated, y_no_softplus_no_D, grad_*``; ``*_f64`` are
    the same computed in float64.
    """
    with np.load(GOLDEN) as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays.files}
