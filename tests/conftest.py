"""Fixtures every room shares."""

from __future__ import annotations

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real sample pairs; exists on the developers' machines only, so tests that need it skip elsewhere."""
    folder = SHARED / "data"
    if not folder.is_dir():
        pytest.skip(f"the developers' sample pairs are not at {folder}")
    return folder


@pytest.fixture
def nothing_shipped(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if this package held no weights of its own training."""
    monkeypatch.setattr("fusion_det.fusion.weights.SHIPPED_FILE", "nothing.safetensors")
