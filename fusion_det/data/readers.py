"""The readers: each turns a layout on disk into one :class:`Listing`, which :mod:`fusion_det.data.validate` checks.

m3fd: ``Ir/ Vis/ Annotation/STEM.xml`` (Pascal VOC). ``scenes.json`` beside them, if there, gives condition and run of
    every pair (the demo writes one); M3FD's own come from a table in this package.
coco: ``ir/ vi/`` and one COCO JSON for all pairs, or one per split (``train.json``, ``val.json``, ``test.json``).
folder: ``ir/ vi/`` only; for fusing.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fusion_det.data import m3fd
from fusion_det.data.annotation import Annotation, normal_condition
from fusion_det.data.coco import CocoFile, canonical_classes, read_coco
from fusion_det.data.layout import Layout, pair_up
from fusion_det.data.pair import M3FD_CLASSES
from fusion_det.data.voc import read_voc
from fusion_det.errors import DatasetError, Problem
from fusion_det.tasks import IVIF, TASKS, Task

log = logging.getLogger(__name__)

SCENES_FILE = "scenes.json"
_SPLIT_OF_WORD = {"train": "train", "val": "val", "valid": "val", "test": "test"}


@dataclass
class Listing:
    """A dataset as found, nothing checked yet but the files' structure; ``problems`` holds what was found so far.

    pairs: (stem, infrared, visible), by stem. annotations: by stem; a pair without one is unannotated.
    """

    name: str
    root: Path
    pairs: list[tuple[str, Path, Path]]
    problems: list[Problem]
    classes: tuple[str, ...] = ()
    annotations: dict[str, Annotation] = field(default_factory=dict)
    conditions: dict[str, str] = field(default_factory=dict)
    runs: dict[str, str] = field(default_factory=dict)
    official_splits: dict[str, tuple[str, ...]] = field(default_factory=dict)
    synthetic: bool = False
    task: Task = TASKS[IVIF]


@dataclass(frozen=True)
class Source:
    """What a reader is given: the dataset's name, its folders, and where annotations are if not in the usual place."""

    name: str
    layout: Layout
    annotations: Path | None = None
    task: Task = TASKS[IVIF]


def read_m3fd(source: Source) -> Listing:
    """Pairs with one VOC file each. A pair without a file, or a file without a pair, is a problem."""
    layout, problems = source.layout, list[Problem]()
    folder = source.annotations or layout.annotations
    if folder is None or not folder.is_dir():
        raise DatasetError(
            f"{layout.root} has no annotation folder.",
            cure="Expected Annotation/STEM.xml beside the images; pairs without boxes open with the reader 'folder'.",
        )
    pairs = pair_up(layout.ir, layout.vi, problems)
    stems = {stem for stem, _, _ in pairs}
    files = _xml_files(folder, problems)
    for stem in sorted(stems - files.keys()):
        problems.append(Problem(folder / f"{stem}.xml", f"is missing: pair {stem} has no annotation"))
    for stem in sorted(files.keys() - stems):
        problems.append(Problem(files[stem], f"has no complete pair of images {stem}.*"))
    annotations = {}
    for stem in sorted(stems & files.keys()):
        annotation = read_voc(files[stem], problems)
        if annotation is not None:
            annotations[stem] = annotation
    listing = Listing(source.name, layout.root, pairs, problems, M3FD_CLASSES, annotations)
    scenes = layout.root / SCENES_FILE
    if scenes.exists():
        _apply_scenes(listing, scenes)
    else:
        apply_m3fd_runs(listing)
    return listing


def read_coco_pairs(source: Source) -> Listing:
    """Pairs with boxes from COCO JSON. A pair the JSON does not mention is unannotated, which is not a problem."""
    layout, problems = source.layout, list[Problem]()
    pairs = pair_up(layout.ir, layout.vi, problems)
    stems = {stem for stem, _, _ in pairs}
    parsed: list[tuple[str | None, CocoFile]] = []
    for part, file in coco_files(source.annotations, layout):
        content = read_coco(file, problems)
        if content is not None:
            parsed.append((part, content))
    listing = Listing(source.name, layout.root, pairs, problems, coco_classes(parsed, problems))
    for part, content in parsed:
        for stem, annotation in content.annotations.items():
            if stem not in stems:
                problems.append(Problem(content.file, f"image {stem!r} has no complete pair in {layout.root}"))
            elif stem in listing.annotations:
                other = listing.annotations[stem].file.name
                problems.append(Problem(content.file, f"image {stem!r} is in {other} as well"))
            else:
                listing.annotations[stem] = annotation
        if part is not None:
            listing.official_splits[part] = tuple(sorted(stems & content.annotations.keys()))
    listing.conditions = {s: a.condition for s, a in listing.annotations.items() if a.condition is not None}
    apply_m3fd_runs(listing)
    return listing


def read_folder(source: Source) -> Listing:
    """Pairs without boxes."""
    problems: list[Problem] = []
    pairs = pair_up(source.layout.ir, source.layout.vi, problems, source.task)
    return Listing(source.name, source.layout.root, pairs, problems, task=source.task)


READERS: Mapping[str, Callable[[Source], Listing]] = {
    "m3fd": read_m3fd,
    "demo": read_m3fd,
    "coco": read_coco_pairs,
    "folder": read_folder,
}


