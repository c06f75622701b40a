"""Small datasets on disk, written by independent code (Pillow, string templates, json), for the readers to read."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

VocObject = tuple[str, int, int, int, int]
"""Class name and VOC's corners: xmin, ymin, xmax, ymax (1-based, inclusive)."""


def write_image(path: Path, size: tuple[int, int] = (40, 30), mode: str = "RGB", seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (size[1], size[0], 3) if mode == "RGB" else (size[1], size[0])
    pixels = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def voc_text(objects: Sequence[VocObject], size: tuple[int, int] | None = (40, 30)) -> str:
    declared = f"<size><width>{size[0]}</width><height>{size[1]}</height><depth>3</depth></size>" if size else ""
    body = "".join(
        f"<object><name>{name}</name><difficult>0</difficult><bndbox><xmin>{x0}</xmin><ymin>{y0}</ymin>"
        f"<xmax>{x1}</xmax><ymax>{y1}</ymax></bndbox></object>"
        for name, x0, y0, x1, y1 in objects
    )
    return f"<annotation><filename>x.png</filename>{declared}{body}</annotation>"


def write_m3fd(
    root: Path,
    count: int = 12,
    *,
    runs: int | None = None,
    names: tuple[str, str, str] = ("Ir", "Vis", "Annotation"),
    objects: Callable[[int], Sequence[VocObject]] | None = None,
) -> Path:
    """``count`` pairs in M3FD's layout; with ``runs``, a scenes.json that deals them to so many runs."""
    for i in range(count):
        stem = f"{i:05d}"
        write_image(root / names[0] / f"{stem}.png", mode="L", seed=2 * i)
        write_image(root / names[1] / f"{stem}.png", seed=2 * i + 1)
        annotation = root / names[2] / f"{stem}.xml"
        annotation.parent.mkdir(parents=True, exist_ok=True)
        given = objects(i) if objects else [("Car", 5, 6, 20, 18), ("People", 1, 1, 40, 30)][: 1 + i % 2]
        annotation.write_text(voc_text(given))
    if runs:
        scenes = {
            f"{i:05d}": {"condition": ("day", "night")[(i * runs // count) % 2], "run": f"r{i * runs // count:03d}"}
            for i in range(count)
        }
        (root / "scenes.json").write_text(json.dumps({"synthetic": True, "pairs": scenes}))
    return root


def coco_content(
    stems: Sequence[str], classes: Sequence[str] = ("person", "car")
) -> dict[str, list[dict[str, object]]]:
    """One box of the first class at x, y, w, h = 2.5, 3, 10, 12.25 in each image of 40×30."""
    return {
        "images": [
            {"id": i, "file_name": f"{stem}.png", "width": 40, "height": 30, "lighting": ("day", "night")[i % 2]}
            for i, stem in enumerate(stems)
        ],
        "annotations": [
            {"id": 100 + i, "image_id": i, "category_id": 7, "bbox": [2.5, 3, 10, 12.25], "iscrowd": 0, "area": 122.5}
            for i, _ in enumerate(stems)
        ],
        "categories": [{"id": 7 + 2 * k, "name": name} for k, name in enumerate(classes)],
    }


def write_coco(root: Path, parts: dict[str, Sequence[str]], extra: Sequence[str] = ()) -> Path:
    """Pairs and one JSON a part; ``extra`` are pairs no JSON mentions."""
    for seed, stem in enumerate([*(s for stems in parts.values() for s in stems), *extra]):
        write_image(root / "ir" / f"{stem}.png", mode="L", seed=seed)
        write_image(root / "vi" / f"{stem}.png", seed=seed + 1000)
    for name, stems in parts.items():
        (root / f"{name}.json").write_text(json.dumps(coco_content(stems)))
    return root
