"""Writing files and folders so that a crash never leaves half of one: write beside, rename into place."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

DAY = 86400.0
"""Seconds."""


@contextmanager
def replace_atomically(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success it is flushed to disk and renamed to ``path``.

    On any error (a full disk, an interrupt) the temporary file is removed and ``path`` is as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _beside(path, f".tmp{path.suffix}")
    # Not tempfile, whose files are private: the kernel applies the umask, which no thread can read without setting it.
    os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    try:
        yield temporary
        with temporary.open("rb") as handle:
            os.fsync(handle.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def replace_folder(out: Path, *, stale_after: float = DAY) -> Iterator[Path]:
    """Yield a new empty folder beside ``out`` that takes its place on success, with whatever ``out`` held removed.

    On any error the new folder is removed and ``out`` is as it was.

    Args:
        stale_after: folders that killed processes left beside ``out`` are removed once nothing was created in them for so
            many seconds; 0 for a caller that holds :func:`folder_lock`, who knows that nobody writes to them any more.
    """
    out = out.resolve()
    out.parent.mkdir(parents=True, exist_ok=True)
    _sweep_folders(out, stale_after)
    folder, former = _beside(out, ".tmp"), _beside(out, ".tmp")
    folder.mkdir()
    try:
        yield folder
        if out.exists():
            out.rename(former)
        folder.rename(out)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        if former.exists() and not out.exists():
            former.rename(out)
        raise
    shutil.rmtree(former, ignore_errors=True)


@contextmanager
def folder_lock(out: Path) -> Iterator[None]:
    """Wait until no other process makes ``out``, and keep others from it meanwhile; look again at ``out`` afterwards."""
    from filelock import FileLock

    out = out.resolve()
    out.parent.mkdir(parents=True, exist_ok=True)
    file = out.with_name(f".{out.name[:80]}.lock")
    with FileLock(file):
        try:
            yield
        finally:
            with suppress(OSError):  # where open files cannot be removed it stays, which harms nobody
                file.unlink()


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(f".{path.name[:80]}.{secrets.token_hex(6)}{suffix}")


def _sweep_folders(out: Path, stale_after: float) -> None:
    limit = time.time() - stale_after
    prefix = f".{out.name[:80]}."
    for folder in out.parent.iterdir():
        token = folder.name.removeprefix(prefix).removesuffix(".tmp")
        if folder.name != f"{prefix}{token}.tmp" or len(token) != 12 or not folder.is_dir():
            continue
        with suppress(FileNotFoundError):
            if folder.stat().st_mtime <= limit:
                shutil.rmtree(folder, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    with replace_atomically(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any, *, indent: int | None = 2) -> None:
    """Write JSON atomically (UTF-8, sorted keys, so that equal values give equal bytes)."""
    write_text(path, json.dumps(value, indent=indent, sort_keys=True, ensure_ascii=False) + "\n")


def digest_json(value: Any) -> str:
    """sha256 (hex) of a JSON-able value in canonical form."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def digest_file(path: Path) -> str:
    """sha256 (hex) of a file's bytes."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def remembered_digest(path: Path) -> str:
    """:func:`digest_file`, read once for each state that a file is seen in (weights can be a gigabyte)."""
    status = path.stat()
    return _digest_as_of(path.resolve(), status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=256)
def _digest_as_of(path: Path, size: int, mtime_ns: int) -> str:
    return digest_file(path)
