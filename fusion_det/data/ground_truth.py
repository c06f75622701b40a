"""Ground truth as COCO JSON, for COCO's tools and for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fusion_det.data.pair import PairDataset
from fusion_det.errors import DatasetError


def coco_ground_truth(dataset: PairDataset, stems: Sequence[str]) -> dict[str, Any]:
    """COCO detection ground truth of these stems, in this order.

    Image ``id`` is the stem, ``file_name`` STEM.png; category ids are 1-based in the order of the dataset's classes; boxes
    are [x, y, width, height] in pixels, as precise as they were read; ``condition`` (day/night/…) and ``run`` (capture run)
    are null where unknown.

    Raises:
        DatasetError: a stem without boxes (unannotated is not empty).
    """
    records = dataset.select(stems)
    unlabelled = [record.stem for record in records if record.boxes is None]
    if unlabelled:
        raise DatasetError(f"{dataset.name} has no boxes for: {', '.join(unlabelled[:10])}")
    images, annotations = [], list[dict[str, Any]]()
    for record in records:
        images.append(
            {
                "id": record.stem,
                "file_name": f"{record.stem}.png",
                "width": record.width,
                "height": record.height,
                "condition": record.condition,
                "run": record.run,
            }
        )
        if record.boxes is None:
            continue
        for (x0, y0, x1, y1), label in zip(record.boxes.xyxy.tolist(), record.boxes.labels.tolist(), strict=True):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": record.stem,
                    "category_id": label + 1,
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                    "area": (x1 - x0) * (y1 - y0),
                    "iscrowd": 0,
                }
            )
    return {
        "info": {"description": f"{dataset.name}, {len(images)} images", "content_digest": dataset.content_digest},
        "images": images,
        "annotations": annotations,
        "categories": [{"id": i, "name": name} for i, name in enumerate(dataset.classes, start=1)],
    }
