"""Fixtures of the data tests."""

from __future__ import annotations

from pathlib import Path

import pytest
from pairs_on_disk import write_m3fd


@pytest.fixture
def m3fd_root(tmp_path: Path) -> Path:
    return write_m3fd(tmp_path / "pairs")


@pytest.fixture(autouse=True)
def no_user_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FUSION_DET_DATA", raising=False)
