"""COCO detection JSON: images, annotations (``bbox`` = x, y, width, height in pixels, may be fractional), categories."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fusion_det.data.annotation import Annotation, RawBox, normal_condition
from fusion_det.data.images import image_stem
from fusion_det.data.pair import M3FD_CLASSES
from fusion_det.errors import Problem

_CONDITION_KEYS = ("condition", "lighting", "scene")


@dataclass(frozen=True)
class CocoFile:
    """One parsed file. annotations: by stem, in file order. classes: names in the order of their category ids."""

    file: Path
    annotations: Mapping[str, Annotation]
    classes: tuple[str, ...]


def read_coco(path: Path, problems: list[Problem]) -> CocoFile | None:
    """Read one file. Each fault adds a problem; None if the file as a whole cannot be understood.

    Crowd regions (``iscrowd`` 1) are left out: they outline a mass of objects, not an object.
    """
    content = _load(path, problems)
    if content is None:
        return None
    sections = {key: content.get(key) for key in ("images", "annotations", "categories")}
    if not all(isinstance(section, list) for section in sections.values()):
        wrong = [key for key, section in sections.items() if not isinstance(section, list)]
        problems.append(Problem(path, f"is not COCO detection JSON: no list named {', '.join(wrong)}"))
        return None
    names = _categories(content["categories"], path, problems)
    boxes, images = _images(content["images"], path, problems)
    for position, item in enumerate(content["annotations"], start=1):
        entry = _box(item, position, names, images, path, problems)
        if entry is not None and not item.get("iscrowd"):
            boxes[entry[0]].append(entry[1])
    annotations = {
        stem: Annotation(path, tuple(boxes[key]), *_declared_size(image), condition=_condition(image))
        for key, (stem, image) in images.items()
    }
    return CocoFile(path, annotations, tuple(names.values()))


def canonical_classes(names: tuple[str, ...]) -> tuple[str, ...]:
    """M3FD's canonical order when every name is one of M3FD's; otherwise the order the file gives."""
    if names and set(names) <= set(M3FD_CLASSES):
        return M3FD_CLASSES
    return names


def _load(path: Path, problems: list[Problem]) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        problems.append(Problem(path, f"cannot be read: {error.strerror or error}"))
        return None
    except (ValueError, RecursionError) as error:
        problems.append(Problem(path, f"is not valid JSON: {error}"))
        return None
    if not isinstance(content, dict):
        problems.append(Problem(path, "is not COCO detection JSON: its top level is not an object"))
        return None
    return content


def _categories(items: list[Any], path: Path, problems: list[Problem]) -> dict[Any, str]:
    """Category id → name, in the order of the ids."""
    names: dict[Any, str] = {}
    for position, item in enumerate(items, start=1):
        valid = isinstance(item, dict) and isinstance(item.get("id"), int) and isinstance(item.get("name"), str)
        if not valid:
            problems.append(Problem(path, f"category {position} needs an integer id and a name"))
        elif item["id"] in names or item["name"] in names.values():
            problems.append(Problem(path, f"category {item['name']!r} (id {item['id']}) is there twice"))
        else:
            names[item["id"]] = item["name"].strip()
    return dict(sorted(names.items()))


def _images(
    items: list[Any], path: Path, problems: list[Problem]
) -> tuple[dict[Any, list[RawBox]], dict[Any, tuple[str, dict[str, Any]]]]:
    """Empty box lists and (stem, image entry), both by image id."""
    images: dict[Any, tuple[str, dict[str, Any]]] = {}
    stems: set[str] = set()
    for position, item in enumerate(items, start=1):
        valid = (
            isinstance(item, dict)
            and isinstance(item.get("id"), int | str)
            and isinstance(item.get("file_name"), str)
            and item["file_name"].strip("/ ")
        )
        if not valid:
            problems.append(Problem(path, f"image {position} needs an id and a file_name"))
            continue
        stem = image_stem(item["file_name"])
        if item["id"] in images:
            problems.append(Problem(path, f"image id {item['id']!r} is there twice"))
        elif stem in stems:
            problems.append(Problem(path, f"image {item['file_name']!r} has the stem of another image"))
        else:
            images[item["id"]] = (stem, item)
            stems.add(stem)
    return {key: [] for key in images}, images


def _box(
    item: Any,
    position: int,
    names: Mapping[Any, str],
    images: Mapping[Any, tuple[str, dict[str, Any]]],
    path: Path,
    problems: list[Problem],
) -> tuple[Any, RawBox] | None:
    if not isinstance(item, dict):
        problems.append(Problem(path, f"annotation {position} is not an object"))
        return None
    where = f"annotation {item.get('id', f'number {position}')}"
    image, category, bbox = item.get("image_id"), item.get("category_id"), item.get("bbox")
    faults = []
    if not isinstance(image, int | str) or image not in images:
        faults.append(f"image_id {image!r} is not in images")
    if not isinstance(category, int) or category not in names:
        faults.append(f"category_id {category!r} is not in categories")
    if not (isinstance(bbox, list) and len(bbox) == 4 and all(_is_number(value) for value in bbox)):
        faults.append(f"bbox {bbox!r} is not four numbers (x, y, width, height)")
    problems.extend(Problem(path, f"{where}: {fault}") for fault in faults)
    if faults or not isinstance(bbox, list):
        return None
    x, y, width, height = (float(value) for value in bbox)
    where += f" (image {images[image][0]})"
    return image, RawBox(names[category], x, y, x + width, y + height, where)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _declared_size(image: Mapping[str, Any]) -> tuple[int | None, int | None]:
    width, height = image.get("width"), image.get("height")
    return (
        width if isinstance(width, int) and width > 0 else None,
        height if isinstance(height, int) and height > 0 else None,
    )


def _condition(image: Mapping[str, Any]) -> str | None:
    return next((word for key in _CONDITION_KEYS if (word := normal_condition(image.get(key)))), None)
