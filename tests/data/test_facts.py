"""The cache of checked files: what it saves, and what it must never hide."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from pairs_on_disk import write_image, write_m3fd

from fusion_det.data import facts as facts_module
from fusion_det.data import open_dataset
from fusion_det.data.images import inspect_image
from fusion_det.errors import DatasetError


@pytest.fixture
def inspected(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that were really decoded."""
    names: list[str] = []

    def spy(path: Path) -> facts_module.ImageFacts:
        names.append(path.name)
        return inspect_image(path)

    monkeypatch.setattr(facts_module, "inspect_image", spy)
    return names


def test_second_opening_decodes_nothing_and_is_equal(tmp_path: Path, inspected: list[str]) -> None:
    root = write_m3fd(tmp_path / "d", 5)
    first = open_dataset(root, cache_dir=tmp_path / "cache")
    assert len(inspected) == 10
    second = open_dataset(root, cache_dir=tmp_path / "cache")
    assert len(inspected) == 10
    assert second.content_digest == first.content_digest
    assert [(r.stem, r.width, r.height) for r in second] == [(r.stem, r.width, r.height) for r in first]


def test_a_changed_file_is_looked_at_again(tmp_path: Path, inspected: list[str]) -> None:
    root = write_m3fd(tmp_path / "d", 3)
    first = open_dataset(root, cache_dir=tmp_path / "cache")
    write_image(root / "Ir" / "00001.png", mode="L", seed=77)
    os.utime(root / "Ir" / "00001.png", ns=(1, 1))
    inspected.clear()
    second = open_dataset(root, cache_dir=tmp_path / "cache")
    assert inspected == ["00001.png"] and second.content_digest != first.content_digest
    (root / "Ir" / "00001.png").write_bytes(b"")
    with pytest.raises(DatasetError, match="0 bytes"):
        open_dataset(root, cache_dir=tmp_path / "cache")


def test_bad_files_are_not_remembered(tmp_path: Path) -> None:
    root = write_m3fd(tmp_path / "d", 2)
    (root / "Ir" / "00001.png").write_bytes(b"not yet")
    for _ in range(2):
        with pytest.raises(DatasetError, match=r"00001\.png"):
            open_dataset(root, cache_dir=tmp_path / "cache")


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"schema": 1, "files": {"a": [1]}}', '{"schema": 99, "files": {}}']
)
def test_a_damaged_cache_is_ignored(tmp_path: Path, content: str, inspected: list[str]) -> None:
    root = write_m3fd(tmp_path / "d", 2)
    first = open_dataset(root, cache_dir=tmp_path / "cache")
    (file,) = (tmp_path / "cache").iterdir()
    file.write_text(content)
    assert open_dataset(root, cache_dir=tmp_path / "cache").content_digest == first.content_digest
    assert len(inspected) == 8
    assert len(json.loads(file.read_text())["files"]) == 4  # mended


def test_a_limit_does_not_forget_the_rest(tmp_path: Path, inspected: list[str]) -> None:
    root = write_m3fd(tmp_path / "d", 4)
    open_dataset(root, cache_dir=tmp_path / "cache", limit=2)
    open_dataset(root, cache_dir=tmp_path / "cache")
    open_dataset(root, cache_dir=tmp_path / "cache", limit=1)
    open_dataset(root, cache_dir=tmp_path / "cache")
    assert len(inspected) == 8


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    root = write_m3fd(tmp_path / "d", 2)
    (tmp_path / "cache").write_text("a file where the folder should be")
    assert len(open_dataset(root, cache_dir=tmp_path / "cache")) == 2


def test_what_was_checked_before_an_interrupt_is_kept(
    tmp_path: Path, inspected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_m3fd(tmp_path / "d", 6)

    class Impatient:
        def start(self, description: str, total: int | None, done: int = 0) -> None: ...

        def advance(self, steps: int = 1, note: str = "") -> None:
            if len(inspected) >= 4:
                raise KeyboardInterrupt

        def tell(self, message: str) -> None: ...

        def finish(self, note: str = "") -> None: ...

    monkeypatch.setattr(facts_module, "_IN_FLIGHT", 2)
    with pytest.raises(KeyboardInterrupt):
        open_dataset(root, cache_dir=tmp_path / "cache", progress=Impatient())
    before = len(inspected)
    assert before < 12
    open_dataset(root, cache_dir=tmp_path / "cache")
    assert len(inspected) <= 12 + 2  # the batch in flight at most is done again
