"""Which folder of a dataset holds what, and which files of two folders belong together."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from fusion_det.data.images import IMAGE_SUFFIXES
from fusion_det.errors import DatasetError, Problem
from fusion_det.tasks import IVIF, TASKS, Task

ANNOTATION_NAMES = frozenset({"annotation", "annotations", "labels"})
"""Folder names in lower case; any case is accepted. Those of the images depend on the task."""

_DEPTH = 3
"""Archives often unpack to NAME/NAME/Ir: folders are looked into this deep below the one the user named."""


@dataclass(frozen=True)
class Layout:
    """The folders of a paired dataset, ``ir`` that of the first source; ``annotations`` is None if there is no such folder."""

    root: Path
    ir: Path
    vi: Path
    annotations: Path | None = None


def find_layout(root: Path, task: Task = TASKS[IVIF]) -> Layout:
    """Find the folders of a task's two sources at ``root`` or a little below it.

    Raises:
        DatasetError: no such folder, no pair of folders, or several candidates.
    """
    if not root.is_dir():
        kind = "is a file" if root.exists() else "does not exist"
        raise DatasetError(f"The dataset folder {root} {kind}.", cure=f"Name the folder that holds {_beside(task)}.")
    found = _layouts(root, task)
    if len(found) == 1:
        return found[0]
    if found:
        raise DatasetError(
            f"{root} holds several datasets.",
            [Problem(layout.root, f"has folders of {' and '.join(task.sources)} images") for layout in found],
            "Name one of these folders.",
        )
    here = ", ".join(folder.name for folder in _subfolders(root)) or "none"
    others = [other.name for other in TASKS.values() if other is not task and _looks_like(root, other)]
    raise DatasetError(
        f"{root} has no {' and '.join(task.sources)} folder side by side (folders there: {here}).",
        cure=f"Expected one of {_spoken(task.folders[0])} beside one of {_spoken(task.folders[1])} (any case). For two folders "
        f"of other names use {_two_folders(task)}."
        + (f" These look like pairs of --task {' or '.join(others)}." if others else ""),
    )


def has_layout(root: Path) -> bool:
    """True if :func:`find_layout` would succeed."""
    try:
        find_layout(root)
    except DatasetError:
        return False
    return True


def pair_up(ir: Path, vi: Path, problems: list[Problem], task: Task = TASKS[IVIF]) -> list[tuple[str, Path, Path]]:
    """(stem, infrared, visible) of every complete pair, by stem; missing twins and duplicate stems add problems."""
    infrared, visible = list_images(ir, problems), list_images(vi, problems)
    if not infrared and not visible:
        problems.append(Problem(ir, f"the dataset is empty: no images here nor in {vi}"))
    only_infrared, only_visible = infrared.keys() - visible.keys(), visible.keys() - infrared.keys()
    problems.extend(Problem(infrared[s], f"has no {task.sources[1]} twin {s}.* in {vi}") for s in sorted(only_infrared))
    problems.extend(Problem(visible[s], f"has no {task.sources[0]} twin {s}.* in {ir}") for s in sorted(only_visible))
    return [(stem, infrared[stem], visible[stem]) for stem in sorted(infrared.keys() & visible.keys())]


def list_images(folder: Path, problems: list[Problem]) -> dict[str, Path]:
    """Image files of a folder by stem; hidden files and other kinds of file are passed over."""
    try:
        names = sorted(entry.name for entry in folder.iterdir())
    except OSError as error:
        problems.append(Problem(folder, f"cannot be listed: {error.strerror or error}"))
        return {}
    images: dict[str, Path] = {}
    for name in names:
        stem, dot, suffix = name.rpartition(".")
        if not stem or f"{dot}{suffix}".lower() not in IMAGE_SUFFIXES or name.startswith("."):
            continue
        if stem in images:
            problems.append(Problem(folder / name, f"has the same stem as {images[stem].name}; keep one of them"))
        else:
            images[stem] = folder / name
    return images


def _layouts(root: Path, task: Task) -> list[Layout]:
    """All layouts at the least depth at which there are any."""
    level = [root]
    for _ in range(_DEPTH + 1):
        found = [layout for folder in level if (layout := _layout_of(folder, task)) is not None]
        if found:
            return found
        level = [child for folder in level for child in _subfolders(folder)]
    return []


def _looks_like(root: Path, task: Task) -> bool:
    try:
        return bool(_layouts(root, task))
    except DatasetError:  # several folders for one source: pairs of this task all the same
        return True


def _layout_of(folder: Path, task: Task) -> Layout | None:
    children = _subfolders(folder)
    ir, vi = (_named(children, names) for names in task.folders)
    if not ir or not vi:
        return None
    annotations = _named(children, ANNOTATION_NAMES)
    several = [group for group in (ir, vi, annotations) if len(group) > 1]
    if several:
        raise DatasetError(
            f"{folder} has several folders for the same thing.",
            [Problem(f, "could be meant as well as " + group[0].name) for group in several for f in group[1:]],
            "Rename or move away the one that is not meant"
            + (f", or name the two folders: {_two_folders(task)}." if len(ir) > 1 or len(vi) > 1 else "."),
        )
    return Layout(folder, ir[0], vi[0], annotations[0] if annotations else None)


def _named(folders: list[Path], names: Collection[str]) -> list[Path]:
    return [folder for folder in folders if folder.name.lower() in names]


def _subfolders(folder: Path) -> list[Path]:
    try:
        return sorted(child for child in folder.iterdir() if child.is_dir() and not child.name.startswith((".", "__")))
    except OSError:
        return []


def _two_folders(task: Task) -> str:
    first, second = task.options
    return f"{first} DIR {second} DIR (fusion-det train-fusion: --data DIR,DIR)"


def _beside(task: Task) -> str:
    """ "ir/ and vi/" """
    return " and ".join(f"{names[0]}/" for names in task.folders)


def _spoken(names: Collection[str]) -> str:
    return "|".join(sorted(names, key=lambda name: (len(name), name)))
