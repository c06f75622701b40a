"""Images to measure: made by code, and the real triples of the recorded values where those are at hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch


@pytest.fixture(scope="session")
def shared_triples(shared_data: Path) -> Path:
    """Folder of the PNG files that golden.json speaks of; on the developers' machines only (their licence is unclear)."""
    folder = shared_data.parent / "reference" / "metrics"
    if not folder.is_dir():
        pytest.skip(f"the recorded values' images are not at {folder}")
    return folder


def made_up_image(seed: int, height: int, width: int) -> np.ndarray:
    """(H,W) uint8: smooth ground, edges, fine noise, a saturated and a flat area: what makes metrics differ."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    ground = 90 + 60 * np.sin(x / (9 + 3 * seed) + seed) * np.cos(y / (13 - seed))
    for _ in range(6):
        top, left = rng.integers(0, height), rng.integers(0, width)
        ground[top : top + height // 4, left : left + width // 5] += rng.integers(-90, 90)
    ground += rng.normal(0, 4, (height, width))
    ground[: height // 5, : width // 4] = 300
    ground[-height // 5 :, -width // 4 :] = 37
    return ground.round().clip(0, 255).astype(np.uint8)


def as_batch(*images: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.stack(images))[:, None]


@pytest.fixture(scope="session")
def triple() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """ir, vi and an over-sharpened mean of both; both sides odd, large enough for every metric."""
    ir, vi = made_up_image(1, 167, 201), made_up_image(2, 167, 201)
    mean = (ir.astype(float) + vi) / 2
    sharp = mean + 0.8 * (mean - np.roll(mean, (1, 1), (0, 1)))
    return ir, vi, sharp.round().clip(0, 255).astype(np.uint8)
