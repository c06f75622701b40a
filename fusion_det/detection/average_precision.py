"""Average precision in the YOLO manner, and its bootstrap: pure numpy on matched detections.

The YOLO manner (ultralytics, since YOLOv5): precision envelope with sentinels, interpolated at 101 recalls, integrated with
the trapezoid rule; mAP is the mean over the classes that have objects. It is what Table VI of the S4Fusion paper prints.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fusion_det.detection.matching import match_at_thresholds
from fusion_det.detection.resampling import bootstrap_weights

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
"""The ten IoU thresholds of mAP50-95; column 0 is mAP50."""

RECALLS = np.linspace(0.0, 1.0, 101)


@dataclass(frozen=True, eq=False)
class ImageBoxes:
    """Boxes of one image. xyxy: (N, 4) pixels; labels: (N,) class index; scores: (N,) in [0, 1], or None for ground truth."""

    xyxy: np.ndarray
    labels: np.ndarray
    scores: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Matches:
    """Every detection of a set of images, in order of falling score, with what it matched.

    image: (M,) index of its image. label: (M,). score: (M,). correct: (M, 10) bool, one column per IoU threshold.
    objects: (I, K) number of ground-truth objects per image and class.
    """

    image: np.ndarray
    label: np.ndarray
    score: np.ndarray
    correct: np.ndarray
    objects: np.ndarray

    def subset(self, images: np.ndarray) -> Matches:
        """Only these images ((I,) bool)."""
        keep = images[self.image]
        return Matches(
            self.image[keep],
            self.label[keep],
            self.score[keep],
            self.correct[keep],
            self.objects * images[:, None],
        )


def match_images(ground_truth: Sequence[ImageBoxes], detections: Sequence[ImageBoxes], n_classes: int) -> Matches:
    """Match detections to objects image by image (both sequences in the same image order)."""
    image, label, score, correct = [], [], [], []
    objects = np.zeros((len(ground_truth), n_classes), np.int64)
    for i, (truth, found) in enumerate(zip(ground_truth, detections, strict=True)):
        np.add.at(objects[i], truth.labels, 1)
        scores = found.scores if found.scores is not None else np.ones(len(found.labels))
        matched = match_at_thresholds(truth.xyxy, truth.labels, found.xyxy, found.labels, scores, IOU_THRESHOLDS)
        image.append(np.full(len(found.labels), i))
        label.append(found.labels)
        score.append(scores)
        correct.append(matched >= 0)
    scores = np.concatenate(score) if score else np.zeros(0)
    order = np.argsort(-scores, kind="stable")
    return Matches(
        image=np.concatenate(image)[order].astype(np.int64) if image else np.zeros(0, np.int64),
        label=np.concatenate(label)[order].astype(np.int64) if label else np.zeros(0, np.int64),
        score=scores[order],
        correct=np.concatenate(correct)[order] if correct else np.zeros((0, len(IOU_THRESHOLDS)), bool),
        objects=objects,
    )


def precision_envelope(recall: np.ndarray, precision: np.ndarray) -> np.ndarray:
    """Interpolated precision at the 101 recalls, (101,). ``recall``, ``precision``: (M,), by falling score."""
    last = recall[-1] if len(recall) else 1.0
    r = np.concatenate(([0.0], recall, [last, 1.0]))
    p = np.concatenate(([1.0], precision, [0.0, 0.0]))
    p = np.maximum.accumulate(p[::-1])[::-1]
    return np.interp(RECALLS, r, p)


def _curve(correct: np.ndarray, weight: np.ndarray, n_objects: float) -> np.ndarray:
    """Envelope of one class at one threshold; ``weight``: (M,) how often each detection's image counts."""
    true = np.cumsum(correct * weight)
    shown = np.cumsum(weight)
    counted = shown > 0
    true, shown = true[counted], shown[counted]
    if not len(shown):
        return np.zeros_like(RECALLS)
    return precision_envelope(true / n_objects, true / shown)


def class_curves(matches: Matches, threshold: int = 0, weight: np.ndarray | None = None) -> np.ndarray:
    """Interpolated precision per class, (K, 101), NaN rows for classes without objects.

    threshold: column of ``matches.correct``. weight: (I,) how often each image counts (a bootstrap replicate), default once.
    """
    images = np.ones(len(matches.objects)) if weight is None else weight
    n_objects = images @ matches.objects
    curves = np.full((matches.objects.shape[1], len(RECALLS)), np.nan)
    for k in np.flatnonzero(n_objects > 0):
        rows = matches.label == k
        curves[k] = _curve(matches.correct[rows, threshold], images[matches.image[rows]], float(n_objects[k]))
    return curves


def class_ap(matches: Matches, threshold: int = 0, weight: np.ndarray | None = None) -> np.ndarray:
    """AP per class at one IoU threshold, (K,), NaN for classes without objects."""
    return np.trapezoid(class_curves(matches, threshold, weight), RECALLS, axis=1)


def mean_or_nan(values: np.ndarray) -> float:
    """Mean over the defined entries; NaN (without a warning) if there are none."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else float("nan")


def bootstrap_map50(matches: Matches, groups: Sequence[str], *, replicates: int = 1000, seed: int = 0) -> np.ndarray:
    """mAP50 of ``replicates`` resamplings of the test set, (B,).

    Whole groups (capture runs) are drawn with replacement, because consecutive frames of one run are nearly the same image
    and resampling them one by one would make every interval too narrow. Give each image a group of its own where runs are
    unknown. A class that a replicate happens to draw no object of keeps its AP on the whole test set: leaving it out would
    make mAP jump by what a rare class weighs. Replicate i draws the same groups for every method that is evaluated on the
    same images with the same seed, so differences between methods are paired.

    Args:
        groups: (I,) group name of each image.
    """
    whole = class_ap(matches)
    result = np.empty(replicates)
    for b, weight in enumerate(bootstrap_weights(groups, replicates, seed)):
        ap = class_ap(matches, 0, weight)
        result[b] = mean_or_nan(np.where(np.isnan(ap), whole, ap))
    return result


def operating_point(matches: Matches) -> Mapping[str, float]:
    """Confidence with the highest F1 at IoU 0.5 over all classes together, with its precision and recall."""
    n = matches.objects.sum()
    if not n or not len(matches.score):
        return {"confidence": 0.0, "precision": 0.0, "recall": 0.0, "f1": 0.0}
    true = np.cumsum(matches.correct[:, 0])
    precision, recall = true / np.arange(1, len(true) + 1), true / n
    f1 = np.divide(
        2 * precision * recall,
        precision + recall,
        out=np.zeros_like(precision),
        where=precision + recall > 0,
    )
    best = int(f1.argmax())
    return {
        "confidence": float(matches.score[best]),
        "precision": float(precision[best]),
        "recall": float(recall[best]),
        "f1": float(f1[best]),
    }
