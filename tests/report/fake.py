"""A made-up experiment on disk: everything a report reads, with detections that hit, miss and invent."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from fusion_det.data.pair import M3FD_CLASSES
from fusion_det.detection.evaluate import evaluate
from fusion_det.pipeline.results import DatasetInfo, ExperimentResults, MethodInfo, MethodRun, SplitInfo

CONDITIONS = ("day", "night", "overcast", "challenge")
SIZES = {
    "People": (10, 26),
    "Car": (44, 26),
    "Bus": (70, 44),
    "Motorcycle": (22, 20),
    "Lamp": (8, 14),
    "Truck": (64, 40),
}


@dataclass(frozen=True)
class FakeMethod:
    """skill: chance to find an object. sees_dark: its factor at night. seeds: that succeed; none means ``failure``."""

    name: str
    label: str
    family: str
    skill: float
    sees_dark: float = 1.0
    seeds: tuple[int, ...] = (0, 1, 2)
    failure: str = ""
    contaminated: bool = False
    paper: float | None = None


METHODS = (
    FakeMethod("ir", "Infrared", "control", 0.62, paper=73.8),
    FakeMethod("vi", "Visible", "control", 0.80, 0.55, paper=79.3),
    FakeMethod("mean", "Mean", "arithmetic", 0.78, 0.85),
    FakeMethod("max", "Maximum", "arithmetic", 0.76, 0.9, seeds=(0,)),
    FakeMethod("gff", "GFF", "multi-scale", 0.93, contaminated=True, paper=80.5),
    FakeMethod(
        "ddfm", "DDFM", "diffusion", 0.8, seeds=(),
        failure="no weights at weights/ddfm/256x256_diffusion_uncond.pt; get them from https://example.org/ddfm "
        "and run `fusion-det methods` to check", paper=80.4,
    ),
)  # fmt: skip


def fake_results(
    folder: Path,
    *,
    methods: tuple[FakeMethod, ...] = METHODS,
    images: int = 24,
    size: tuple[int, int] = (320, 240),
    dataset: str = "demo",
    synthetic: bool = True,
    limit: int | None = None,
    replicates: int = 200,
    share_images: bool = False,
    extra: dict[str, str] | None = None,
) -> ExperimentResults:
    """Write images, ground truth, detections and curves below ``folder`` and return results that point to them.

    ``extra``: stem → part of chosen images outside the test part; "train", "val".
    ``share_images``: draw only eight different scenes and link them (for reports on many large images).
    """
    rng = np.random.default_rng(7)
    stems = [f"{5 * i:05d}" for i in range(images)]
    conditions = {stem: CONDITIONS[i % 4] for i, stem in enumerate([*stems, *(extra or {})])}
    truth = _ground_truth(rng, stems, conditions, size)
    folder.mkdir(parents=True, exist_ok=True)
    truth_path = _dump(folder / "ground_truth.json", truth)
    others = _ground_truth(rng, list(extra), conditions, size) if extra else None
    truth_paths = {"test": truth_path}
    if others:
        truth_paths["extra"] = _dump(folder / "extra.json", others)
    infos, runs = [], []
    for order, method in enumerate(methods):
        found = bool(method.seeds)
        images_dir = folder / "images" / method.name
        if found:
            _draw(images_dir, truth, method, conditions, share_images)
            if others:
                _draw(images_dir, others, method, conditions, False)
        infos.append(_info(method, order, images_dir if found else None))
        seeds = method.seeds or (0, 1, 2)
        runs += [_run(folder, method, seed, truth, conditions, replicates, others) for seed in seeds]
    return ExperimentResults(
        experiment="fake",
        title="a made-up experiment",
        dataset=DatasetInfo(
            name=dataset,
            root=folder,
            synthetic=synthetic,
            classes=M3FD_CLASSES,
            pairs=5 * images,
            labelled=5 * images,
            content_digest="ab" * 32,
            limit=limit,
            conditions={stem: conditions[stem] for stem in stems},
        ),
        split=SplitInfo(
            name="random-712",
            seed=0,
            digest="cd" * 32,
            counts={"train": int(3.5 * images), "val": images // 2, "test": images},
            boxes={"test": {c: sum(a["category_id"] == i + 1 for a in truth["annotations"]) for i, c in enumerate(M3FD_CLASSES)}},
            leakage={"neighbour": 0.91, "run": 0.97},
        ),
        ground_truth=truth_paths,
        methods=tuple(infos),
        runs=tuple(runs),
        detector={
            "model": "yolov5n.yaml", "built": "yolov5nu", "weights": "demo", "epochs": 12, "imgsz": 320, "batch": 16,
        },
        report={
            "overlay_ids": [*(extra or {}), stems[3]], "disagreement_rows": 3, "confidence": 0.25,
            "overlay_parts": extra or {},
        },
        provenance={
            "command": "python -m fusion_det.run --methods all",
            "started": "2025-06-01T10:00:00Z",
            "finished": "2025-06-01T10:05:12Z",
            "commit": "64e6d25",
            "versions": {"fusion_det": "0.1.0", "torch": "2.6", "ultralytics": "8.4.118"},
            "device": "cpu",
            "hostname": "fake",
            "seconds": {"fuse": 12.3, "train": 240.0, "detect": 30.0, "evaluate": 8.0},
            "seeds": {"split": 0, "detector": [0, 1, 2]},
        },
    )  # fmt: skip


def many_methods() -> tuple[FakeMethod, ...]:
    """Seventeen methods with five seeds: as large as the experiment of the paper gets."""
    names = [
        "DeFusion",
        "DDFM",
        "SemLA",
        "U2Fusion",
        "MambaDFuse",
        "IRFS",
        "CrossFuse",
        "EMMA",
        "MAEFuse",
        "S4Fusion",
        "Mean",
        "Maximum",
        "Laplacian",
        "GFF",
        "Mine",
    ]
    seeds = (0, 1, 2, 3, 4)
    controls = tuple(
        FakeMethod(m.name, m.label, m.family, m.skill, m.sees_dark, seeds, paper=m.paper) for m in METHODS[:2]
    )
    return controls + tuple(
        FakeMethod(n.lower(), n, "cnn", 0.8 + 0.01 * i, seeds=seeds, paper=None if i > 9 else 80 + 0.1 * i)
        for i, n in enumerate(names)
    )


def _dump(path: Path, value: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))
    return path


def _info(method: FakeMethod, order: int, images: Path | None) -> MethodInfo:
    learned = method.family not in ("control", "arithmetic")
    return MethodInfo(
        name=method.name,
        label=method.label,
        abbreviation=method.name.upper() if method.family == "control" else method.label[:3],
        title=f"{method.label}: a fusion",
        authors="A. Author et al." if learned else "",
        venue="Information Fusion" if learned else "",
        year=2023 if learned else None,
        family=method.family,
        color="luma",
        weights="https://example.org/" + method.name if learned else "none needed",
        trained_on=("m3fd",) if method.contaminated else (),
        contaminated=method.contaminated,
        table_vi=method.paper,
        order=order,
        seconds_per_pair=0.02 * (order + 1) if images else None,
        images=images,
    )


def _ground_truth(
    rng: np.random.Generator, stems: list[str], conditions: dict[str, str], size: tuple[int, int]
) -> dict[str, Any]:
    width, height = size
    zoom = width / 320
    annotations: list[dict[str, Any]] = []
    for stem in stems:
        for _ in range(rng.integers(2, 7)):
            label = int(rng.choice(6, p=[0.35, 0.35, 0.06, 0.06, 0.12, 0.06]))
            w, h = np.array(SIZES[M3FD_CLASSES[label]]) * zoom * rng.uniform(0.7, 1.4)
            x, y = rng.uniform(0, width - w), rng.uniform(0.35 * height, height - h)
            box = [round(float(v), 2) for v in (x, y, w, h)]
            annotations.append(
                {"id": len(annotations) + 1, "image_id": stem, "category_id": label + 1, "bbox": box,
                 "area": box[2] * box[3], "iscrowd": 0}
            )  # fmt: skip
    return {
        "images": [
            {"id": s, "file_name": f"{s}.png", "width": width, "height": height, "condition": conditions[s]}
            for s in stems
        ],
        "annotations": annotations,
        "categories": [{"id": i + 1, "name": c} for i, c in enumerate(M3FD_CLASSES)],
    }


def _detect(
    rng: np.random.Generator, method: FakeMethod, truth: dict[str, Any], conditions: dict[str, str]
) -> list[dict[str, Any]]:
    found = []
    # What is hard about an object is hard for every method and seed: that is what makes pairing worth it.
    hardness = np.random.default_rng(3).uniform(size=len(truth["annotations"]))
    for annotation, hard in zip(truth["annotations"], hardness, strict=True):
        stem = annotation["image_id"]
        skill = method.skill * (method.sees_dark if conditions[stem] in ("night", "challenge") else 1)
        if 0.8 * hard + 0.2 * rng.uniform() < skill:
            x, y, w, h = annotation["bbox"]
            jitter = rng.normal(0, 0.06, 4) * np.array([w, h, w, h])
            box = np.array([x, y, w, h]) + jitter
            score = float(np.clip(rng.normal(0.35 + 0.5 * (1 - hard), 0.12), 0.02, 0.98))
            found.append((stem, annotation["category_id"], box, score))
    for image in truth["images"]:
        for _ in range(rng.poisson(2.0 * (1.2 - method.skill) + 1)):
            w, h = rng.uniform(0.03, 0.15, 2) * image["width"]
            box = np.array([rng.uniform(0, image["width"] - w), rng.uniform(0, image["height"] - h), w, h])
            found.append((image["id"], int(rng.integers(1, 7)), box, float(rng.beta(1.2, 5))))
    return [
        {"image_id": s, "category_id": c, "bbox": [round(float(v), 2) for v in b], "score": round(p, 4)}
        for s, c, b, p in found
    ]


def _run(
    folder: Path,
    method: FakeMethod,
    seed: int,
    truth: dict[str, Any],
    conditions: dict[str, str],
    replicates: int,
    others: dict[str, Any] | None,
) -> MethodRun:
    if not method.seeds:
        return MethodRun(method=method.name, seed=seed, status="failed", reason=method.failure)
    rng = np.random.default_rng([seed, *method.name.encode()])
    found = _detect(rng, method, truth, conditions)
    place = folder / "runs" / method.name / str(seed)
    detections = {"test": _dump(place / "test.json", found)}
    if others:
        detections["extra"] = _dump(place / "extra.json", _detect(rng, method, others, conditions))
    metrics = json.loads(json.dumps(evaluate(truth, found, replicates=replicates)))
    return MethodRun(
        method=method.name,
        seed=seed,
        status="ok",
        detections=detections,
        metrics=metrics,
        training_curve=_curve(place / "curve.csv", rng, metrics["mAP50"]),
        best_epoch=11,
        device="cpu",
        precision="fp32",
        seconds={"train": 12.0 + seed, "detect": 1.5},
    )


def _curve(path: Path, rng: np.random.Generator, final: float) -> Path:
    with path.open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["epoch", "mAP50", "mAP50_95", "precision", "recall", "box_loss"])
        for epoch in range(1, 13):
            value = max(0.0, final * (1 - np.exp(-epoch / 3)) + rng.normal(0, 0.02))
            writer.writerow([epoch, round(value, 4), round(value / 2, 4), 0.5, 0.5, round(3 / epoch, 4)])
    return path


def _draw(folder: Path, truth: dict[str, Any], method: FakeMethod, conditions: dict[str, str], share: bool) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for index, image in enumerate(truth["images"]):
        path = folder / f"{image['id']}.png"
        if share and index >= 8:
            path.hardlink_to(folder / f"{truth['images'][index % 8]['id']}.png")
            continue
        boxes = [a for a in truth["annotations"] if a["image_id"] == image["id"]]
        _scene(image, boxes, method, conditions[image["id"]]).save(path, compress_level=1)


def _scene(image: dict[str, Any], boxes: list[dict[str, Any]], method: FakeMethod, condition: str) -> Image.Image:
    width, height = image["width"], image["height"]
    infrared = method.name == "ir"
    light = 0.35 if condition in ("night", "challenge") and method.name == "vi" else 1.0
    sky, road = ((60, 60, 60), (90, 90, 90)) if infrared else ((150, 175, 200), (110, 108, 100))
    canvas = Image.new("RGB", (width, height), sky)
    draw = ImageDraw.Draw(canvas)
    draw.rectangle((0, int(0.4 * height), width, height), fill=road)
    for annotation in boxes:
        x, y, w, h = annotation["bbox"]
        colour = (235, 235, 235) if infrared else [(200, 60, 60), (60, 90, 180), (220, 180, 60), (80, 160, 80),
                                                   (240, 240, 200), (150, 110, 90)][annotation["category_id"] - 1]  # fmt: skip
        draw.rounded_rectangle((x, y, x + w, y + h), radius=min(w, h) / 4, fill=colour)
    canvas = canvas.filter(ImageFilter.GaussianBlur(0.6 * width / 320))
    noise = np.random.default_rng(int(image["id"])).normal(0, 5, (height, width, 1))
    return Image.fromarray(np.clip(np.asarray(canvas) * light + noise, 0, 255).astype(np.uint8))
