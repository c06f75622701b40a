"""The pairs that ``--ir``, ``--vi`` and ``--data`` name, for every command that has these options."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from fusion_det.errors import ConfigError
from fusion_det.tasks import IVIF, Task, find_task

if TYPE_CHECKING:
    from fusion_det.data import PairDataset
    from fusion_det.progress import Progress


def open_pairs(
    ir: Path | None,
    vi: Path | None,
    data: str | None,
    limit: int | None,
    cache: Path,
    progress: Progress,
    task: str = IVIF,
) -> PairDataset:
    """A dataset by its name, the pairs in two folders, or one pair of two images, called after its second one.

    Raises:
        ConfigError: options that do not go together, or name nothing. DatasetError: with every problem of the pairs.
    """
    from fusion_det.data import open_dataset, open_folders

    known = find_task(task)
    first, second = known.options
    if data is not None and ir is None and vi is None:
        return open_dataset(data, limit=limit, cache_dir=cache, progress=progress, task=task)
    if data is not None or ir is None or vi is None:
        raise ConfigError(f"say which pairs: {first} and {second} (two images or two folders), or --data DATASET")
    if missing := [f"{name} {path}" for name, path in ((first, ir), (second, vi)) if not path.exists()]:
        raise ConfigError(f"{' and '.join(missing)}: there is no such file or folder")
    if ir.is_file() and vi.is_file():
        return _open_files(ir, vi, known, progress)
    if ir.is_file() or vi.is_file():
        raise ConfigError(f"{first} {ir} and {second} {vi}: give two images or two folders, not one of each")
    return open_folders(ir, vi, limit=limit, cache_dir=cache, progress=progress, task=task)


def _open_files(ir: Path, vi: Path, task: Task, progress: Progress) -> PairDataset:
    from fusion_det.data.images import image_stem
    from fusion_det.data.readers import Listing
    from fusion_det.data.validate import build_dataset

    root = Path(os.path.commonpath([ir.resolve().parent, vi.resolve().parent]))
    listing = Listing(image_stem(vi.name), root, [(image_stem(vi.name), ir, vi)], [], task=task)
    return build_dataset(listing, limit=None, cache_dir=None, progress=progress)
