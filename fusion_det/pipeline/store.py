"""The store: finished stages under ``runs/store/<kind>/<label>-<digest>/``, each with a ``manifest.json``.

A stage works in ``….partial`` beside its place and is renamed when complete, so a folder without ``.partial`` is a whole
result. One lock file a stage lets several runs share a store: the second waits, then finds the work done.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from fusion_det.errors import StageError
from fusion_det.files import write_json
from fusion_det.pipeline.stage import Stage

SCHEMA_VERSION = 1
MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Store:
    """Results below ``root``."""

    root: Path

    def folder(self, stage: Stage) -> Path:
        return self.root / stage.kind / stage.key

    def partial(self, stage: Stage) -> Path:
        return self.root / stage.kind / f"{stage.key}.partial"

    def find(self, stage: Stage) -> Path | None:
        """The stage's finished folder, or None if it was never made, or if files of it are gone or changed in size."""
        folder = self.folder(stage)
        manifest = read_manifest(folder)
        if manifest is None or _damage(folder, manifest["files"]):
            return None
        return folder

    @contextmanager
    def working(self, stage: Stage, waiting: threading.Event | None = None) -> Iterator[Path | None]:
        """Hold the stage's lock; yields its work folder, or None if another run has finished it meanwhile.

        Raises:
            StageError: another run holds the lock and ``waiting`` was set.
        """
        partial = self.partial(stage)
        partial.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(partial.with_suffix(".lock"))
        while True:
            try:
                lock.acquire(timeout=1)
                break
            except Timeout:
                if waiting is not None and waiting.is_set():
                    raise StageError("stopped while waiting for another run that works on the same stage") from None
        try:
            if self.find(stage) is not None:
                yield None
                return
            self._set_aside_damaged(stage)
            partial.mkdir(exist_ok=True)
            _sweep(partial)
            yield partial
        finally:
            lock.release()

    def complete(self, stage: Stage, facts: Mapping[str, Any], seconds: float) -> Path:
        """Write the manifest into the work folder and rename it into place (call while holding the lock)."""
        partial, folder = self.partial(stage), self.folder(stage)
        write_json(
            partial / MANIFEST,
            {
                "schema_version": SCHEMA_VERSION,
                "kind": stage.kind,
                "label": stage.label,
                "digest": stage.digest,
                "identity": stage.identity,
                "inputs": {role: f"{s.kind}/{s.key}" for role, s in stage.inputs.items()},
                "facts": facts,
                "files": _sizes(partial),
                "seconds": round(seconds, 3),
                "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
                "host": socket.gethostname(),
            },
        )
        partial.rename(folder)
        return folder

    def why_stale(self, stage: Stage) -> str:
        """Why the stage has to run, in words: never made, damaged, interrupted, or what changed since the last time."""
        folder = self.folder(stage)
        manifest = read_manifest(folder)
        if manifest is not None and (damage := _damage(folder, manifest["files"])):
            return f"damaged: {damage}"
        if self.partial(stage).is_dir():
            return "interrupted, continues"
        previous = self._latest(stage)
        if previous is None:
            return "never made"
        changes = list(_differences(previous["identity"], json.loads(json.dumps(stage.identity, default=str))))
        inputs = {role: f"{s.kind}/{s.key}" for role, s in stage.inputs.items()}
        changes += [f"new {role}" for role, key in inputs.items() if previous["inputs"].get(role) != key]
        return "; ".join(changes[:3]) + (" …" if len(changes) > 3 else "") if changes else "changed"

    def _latest(self, stage: Stage) -> dict[str, Any] | None:
        folders = [
            f for f in (self.root / stage.kind).glob(f"{stage.slug}-*") if len(f.name) == len(stage.key) and f.is_dir()
        ]
        manifests = [m for m in map(read_manifest, folders) if m is not None]
        return max(manifests, key=lambda m: m["finished"], default=None)

    def _set_aside_damaged(self, stage: Stage) -> None:
        folder = self.folder(stage)
        if not folder.exists():
            return
        partial = self.partial(stage)
        if partial.exists():
            shutil.rmtree(partial)
        folder.rename(partial)  # what is still good in it is used again (whole images, say)
        (partial / MANIFEST).unlink(missing_ok=True)

    def usage(self) -> dict[str, int]:
        """Bytes per kind of stage."""
        return {
            kind.name: sum(f.stat().st_size for f in kind.rglob("*") if f.is_file())
            for kind in sorted(self.root.glob("*"))
            if kind.is_dir()
        }


def _sweep(partial: Path) -> None:
    """Remove what a killed or failed try left that is no part of a result: unfinished files and folders, its traceback."""
    for path in (*partial.glob(".*"), *partial.rglob(".*.tmp*"), partial / "error.txt"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest of a finished stage; None if there is none that this version can read."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, json.JSONDecodeError):
        return None
    return manifest if manifest.get("schema_version") == SCHEMA_VERSION else None


def _sizes(folder: Path) -> dict[str, int]:
    """Relative path → bytes of every file. On plain strings: a run asks this of tens of thousands of files."""
    sizes: dict[str, int] = {}
    pending = [""]
    while pending:
        below = pending.pop()
        with os.scandir(folder / below) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    pending.append(f"{below}{entry.name}/")
                else:
                    sizes[below + entry.name] = entry.stat().st_size
    sizes.pop(MANIFEST, None)
    return sizes


def _damage(folder: Path, files: Mapping[str, int]) -> str:
    found = _sizes(folder)
    for name, size in files.items():
        if name not in found:
            return f"{name} is gone"
        if found[name] != size:
            return f"{name} has {found[name]} bytes instead of {size}"
    return ""


def _differences(old: Any, new: Any, path: str = "") -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            yield from _differences(old.get(key), new.get(key), f"{path}.{key}" if path else key)
    elif old != new:
        yield f"{path}: {_short(old)} → {_short(new)}"


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else text[:12] + "…"
