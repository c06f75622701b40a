"""From raw detections to every figure of the report. Detections are saved once; all AP are computed from them, here."""

from __future__ import annotations

import contextlib
import io
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fusion_det.detection.average_precision import (
    IOU_THRESHOLDS,
    RECALLS,
    ImageBoxes,
    Matches,
    bootstrap_map50,
    class_ap,
    class_curves,
    match_images,
    mean_or_nan,
    operating_point,
)
from fusion_det.detection.resampling import bootstrap_groups
from fusion_det.errors import FusionDetError

SCHEMA_VERSION = 1
BOOTSTRAP_REPLICATES = 1000
COCO_SIZES = ("small", "medium", "large")


def evaluate(
    ground_truth: Mapping[str, Any],
    detections: Sequence[Mapping[str, Any]],
    *,
    replicates: int = BOOTSTRAP_REPLICATES,
) -> dict[str, Any]:
    """All figures of one (method, seed) on one split, as fractions in [0, 1]; None where there is no object to find.

    Args:
        ground_truth: COCO ground truth; image ids are stems; images may carry ``condition`` and ``run``.
        detections: COCO results: ``image_id``, ``category_id``, ``bbox`` [x, y, w, h] in pixels, ``score``.
        replicates: bootstrap replicates of mAP50; 0 for none.

    Returns:
        ``schema_version``, ``images``, ``boxes``;
        ``mAP50``, ``mAP50_95``: the YOLO way (see :mod:`fusion_det.detection.average_precision`), as in Table VI;
        ``coco``: AP50_95, AP50, AP75, AP_small, AP_medium, AP_large by COCO's own rules (100 detections an image);
        ``per_class``: name → AP50, AP50_95 (YOLO), coco_AP50, boxes, precision and recall at the operating point;
        ``per_condition``: condition → images, boxes, mAP50 (YOLO) over the images of that condition;
        ``per_size``: small/medium/large (area below 32², 96² pixels, above) → boxes, AP50 (COCO);
        ``pr_curve``: recall (101), per_class → precision (101), mean (101), at IoU 0.5;
        ``operating_point``: confidence, precision, recall, f1 where F1 over all classes is highest;
        ``bootstrap``: seed, unit ("run", "image", or "run or image" where some runs are unknown), number of groups, and the
        replicates of mAP50, paired across methods.

    Raises:
        FusionDetError: a detection of an image or class that the ground truth does not know.
    """
    names = [c["name"] for c in sorted(ground_truth["categories"], key=lambda c: c["id"])]
    images = ground_truth["images"]
    truth, found = _by_image(ground_truth, detections)
    matches = match_images(truth, found, len(names))
    ap = np.stack([class_ap(matches, t) for t in range(len(IOU_THRESHOLDS))], axis=1)
    boxes = matches.objects.sum(axis=0)
    coco = coco_precision(ground_truth, detections)
    point = operating_point(matches)
    curves = class_curves(matches)
    per_class = {}
    for k, name in enumerate(names):
        shown = (matches.label == k) & (matches.score >= point["confidence"])
        hits = int(matches.correct[shown, 0].sum())
        per_class[name] = {
            "AP50": _number(ap[k, 0]),
            "AP50_95": _number(ap[k].mean()),
            "coco_AP50": _ap(coco, iou=0.5, label=k),
            "boxes": int(boxes[k]),
            "precision": hits / int(shown.sum()) if shown.any() else None,
            "recall": hits / int(boxes[k]) if boxes[k] else None,
        }
    result: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "images": len(images),
        "boxes": int(boxes.sum()),
        "mAP50": _number(mean_or_nan(ap[:, 0])),
        "mAP50_95": _number(mean_or_nan(ap.mean(axis=1))),
        "coco": {
            "AP50_95": _ap(coco),
            "AP50": _ap(coco, iou=0.5),
            "AP75": _ap(coco, iou=0.75),
            **{f"AP_{size}": _ap(coco, size=size) for size in COCO_SIZES},
        },
        "per_class": per_class,
        "per_condition": _per_condition(images, matches),
        "per_size": _per_size(ground_truth, coco),
        "pr_curve": {
            "recall": RECALLS.round(2).tolist(),
            "per_class": {n: curves[k].round(5).tolist() for k, n in enumerate(names) if not np.isnan(curves[k]).any()},
            "mean": np.nanmean(curves, axis=0).round(5).tolist() if boxes.any() else [],
        },
        "operating_point": dict(point),
    }
    if replicates and boxes.any():
        groups, unit = bootstrap_groups(images)
        samples = bootstrap_map50(matches, groups, replicates=replicates)
        result["bootstrap"] = {
            "seed": 0,
            "unit": unit,
            "groups": len(set(groups)),
            "mAP50": [_number(s) for s in samples.round(6)],
        }
    return result