def detect_reader(source: Source) -> str:
    """The reader that fits: VOC files → m3fd, COCO JSON → coco, neither → folder. Only infrared and visible pairs have boxes."""
    if source.task.name != IVIF:
        return "folder"
    named = source.annotations
    if named is not None:
        return "m3fd" if named.is_dir() and any(named.glob("*.xml")) else "coco"
    folder = source.layout.annotations
    if folder is not None and any(_lower_suffix(file) == ".xml" for file in _files(folder)):
        return "m3fd"
    return "coco" if _json_files(source.layout) else ("m3fd" if folder is not None else "folder")


def coco_files(named: Path | None, layout: Layout) -> list[tuple[str | None, Path]]:
    """(split or None, file) of the annotation files to read.

    Files named for a split go together; otherwise there must be exactly one.

    Raises:
        DatasetError: none, or several that are not one per split.
    """
    if named is not None and named.is_file():
        return [(None, named)]
    if named is not None and not named.is_dir():
        raise DatasetError(f"The annotations {named} do not exist.", cure="Name a COCO JSON or a folder of them.")
    files = _jsons(named) if named is not None else _json_files(layout)
    by_split = [(part, file) for file in files if (part := _split_of(file)) is not None]
    parts = [part for part, _ in by_split]
    if by_split and len(set(parts)) == len(parts):
        return list(by_split)
    if len(files) == 1 and not by_split:
        return [(None, files[0])]
    where = named or layout.root
    raise DatasetError(
        f"{where} has {'several candidates for' if files else 'no'} COCO annotations.",
        [Problem(file, "could be the one") for file in files],
        "Name the file with the option for annotations, or keep one JSON for all pairs or one per split "
        "(train.json, val.json, test.json).",
    )


def coco_classes(files: Iterable[tuple[str | None, CocoFile]], problems: list[Problem]) -> tuple[str, ...]:
    """The dataset's classes: those of its files, which must agree by name; M3FD's order where the names are M3FD's."""
    classes: tuple[str, ...] = ()
    for _, content in files:
        names = canonical_classes(content.classes)
        if not names:
            problems.append(Problem(content.file, "names no categories"))
        elif classes and set(names) != set(classes):
            problems.append(
                Problem(content.file, f"has the classes {', '.join(names)}, another file {', '.join(classes)}")
            )
        classes = classes or names
    return classes


def _apply_scenes(listing: Listing, file: Path) -> None:
    """Conditions and runs from ``{"synthetic": bool, "pairs": {stem: {"condition": str, "run": str}}}``."""
    try:
        content = json.loads(file.read_bytes())
        pairs = content["pairs"]
        for stem, facts in pairs.items():
            condition, run = normal_condition(facts.get("condition")), facts.get("run")
            if condition is not None:
                listing.conditions[stem] = condition
            if isinstance(run, str):
                listing.runs[stem] = run
        listing.synthetic = content.get("synthetic") is True
        listing.name = "demo" if listing.synthetic else listing.name
    except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
        message = f'is not a scene table {{"synthetic": …, "pairs": {{stem: {{"condition", "run"}}}}}}: {error!r}'
        listing.problems.append(Problem(file, message))


def apply_m3fd_runs(listing: Listing) -> None:
    """Conditions and runs of M3FD, where this is M3FD: all its ids, or a folder of that name with only its ids.

    A folder that merely numbers its images 00000, 00001, … gets none: they would be another dataset's.
    """
    stems = [stem for stem, _, _ in listing.pairs]
    complete = m3fd.is_complete(stems)
    named_so = "m3fd" in listing.name and all(m3fd.has_m3fd_id(stem) for stem in stems)
    if listing.classes != M3FD_CLASSES or not (complete or named_so):
        return
    if complete:
        listing.name = "m3fd"
    elif listing.name == "m3fd":
        listing.name = "m3fd_partial"  # so that its figures never stand beside the paper's
        log.warning("%s holds %d of M3FD's %d pairs", listing.root, len(stems), m3fd.M3FD_PAIRS)
    for stem in stems:
        run = m3fd.run_of(stem)
        if run is not None:
            listing.conditions[stem] = run.condition
            listing.runs[stem] = run.name


def _xml_files(folder: Path, problems: list[Problem]) -> dict[str, Path]:
    try:
        files = sorted(f for f in folder.iterdir() if _lower_suffix(f) == ".xml" and not f.name.startswith("."))
    except OSError as error:
        problems.append(Problem(folder, f"cannot be listed: {error.strerror or error}"))
        return {}
    found: dict[str, Path] = {}
    for file in files:
        if file.stem in found:
            problems.append(Problem(file, f"has the same stem as {found[file.stem].name}; keep one of them"))
        else:
            found[file.stem] = file
    return found


def _json_files(layout: Layout) -> list[Path]:
    """JSON files beside the images, or in their annotation folder; the demo's scene table is not one."""
    beside = [file for file in _jsons(layout.root) if file.name != SCENES_FILE]
    return beside or (_jsons(layout.annotations) if layout.annotations is not None else [])


def _jsons(folder: Path) -> list[Path]:
    return [f for f in _files(folder) if _lower_suffix(f) == ".json" and not f.name.startswith(".")]


def _files(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        problem = Problem(folder, f"cannot be listed: {error.strerror or error}")
        raise DatasetError("The dataset cannot be read.", [problem], "Check the permissions.") from error


def _split_of(file: Path) -> str | None:
    """ "m3fd-train.json" → "train"; None if the name does not end in (or begin with) a split's word."""
    words = [word for word in re.split(r"[^a-z]+", file.stem.lower()) if word]
    return next((_SPLIT_OF_WORD[w] for w in (words[-1:] + words[:1]) if w in _SPLIT_OF_WORD), None)


def _lower_suffix(file: Path) -> str:
    return file.suffix.lower()
