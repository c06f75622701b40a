"""Which images the overlays show, and what every method found and missed in them."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from fusion_det.detection.matching import match_greedy
from fusion_det.pipeline.results import ExperimentResults, MethodRun
from fusion_det.report.formatting import join_words
from fusion_det.report.summary import MethodSummary, Summary

TEST, EXTRA = "test", "extra"
"""Keys of the results' ground truth and detections: the test part, and chosen images that lie outside it."""
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
    """One image as all methods saw it.

    why: "chosen in the experiment" or "methods disagree". part: "test", or the part of the split that a chosen image
    outside the test part lies in ("train", "val"): its detections are to look at and count in no figure.
    """

    stem: str
    condition: str | None
    why: str
    truth: Objects
    panels: tuple[Panel, ...]
    part: str = TEST

    def finders(self) -> np.ndarray:
        """(N,) number of methods that found each object."""
        counts = np.zeros(len(self.truth), np.int64)
        for panel in self.panels:
            np.add.at(counts, panel.matched[panel.matched >= 0], 1)
        return counts


@dataclass(frozen=True, eq=False)
class Choice:
    """The scenes to show, and a note on chosen images that cannot be shown ("" if all can)."""

    scenes: tuple[Scene, ...]
    note: str = ""


def choose_scenes(results: ExperimentResults, summary: Summary) -> Choice:
    """The fixed ids of the experiment, then the test images whose F1 varies most over the methods.

    A fixed id outside the test part is shown where the results hold its ground truth and detections; it has no say in which
    test images are chosen. One training seed is looked at (the one most methods have): a picture shows one detector, not a
    mean of them.
    """
    fixed = dict.fromkeys(map(str, results.report.get("overlay_ids", ())))
    parts = results.report.get("overlay_parts", {})
    test, extra = (_scenes_of(results, summary, key) for key in (TEST, EXTRA))
    extra = {stem: replace(scene, part=str(parts.get(stem, "train"))) for stem, scene in extra.items()}
    spread = {stem: float(np.var([p.f1 for p in scene.panels])) for stem, scene in test.items()}
    rows = int(results.report.get("disagreement_rows", 4))
    disagreeing = most_telling(spread, results.dataset.conditions, rows, taken=[s for s in fixed if s in test])
    known = test | {stem: scene for stem, scene in extra.items() if stem in fixed and stem not in test}
    chosen = [replace(known[stem], why="chosen in the experiment") for stem in fixed if stem in known]
    return Choice(
        (*chosen, *(test[stem] for stem in disagreeing)), _missing([s for s in fixed if s not in known], parts)
    )


def _scenes_of(results: ExperimentResults, summary: Summary, key: str) -> dict[str, Scene]:
    """Stem → scene, for every image of ``ground_truth[key]``; {} without ground truth or detections."""
    path = results.ground_truth.get(key)
    methods = [m for m in summary.methods if m.info.images is not None and _with_detections(m, key)]
    if not methods or path is None or not path.is_file():
        return {}
    truth, conditions = load_truth(path), _conditions(path) | results.dataset.conditions
    found = {m.info.name: _detections_of(m, summary, confidence_threshold(results), key) for m in methods}
    scenes = {}
    for stem, objects in truth.items():
        panels = []
        for m in methods:
            seed, detections = found[m.info.name]
            panels.append(_panel(m, seed, objects, detections.get(stem, NO_OBJECTS)))
        scenes[stem] = Scene(stem, conditions.get(stem), "methods disagree", objects, tuple(panels))
    return scenes


def _missing(stems: Sequence[str], parts: Mapping[str, str]) -> str:
    unknown = [stem for stem in stems if stem not in parts]
    unseen = [stem for stem in stems if stem in parts]
    notes = []
    if unknown:
        notes.append(
            f"Asked for as overlay, but these results know no labelled image of that name: {', '.join(unknown)} "
            "(report.overlay_ids of the experiment)."
        )
    if unseen:
        notes.append(
            f"Asked for as overlay, but there are no detections of {join_words(unseen)}; run the experiment again to have them."
        )
    return " ".join(notes)


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


def _conditions(path: Path) -> dict[str, str]:
    images = json.loads(path.read_text(encoding="utf-8"))["images"]
    return {str(image["id"]): str(image["condition"]) for image in images if image.get("condition")}


def _detections_of(
    method: MethodSummary, summary: Summary, confidence: float, key: str
) -> tuple[int, dict[str, Objects]]:
    shown = _with_detections(method, key)
    usual = _usual_seed(summary)
    seed = usual if usual in shown else min(shown)
    return seed, load_detections(shown[seed].detections[key], confidence)


def _with_detections(method: MethodSummary, key: str) -> dict[int, MethodRun]:
    """Seed → run, for the runs whose detections of that part are (still) there."""
    return {run.seed: run for run in method.ok if key in run.detections and run.detections[key].is_file()}


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
