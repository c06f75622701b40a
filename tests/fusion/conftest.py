"""Small pairs on disk, and methods that are not this project's."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from fusion_det.data.pair import PairRecord
from fusion_det.fusion import registry

OUTSIDE = Path(__file__).with_name("outside")
"""Modules as other people would write them; not tests."""

SIZES = [(20, 14), (20, 14), (9, 31), (20, 14), (1, 1), (3, 5)]
"""(width, height) of the pairs of ``records``."""


@pytest.fixture
def records(tmp_path: Path) -> list[PairRecord]:
    """Pairs of random 8-bit PNGs, of several sizes."""
    rng = np.random.default_rng(0)
    made = []
    for i, (width, height) in enumerate(SIZES):
        ir, vi = tmp_path / "ir" / f"{i:05d}.png", tmp_path / "vi" / f"{i:05d}.png"
        for file, shape in ((ir, (height, width)), (vi, (height, width, 3))):
            file.parent.mkdir(exist_ok=True)
            Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)).save(file)
        made.append(PairRecord(ir.stem, ir, vi, width, height))
    return made


@pytest.fixture
def fresh_registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[registry.Registry]:
    """This process's registry for one test; what the test adds is forgotten."""
    registry.default_registry.cache_clear()
    yield registry.default_registry()
    registry.default_registry.cache_clear()


MakeModule = Callable[[str, str], ModuleType]


@pytest.fixture
def make_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MakeModule]:
    """Write a module of a name and source, put its folder on the path, and import it."""
    folder = tmp_path / "modules"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    before = set(sys.modules)

    def make(name: str, source: str) -> ModuleType:
        (folder / f"{name}.py").write_text(source, encoding="utf-8")
        importlib.invalidate_caches()
        return importlib.import_module(name)

    yield make
    for name in set(sys.modules) - before:
        if getattr(sys.modules[name], "__file__", None) and str(folder) in str(sys.modules[name].__file__):
            del sys.modules[name]


@pytest.fixture(scope="session")
def third_party() -> str:
    """Source of a module that registers one method, ``darkest``."""
    return (OUTSIDE / "darkest.py").read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def fake_learned() -> str:
    """Source of a module that registers a network, ``onegain``; ``PUBLISHED_SHA256`` is to be filled in."""
    return (OUTSIDE / "onegain.py").read_text(encoding="utf-8")
