"""Facts about image files, established once by a full decode and remembered by size and modification time.

The first look at 4200 pairs reads and decodes gigabytes; every later one only asks the file system whether a file is
still the one it was (size and mtime in nanoseconds, as git's index and make do).
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from fusion_det.data.images import ImageFacts, UnusableImageError, inspect_image
from fusion_det.errors import Problem
from fusion_det.files import write_text
from fusion_det.machine import available_cores
from fusion_det.progress import Progress

log = logging.getLogger(__name__)

_SCHEMA = 1
_IN_FLIGHT = 256
"""Images handed to the threads at a time: an interrupt then waits for a moment, not for thousands of queued decodes."""


@dataclass
class FactsCache:
    """Facts by absolute path, each with the size and mtime_ns it was seen at; only good files are remembered.

    file: where it is kept, None for a cache that lives as long as this object.
    """

    file: Path | None
    entries: dict[str, tuple[int, int, str, int, int]] = field(default_factory=dict)
    changed: bool = False

    @classmethod
    def load(cls, cache_dir: Path | None, root: Path) -> FactsCache:
        """The cache of the dataset at ``root``; a damaged or foreign file counts as empty (it is only a cache)."""
        if cache_dir is None:
            return cls(None)
        name = hashlib.sha256(str(root.resolve()).encode()).hexdigest()[:16]
        file = cache_dir / f"facts-{name}.json"
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            if content["schema"] != _SCHEMA:
                return cls(file)
            entries = {
                str(path): (int(e[0]), int(e[1]), str(e[2]), int(e[3]), int(e[4]))
                for path, e in content["files"].items()
            }
        except FileNotFoundError:
            return cls(file)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
            log.warning("ignoring the damaged cache %s (%s); every image is checked again", file, error)
            return cls(file)
        return cls(file, entries)

    def get(self, path: Path) -> ImageFacts | None:
        """Remembered facts, if the file's size and mtime are unchanged."""
        entry = self.entries.get(str(path))
        if entry is None:
            return None
        try:
            status = os.stat(path)  # noqa: PTH116 - half the time of Path.stat, and it is called 8400 times
        except OSError:
            return None
        size, mtime, sha256, width, height = entry
        return ImageFacts(sha256, width, height) if (status.st_size, status.st_mtime_ns) == (size, mtime) else None

    def put(self, path: Path, status: os.stat_result, facts: ImageFacts) -> None:
        self.entries[str(path)] = (
            status.st_size,
            status.st_mtime_ns,
            facts.sha256,
            facts.width,
            facts.height,
        )
        self.changed = True

    def save(self) -> None:
        """Write the cache if it learned something; a folder that cannot be written is a warning, not an error."""
        if self.file is None or not self.changed:
            return
        try:
            write_text(self.file, json.dumps({"schema": _SCHEMA, "files": self.entries}))
        except OSError as error:
            log.warning("cannot write the cache %s (%s); the next run will check every image again", self.file, error)
        self.changed = False


def gather_facts(
    files: Sequence[Path], cache: FactsCache, progress: Progress, problems: list[Problem]
) -> dict[Path, ImageFacts]:
    """Facts of every usable file; each unusable one adds a problem. Decoding runs in threads (Pillow frees the GIL).

    What is established before an interrupt is saved, so the next attempt continues.
    """
    facts: dict[Path, ImageFacts] = {}
    unknown: list[Path] = []
    for file in files:
        known = cache.get(file)
        if known is None:
            unknown.append(file)
        else:
            facts[file] = known
    if not unknown:
        return facts
    progress.start("checking images", len(files), done=len(facts))
    workers = min(8, available_cores())
    try:
        with ThreadPoolExecutor(workers) as pool:
            for batch in _batches(unknown, _IN_FLIGHT):
                for file, status, result in pool.map(_inspect, batch):
                    if isinstance(result, ImageFacts) and status is not None:
                        facts[file] = result
                        cache.put(file, status, result)
                    else:
                        problems.append(Problem(file, str(result)))
                    progress.advance()
    finally:
        cache.save()
    progress.finish()
    return facts


def _inspect(file: Path) -> tuple[Path, os.stat_result | None, ImageFacts | UnusableImageError]:
    try:
        status = file.stat()  # before reading: a file that changes while it is read will not match the next time
        return file, status, inspect_image(file)
    except OSError as error:
        return file, None, UnusableImageError(f"cannot be read: {error.strerror or error}")
    except UnusableImageError as error:
        return file, None, error


def _batches(items: Sequence[Path], size: int) -> Iterator[Iterable[Path]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
