"""A detector's training tree in ultralytics' form: one per (method, split), nothing in it shared with another.

    OUT/data.yaml            OUT/images/train/STEM.png     OUT/labels/train/STEM.txt    (and val, test)

``data.yaml`` has no ``path:``: ultralytics then takes the folder the file lies in, so the tree can be renamed or moved,
and no global setting of ultralytics (``datasets_dir``) has a say. Images are hard links to the fused ones (copies where
the file system cannot link); labels are this tree's own, because ultralytics writes a cache beside them that remembers
images by path.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from fusion_det.data.images import UnusableImageError, image_size
from fusion_det.data.pair import PairDataset, PairRecord
from fusion_det.data.splits import PARTS, Split
from fusion_det.errors import DatasetError, Problem
from fusion_det.files import replace_folder

DATA_FILE = "data.yaml"


def export_yolo(dataset: PairDataset, split: Split, images: Path, out: Path) -> Path:
    """Write the tree of ``split`` to ``out`` and return its ``data.yaml``.

    images: folder of fused images, ``STEM.png``, each of its pair's size. out: made anew; an earlier export there is
        replaced, anything else is an error. It is written beside and renamed, so it is complete or not there.

    Raises:
        DatasetError: fused images missing, unreadable or of another size; ids the dataset has no boxes for; ``out`` is
            something else.
    """
    import yaml

    split.check(dataset)
    records = {part: dataset.select(split.ids[part]) for part in PARTS}
    _check_images(records.values(), images)
    if out.exists() and not _is_export(out):
        raise DatasetError(f"{out} exists and is not an export.", cure="Remove it, or export to another folder.")
    with replace_folder(out) as folder:
        for part in PARTS:
            (folder / "images" / part).mkdir(parents=True)
            (folder / "labels" / part).mkdir(parents=True)
            for record in records[part]:
                link_or_copy(images / f"{record.stem}.png", folder / "images" / part / f"{record.stem}.png")
                (folder / "labels" / part / f"{record.stem}.txt").write_text(label_text(record), encoding="utf-8")
        content = {part: f"images/{part}" for part in PARTS} | {"names": dict(enumerate(dataset.classes))}
        (folder / DATA_FILE).write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return out / DATA_FILE


def label_text(record: PairRecord) -> str:
    """One line an object: class index, centre x, centre y, width, height, relative to the image (ten decimals: 1e-6 px)."""
    if record.boxes is None:
        raise DatasetError(f"Pair {record.stem} has no boxes to export.")
    lines = []
    for (x0, y0, x1, y1), label in zip(record.boxes.xyxy.tolist(), record.boxes.labels.tolist(), strict=True):
        centre_x, centre_y = (x0 + x1) / 2 / record.width, (y0 + y1) / 2 / record.height
        width, height = (x1 - x0) / record.width, (y1 - y0) / record.height
        lines.append(f"{label} {centre_x:.10f} {centre_y:.10f} {width:.10f} {height:.10f}\n")
    return "".join(lines)


def link_or_copy(source: Path, target: Path) -> None:
    """Hard link, or a copy where that is impossible (another file system, a limit of links, no permission)."""
    try:
        os.link(source.resolve(), target)
    except OSError:
        shutil.copyfile(source, target)


def _check_images(parts: Iterable[list[PairRecord]], images: Path) -> None:
    problems = []
    for record in (record for part in parts for record in part):
        file = images / f"{record.stem}.png"
        try:
            width, height = image_size(file)
        except UnusableImageError as error:
            problems.append(Problem(file, str(error) if file.exists() else "is missing"))
            continue
        if (width, height) != (record.width, record.height):
            problems.append(Problem(file, f"is {width}×{height}, its pair is {record.width}×{record.height}"))
    if problems:
        raise DatasetError(f"The fused images in {images} do not fit the split.", problems, "Fuse them again.")


def _is_export(folder: Path) -> bool:
    return folder.is_dir() and ((folder / DATA_FILE).is_file() or not any(folder.iterdir()))
