"""Which test images the overlays show, and what every method found and missed in them."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fusion_det.detection.matching import match_greedy
from fusion_det.pipeline.results import ExperimentResults, MethodRun
from fusion_det.report.summary import MethodSummary, Summary

IOU = 0.5
NEIGHBOURS = 20
"""Ids closer than this are likely frames of one capture run; one of them is enough to look at."""


@dataclass(frozen=True, eq=False)
class Objects:
    """Boxes of one image: xyxy (N, 4) float64 pixels, labels (N,) int64 class index, scores (N,) float64 (1 for truth)."""

    xyxy: np.ndarray
    labels: np.ndarray
    scores: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)


NO_OBJECTS = Objects(np.zeros((0, 4)), np.zeros(0, np.int64), np.zeros(0))


@dataclass(frozen=True, eq=False)
class Panel:
    """What one method did in one image. ``matched``: (M,) index of the object each detection found, -1 = false positive."""

    method: MethodSummary
    seed: int
    found: Objects
    matched: np.ndarray
    objects: int

    @property
    def hits(self) -> int:
        return int((self.matched >= 0).sum())

    @property
    def false_positives(self) -> int:
        return int((self.matched < 0).sum())

    @property
    def f1(self) -> float:
        """2 TP / (2 TP + FP + FN); 1 for an empty image left empty."""
        total = len(self.found) + self.objects
        return 2 * self.hits / total if total else 1.0


@dataclass(frozen=True, eq=False)
class Scene:
    """One test image as all methods saw it. ``why``: "chosen in the experiment" or "methods disagree"."""

    stem: str
    condition: str | None
    why: str
    truth: Objects
    panels: tuple[Panel, ...]

    def finders(self) -> np.ndarray:
        """(N,) number of methods that found each object."""
        counts = np.zeros(len(self.truth), np.int64)
        for panel in self.panels:
            np.add.at(counts, panel.matched[panel.matched >= 0], 1)
        return counts


def choose_scenes(results: ExperimentResults, summary: Summary) -> tuple[Scene, ...]:
    """The fixed ids of the experiment, then the test images whose F1 varies most over the methods.

    One training seed is looked at (the one most methods have): a picture shows one detector, not a mean of them.
    """
    methods = [m for m in summary.methods if m.info.images is not None and _with_detections(m)]
    if not methods or "test" not in results.ground_truth or not results.ground_truth["test"].is_file():
        return ()
    confidence = confidence_threshold(results)
    truth = load_truth(results.ground_truth["test"])
    found = {m.info.name: _detections_of(m, summary, confidence) for m in methods}
    panels = {
        stem: tuple(
            _panel(m, found[m.info.name][0], objects, found[m.info.name][1].get(stem, NO_OBJECTS)) for m in methods
        )
        for stem, objects in truth.items()
    }
    fixed = [stem for stem in map(str, results.report.get("overlay_ids", ())) if stem in truth]
    rows = int(results.report.get("disagreement_rows", 4))
    spread = {stem: float(np.var([p.f1 for p in row])) for stem, row in panels.items()}
    disagreeing = most_telling(spread, results.dataset.conditions, rows, taken=fixed)
    reasons = dict.fromkeys(fixed, "chosen in the experiment") | dict.fromkeys(disagreeing, "methods disagree")
    return tuple(
        Scene(stem, results.dataset.conditions.get(stem), why, truth[stem], panels[stem])
        for stem, why in reasons.items()
    )


def confidence_threshold(results: ExperimentResults) -> float:
    """Detections below it are not drawn."""
    return float(results.report.get("confidence", 0.25))


def most_telling(
    spread: Mapping[str, float], conditions: Mapping[str, str], count: int, taken: Sequence[str] = ()
) -> list[str]:
    """``count`` stems of largest spread, each condition discounted by half for every time it was chosen already.

    Frames next to one chosen already come last, for they show the same scene. Stems without any spread are not telling.
    """
    chosen: list[str] = []
    left = sorted((stem for stem, s in spread.items() if s > 0 and stem not in taken), key=lambda s: (-spread[s], s))
    for allow_neighbours in (False, True):
        while left and len(chosen) < count:
            used = [conditions.get(stem) for stem in [*taken, *chosen]]
            scores = [
                (spread[stem] * 0.5 ** used.count(conditions.get(stem)), -i)
                for i, stem in enumerate(left)
                if allow_neighbours or not any(_neighbours(stem, other) for other in [*taken, *chosen])
            ]
            if not scores:
                break
            chosen.append(left.pop(-max(scores)[1]))
    return chosen


def load_truth(path: Path) -> dict[str, Objects]:
    """COCO ground truth → stem → objects, for every image, crowd regions left out."""
    document = json.loads(path.read_text(encoding="utf-8"))
    rows: dict[str, list[Any]] = {str(image["id"]): [] for image in document["images"]}
    for a in document["annotations"]:
        if not a.get("iscrowd"):
            rows[str(a["image_id"])].append((a["bbox"], a["category_id"] - 1, 1.0))
    return {stem: _objects(found) for stem, found in rows.items()}


def load_detections(path: Path, confidence: float) -> dict[str, Objects]:
    """COCO results → stem → detections of at least this confidence."""
    rows: dict[str, list[Any]] = defaultdict(list)
    for d in json.loads(path.read_text(encoding="utf-8")):
        if d["score"] >= confidence:
            rows[str(d["image_id"])].append((d["bbox"], d["category_id"] - 1, d["score"]))
    return {stem: _objects(found) for stem, found in rows.items()}


def _objects(rows: Sequence[Any]) -> Objects:
    xywh = np.array([r[0] for r in rows], np.float64).reshape(-1, 4)
    xyxy = np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1)
    return Objects(xyxy, np.array([r[1] for r in rows], np.int64), np.array([r[2] for r in rows], np.float64))


def _detections_of(method: MethodSummary, summary: Summary, confidence: float) -> tuple[int, dict[str, Objects]]:
    shown = _with_detections(method)
    usual = _usual_seed(summary)
    seed = usual if usual in shown else min(shown)
    return seed, load_detections(shown[seed].detections["test"], confidence)


def _with_detections(method: MethodSummary) -> dict[int, MethodRun]:
    """Seed → run, for the runs whose detections on the test split are (still) there."""
    return {run.seed: run for run in method.ok if "test" in run.detections and run.detections["test"].is_file()}


def _usual_seed(summary: Summary) -> int | None:
    """The seed that most methods have, the smallest of those."""
    counts = {seed: sum(seed in m.values for m in summary.methods) for seed in summary.seeds}
    return max(counts, key=lambda s: (counts[s], -s)) if counts else None


def _panel(method: MethodSummary, seed: int, truth: Objects, found: Objects) -> Panel:
    matched = match_greedy(truth.xyxy, truth.labels, found.xyxy, found.labels, found.scores, IOU)
    return Panel(method, seed, found, matched, len(truth))


def _neighbours(a: str, b: str) -> bool:
    """True for ids such as 00215 and 00220: the same text before numbers that are close."""
    left, right = (re.fullmatch(r"(.*?)(\d+)", stem) for stem in (a, b))
    if left is None or right is None:
        return False
    return left[1] == right[1] and abs(int(left[2]) - int(right[2])) < NEIGHBOURS
