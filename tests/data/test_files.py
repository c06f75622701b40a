"""Files and folders appear whole or not at all, as readable as the user's umask says."""

from __future__ import annotations

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fusion_det.files import DAY, replace_folder, write_text


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_the_umask_decides_and_survives(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda i: write_text(tmp_path / f"{i}.txt", "x"), range(200)))
        with replace_folder(tmp_path / "folder"):
            pass
    finally:
        left = os.umask(before)
    assert left == umask
    assert {stat.S_IMODE(file.stat().st_mode) for file in tmp_path.glob("*.txt")} == {0o666 & ~umask}
    assert stat.S_IMODE((tmp_path / "folder").stat().st_mode) == 0o777 & ~umask


def test_a_folder_is_replaced_whole(tmp_path: Path) -> None:
    out = tmp_path / "out"
    for text in ("first", "second"):
        with replace_folder(out) as folder:
            (folder / text).write_text(text)
    assert names(out) == ["second"] and names(tmp_path) == ["out"]


def test_on_an_error_the_old_folder_stays(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "old").touch()
    with pytest.raises(KeyboardInterrupt), replace_folder(out) as folder:
        (folder / "new").touch()
        raise KeyboardInterrupt
    assert names(out) == ["old"] and names(tmp_path) == ["out"]


def test_leftovers_of_the_dead_are_swept_but_nothing_else(tmp_path: Path) -> None:
    out = tmp_path / "out"
    old, young, others = (
        tmp_path / f".{name}.tmp" for name in ("out.aaaaaaaaaaaa", "out.bbbbbbbbbbbb", "out.2.cccccccccccc")
    )
    for folder in (old, young, others):
        folder.mkdir()
    for folder in (old, others):
        os.utime(folder, (0, folder.stat().st_mtime - 2 * DAY))
    with replace_folder(out):
        pass
    assert names(tmp_path) == sorted([young.name, others.name, "out"])
    with replace_folder(out, stale_after=0):
        pass
    assert names(tmp_path) == sorted([others.name, "out"])
