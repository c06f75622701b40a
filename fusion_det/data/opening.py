"""``open_dataset`` and its relatives: the doors to this room."""

from __future__ import annotations

import os
from pathlib import Path

from fusion_det.data.annotation import Annotation, validated_boxes
from fusion_det.data.coco import CocoFile, read_coco
from fusion_det.data.layout import Layout, find_layout, has_layout
from fusion_det.data.locate import locate, normal_name
from fusion_det.data.m3fd import family_of
from fusion_det.data.pair import PairDataset, PairRecord
from fusion_det.data.readers import (
    READERS,
    Listing,
    Source,
    apply_m3fd_runs,
    coco_classes,
    coco_files,
    detect_reader,
)
from fusion_det.data.validate import boxes_content, build_dataset
from fusion_det.errors import ConfigError, DatasetError, Problem
from fusion_det.files import digest_json
from fusion_det.progress import NoProgress, Progress
from fusion_det.tasks import IVIF, find_task

_SILENT = NoProgress()


def open_dataset(
    source: str | Path,
    *,
    reader: str | None = None,
    limit: int | None = None,
    cache_dir: Path | None = None,
    progress: Progress = _SILENT,
    annotations: Path | None = None,
    task: str = IVIF,
) -> PairDataset:
    """Open and fully check a dataset.

    Args:
        source: a dataset id ("m3fd"), looked up in ``datasets/`` and $FUSION_DET_DATA, or a folder.
        reader: "m3fd", "coco", "folder" or "demo"; found from the layout if None.
        limit: use only the first N pairs (with boxes, where the dataset has boxes); stamped into the dataset.
        cache_dir: where facts of checked files are remembered (by size and mtime), so that the next opening does not
            decode them again; None: not remembered.
        annotations: where they are, if not in the usual place: a COCO JSON, a folder of them, or of VOC XML.
        task: what the pairs are (:data:`fusion_det.tasks.TASKS`), which decides by what names their folders are known.

    Raises:
        DatasetError: with *every* problem found, each with its file.
        ConfigError: no such reader, no such task.
    """
    known = find_task(task)
    root, name = locate(source)
    return _open(Source(name, find_layout(root, known), annotations, known), reader, limit, cache_dir, progress)


def open_folders(
    ir: Path,
    vi: Path,
    *,
    name: str = "folders",
    annotations: Path | None = None,
    limit: int | None = None,
    cache_dir: Path | None = None,
    progress: Progress = _SILENT,
    task: str = IVIF,
) -> PairDataset:
    """Pairs in two folders of any names (``--ir DIR --vi DIR``, of other tasks ``--first DIR --second DIR``), matched by stem.

    Without boxes unless ``annotations`` are given.

    Raises:
        DatasetError: as :func:`open_dataset`.
    """
    known = find_task(task)
    for option, folder in zip(known.options, (ir, vi), strict=True):
        if folder.is_file():
            raise DatasetError(
                f"{folder} ({option}) is a file.",
                cure="fusion-det quality and train-fusion take folders, with pairs of the same stem; put the images into two.",
            )
        if not folder.is_dir():
            raise DatasetError(f"The folder {folder} ({option}) does not exist.", cure="Check the path.")
    if ir.resolve() == vi.resolve():
        raise DatasetError(
            f"{' and '.join(known.options)} are the same folder: {ir}", cure="Give one folder for each modality."
        )
    root = Path(os.path.commonpath([ir.resolve(), vi.resolve()]))
    source = Source(normal_name(name), Layout(root, ir, vi), annotations, known)
    return _open(source, None if annotations else "folder", limit, cache_dir, progress)


def open_annotations(source: Path) -> PairDataset:
    """A dataset of boxes whose images are not here, for counting and splitting: a COCO JSON, or a folder of them.

    The records' ``ir`` and ``vi`` name files that need not exist; the content digest covers annotations only.

    Raises:
        DatasetError: with every problem found.
    """
    root = source if source.is_dir() else source.parent
    problems: list[Problem] = []
    parsed: list[tuple[str | None, CocoFile]] = []
    for part, file in coco_files(source, Layout(root, root, root)):
        content = read_coco(file, problems)
        if content is not None:
            parsed.append((part, content))
    classes = coco_classes(parsed, problems)
    annotations: dict[str, Annotation] = {}
    for _, content in parsed:
        for stem, annotation in content.annotations.items():
            if stem in annotations:
                other = annotations[stem].file.name
                problems.append(Problem(content.file, f"image {stem!r} is in {other} as well"))
            annotations[stem] = annotation
    splits = {part: tuple(sorted(content.annotations)) for part, content in parsed if part is not None}
    pairs = [(stem, root / "ir" / stem, root / "vi" / stem) for stem in sorted(annotations)]
    conditions = {stem: a.condition for stem, a in annotations.items() if a.condition is not None}
    name = normal_name(root.resolve().name)
    listing = Listing(name, root, pairs, problems, classes, annotations, conditions, {}, splits)
    apply_m3fd_runs(listing)
    records = [record for stem, ir, vi in pairs if (record := _without_images(listing, stem, ir, vi)) is not None]
    if problems:
        raise DatasetError(f"The annotations at {source} cannot be used: {len(problems)} problems.", problems)
    contents = [[r.stem, boxes_content(r.boxes), r.condition, r.run] for r in records]
    return PairDataset(
        name=listing.name,
        root=root,
        classes=classes,
        records=tuple(records),
        content_digest=digest_json({"classes": classes, "annotations": contents, "official_splits": splits}),
        official_splits=splits,
        family=family_of(listing.name, annotations),
    )


def open_for_counting(
    source: str | Path, *, cache_dir: Path | None = None, progress: Progress = _SILENT
) -> PairDataset:
    """:func:`open_dataset`, or :func:`open_annotations` where there are COCO files but no image folders."""
    path = Path(source).expanduser()
    if path.suffix.lower() == ".json" and path.is_file():
        return open_annotations(path)
    if path.is_dir() and not has_layout(path) and any(path.glob("*.json")):
        return open_annotations(path)
    return open_dataset(source, cache_dir=cache_dir, progress=progress)


def _open(
    source: Source, reader: str | None, limit: int | None, cache_dir: Path | None, progress: Progress
) -> PairDataset:
    if reader is not None and reader not in READERS:
        raise ConfigError(f"There is no reader {reader!r}; known: {', '.join(READERS)}.")
    listing = READERS[reader or detect_reader(source)](source)
    return build_dataset(listing, limit=limit, cache_dir=cache_dir, progress=progress)


def _without_images(listing: Listing, stem: str, ir: Path, vi: Path) -> PairRecord | None:
    annotation = listing.annotations[stem]
    if annotation.width is None or annotation.height is None:
        listing.problems.append(Problem(annotation.file, f"image {stem!r} has no width and height"))
        return None
    size = (annotation.width, annotation.height)
    boxes = validated_boxes(annotation, *size, listing.classes, listing.problems)
    return PairRecord(stem, ir, vi, *size, boxes, listing.conditions.get(stem), listing.runs.get(stem))