def evaluate_files(ground_truth: Path, detections: Path, *, replicates: int = BOOTSTRAP_REPLICATES) -> dict[str, Any]:
    """:func:`evaluate` on JSON files."""
    return evaluate(
        json.loads(ground_truth.read_text(encoding="utf-8")),
        json.loads(detections.read_text(encoding="utf-8")),
        replicates=replicates,
    )


def _by_image(
    ground_truth: Mapping[str, Any], detections: Sequence[Mapping[str, Any]]
) -> tuple[list[ImageBoxes], list[ImageBoxes]]:
    order = [image["id"] for image in ground_truth["images"]]
    known = set(order)
    label_of = {c["id"]: k for k, c in enumerate(sorted(ground_truth["categories"], key=lambda c: c["id"]))}
    truth: dict[str, list[tuple[list[float], int, float]]] = defaultdict(list)
    found: dict[str, list[tuple[list[float], int, float]]] = defaultdict(list)
    for a in ground_truth["annotations"]:
        truth[a["image_id"]].append((a["bbox"], label_of[a["category_id"]], 1.0))
    for d in detections:
        if d["image_id"] not in known or d["category_id"] not in label_of:
            raise FusionDetError(
                f"a detection of image {d['image_id']!r}, category {d['category_id']!r} is not of this ground truth; "
                "the detections were made for another split or class list"
            )
        found[d["image_id"]].append((d["bbox"], label_of[d["category_id"]], d["score"]))
    return [_image_boxes(truth[i]) for i in order], [_image_boxes(found[i]) for i in order]


def _image_boxes(rows: list[tuple[list[float], int, float]]) -> ImageBoxes:
    xywh = np.array([r[0] for r in rows], np.float64).reshape(-1, 4)
    xyxy = np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1)
    return ImageBoxes(xyxy, np.array([r[1] for r in rows], np.int64), np.array([r[2] for r in rows], np.float64))


def coco_precision(ground_truth: Mapping[str, Any], detections: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """COCO's precision array by faster-coco-eval: (10 IoU, 101 recall, K classes, 4 areas, 3 maxDets), -1 where undefined."""
    from faster_coco_eval import COCO, COCOeval_faster

    number = {image["id"]: n for n, image in enumerate(ground_truth["images"], 1)}
    truth = {
        "images": [{**image, "id": number[image["id"]]} for image in ground_truth["images"]],
        "annotations": [{**a, "image_id": number[a["image_id"]]} for a in ground_truth["annotations"]],
        "categories": list(ground_truth["categories"]),
    }
    shape = (len(IOU_THRESHOLDS), len(RECALLS), len(truth["categories"]), 4, 3)
    if not truth["annotations"]:
        return np.full(shape, -1.0)
    results = [{**d, "image_id": number[d["image_id"]]} for d in detections]
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(truth)
        if not results:  # loadRes refuses an empty list; no detection means precision 0 wherever there are objects
            empty = np.full(shape, -1.0)
            for k, c in enumerate(sorted(truth["categories"], key=lambda c: c["id"])):
                if any(a["category_id"] == c["id"] for a in truth["annotations"]):
                    empty[:, :, k] = 0.0
            return empty
        evaluator = COCOeval_faster(coco, coco.loadRes(results), iouType="bbox", print_function=lambda *_: None)
        evaluator.evaluate()
        evaluator.accumulate()
    return np.asarray(evaluator.eval["precision"], np.float64).reshape(shape)


def _ap(
    precision: np.ndarray, *, iou: float | None = None, label: int | None = None, size: str | None = None
) -> float | None:
    """Mean of COCO's precision over the chosen part (maxDets 100), None if undefined."""
    area = 0 if size is None else 1 + COCO_SIZES.index(size)
    part = precision[:, :, :, area, -1]
    if iou is not None:
        part = part[[int(np.argmin(np.abs(IOU_THRESHOLDS - iou)))]]
    if label is not None:
        part = part[:, :, [label]]
    part = part[part > -1]
    return float(part.mean()) if part.size else None


def _per_condition(images: Sequence[Mapping[str, Any]], matches: Matches) -> dict[str, Any]:
    conditions = [image.get("condition") for image in images]
    table = {}
    for condition in sorted({c for c in conditions if c}):
        chosen = np.array([c == condition for c in conditions])
        part = matches.subset(chosen)
        table[condition] = {
            "images": int(chosen.sum()),
            "boxes": int(part.objects.sum()),
            "mAP50": _number(mean_or_nan(class_ap(part))),
        }
    return table


def _per_size(ground_truth: Mapping[str, Any], coco: np.ndarray) -> dict[str, Any]:
    areas = np.array([a["area"] for a in ground_truth["annotations"]], np.float64)
    size = np.digitize(areas, [32**2, 96**2])
    return {
        name: {"boxes": int((size == i).sum()), "AP50": _ap(coco, iou=0.5, size=name)}
        for i, name in enumerate(COCO_SIZES)
    }


def _number(value: float) -> float | None:
    """None for NaN: JSON knows no NaN, and "undefined" is what it means."""
    return None if np.isnan(value) else float(value)
