"""Every test knows the methods that it names, and no others."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "fusion" / "training"))

from fusion_det.fusion import registry


@pytest.fixture(autouse=True)
def _fresh_registry() -> Iterator[None]:
    """Other modules' methods come and go with each test."""
    registry.default_registry.cache_clear()
    yield
    registry.default_registry.cache_clear()
