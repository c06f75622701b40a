"""The census of a dataset: what ``fusion-det data check`` prints."""

from __future__ import annotations

from collections import Counter
from typing import Any

from fusion_det.data.pair import PairDataset

COCO_SMALL, COCO_LARGE = 32**2, 96**2
"""COCO's limits between small, medium and large objects, in square pixels; an object on a limit is of the larger size,
as in :mod:`fusion_det.detection.evaluate`."""


def census(dataset: PairDataset) -> dict[str, Any]:
    """Counts, JSON-able.

    ``sizes``: "WxH" → pairs, most frequent first. ``boxes``: class → n. ``conditions``: condition ("unknown" for none) →
    {"pairs", "labelled", "boxes": class → n}. ``box_sizes``: COCO's small/medium/large → n.
    """
    sizes = Counter(f"{record.width}x{record.height}" for record in dataset)
    labelled = dataset.labelled()
    areas = Counter(
        "small" if area < COCO_SMALL else "medium" if area < COCO_LARGE else "large"
        for record in labelled
        if record.boxes is not None
        for area in _areas(record.boxes.xyxy.tolist())
    )
    names = sorted({record.condition or "unknown" for record in dataset}, key=_condition_order)
    conditions = {}
    for name in names:
        records = [record for record in dataset if (record.condition or "unknown") == name]
        with_boxes = [record.stem for record in records if record.boxes is not None]
        conditions[name] = {
            "pairs": len(records),
            "labelled": len(with_boxes),
            "boxes": dataset.class_counts(with_boxes),
        }
    return {
        "name": dataset.name,
        "root": str(dataset.root),
        "synthetic": dataset.synthetic,
        "limit": dataset.limit,
        "pairs": len(dataset),
        "labelled": len(labelled),
        "empty": sum(1 for record in labelled if record.boxes is not None and len(record.boxes) == 0),
        "sizes": dict(sorted(sizes.items(), key=lambda item: (-item[1], item[0]))),
        "classes": list(dataset.classes),
        "boxes": dataset.class_counts(),
        "box_sizes": {size: areas.get(size, 0) for size in ("small", "medium", "large")},
        "conditions": conditions,
        "runs": len({record.run for record in dataset} - {None}),
        "official_splits": {part: len(stems) for part, stems in dataset.official_splits.items()},
        "content_digest": dataset.content_digest,
    }


def _areas(boxes: list[list[float]]) -> list[float]:
    return [(x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in boxes]


def _condition_order(name: str) -> tuple[int, str]:
    known = ("day", "night", "overcast", "challenge")
    return (known.index(name) if name in known else len(known) + (name == "unknown"), name)
