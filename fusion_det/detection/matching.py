"""Which detection found which object: the greedy matching every AP in this project is built on (numpy only)."""

from __future__ import annotations

import numpy as np


def box_iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Intersection over union of every pair of boxes.

    Args:
        a: (N, 4) and
        b: (M, 4), ``x0, y0, x1, y1`` in pixels, with exclusive x1, y1.

    Returns:
        (N, M) float64 in [0, 1]; 0 where both boxes are empty.
    """
    a, b = np.asarray(a, np.float64).reshape(-1, 4), np.asarray(b, np.float64).reshape(-1, 4)
    top_left = np.maximum(a[:, None, :2], b[None, :, :2])
    bottom_right = np.minimum(a[:, None, 2:], b[None, :, 2:])
    intersection = np.clip(bottom_right - top_left, 0, None).prod(axis=2)
    area_a = np.clip(a[:, 2:] - a[:, :2], 0, None).prod(axis=1)
    area_b = np.clip(b[:, 2:] - b[:, :2], 0, None).prod(axis=1)
    union = area_a[:, None] + area_b[None, :] - intersection
    return np.divide(intersection, union, out=np.zeros_like(intersection), where=union > 0)


def match_greedy(
    gt_boxes: np.ndarray,
    gt_labels: np.ndarray,
    boxes: np.ndarray,
    labels: np.ndarray,
    scores: np.ndarray,
    iou: float = 0.5,
) -> np.ndarray:
    """Assign detections of one image to its objects: in order of falling score, each takes the free object of its
    class that it overlaps most, if by at least ``iou`` (the COCO and YOLO rule).

    Args:
        gt_boxes: (N, 4) and
        boxes: (M, 4), ``x0, y0, x1, y1`` pixels.
        gt_labels: (N,) and
        labels: (M,) class indices.
        scores: (M,) confidences; ties go to the earlier detection.

    Returns:
        (M,) int64: index of the object a detection found, -1 for a false positive. Objects nobody found are misses.
    """
    matched = match_at_thresholds(gt_boxes, gt_labels, boxes, labels, scores, np.array([iou]))
    return matched[:, 0]


def match_at_thresholds(
    gt_boxes: np.ndarray,
    gt_labels: np.ndarray,
    boxes: np.ndarray,
    labels: np.ndarray,
    scores: np.ndarray,
    thresholds: np.ndarray,
) -> np.ndarray:
    """:func:`match_greedy` at several IoU thresholds (T,) at once: (M, T) int64."""
    gt_labels, labels, scores = np.asarray(gt_labels), np.asarray(labels), np.asarray(scores)
    result = np.full((len(labels), len(thresholds)), -1, np.int64)
    if not len(labels) or not len(gt_labels):
        return result
    overlap = box_iou(gt_boxes, boxes) * (gt_labels[:, None] == labels[None, :])
    taken = np.zeros((len(gt_labels), len(thresholds)), bool)
    columns = np.arange(len(thresholds))
    candidates = overlap.max(axis=0) >= thresholds.min()
    for j in np.argsort(-scores, kind="stable"):
        if not candidates[j]:
            continue
        free = np.where(taken, 0.0, overlap[:, j, None])
        best = free.argmax(axis=0)
        hit = free[best, columns] >= thresholds
        result[j, hit] = best[hit]
        taken[best[hit], columns[hit]] = True
    return result
