"""Make the small detector that the demo starts from: ``python -m fusion_det.detection.demo_detector --help``.

It plays the part that COCO weights play in the paper: something that has seen such objects before, and that
favours no fusion method. So it is trained on *other* demo scenes (another seed), each of which it sees as one of
three things by turns: the visible image, the infrared image, or the equal-weight mean of both.
"""

from __future__ import annotations

import json
import logging
import platform
import shutil
import tempfile
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from fusion_det.data import coco_ground_truth, export_yolo, make_split, open_dataset
from fusion_det.data.demo import GENERATOR_VERSION, write_demo
from fusion_det.data.pair import PairRecord
from fusion_det.detection.evaluate import evaluate
from fusion_det.detection.jobs import DetectJob, TrainJob
from fusion_det.detection.launch import run_job
from fusion_det.detection.pretrained import DEMO_WEIGHTS
from fusion_det.errors import ConfigError
from fusion_det.files import digest_file, replace_atomically, write_json

logger = logging.getLogger(__name__)

DEMO_SEED = 0
"""Seed of the scenes the demo itself runs on: never to be trained on here."""
VIEWS = ("vi", "ir", "mean")
"""What the images of consecutive pairs show, by turns."""
HYPERPARAMETERS: dict[str, Any] = {
    "optimizer": "AdamW",
    "lr0": 0.002,
    "lrf": 0.02,
    "momentum": 0.9,
    "weight_decay": 0.0005,
    "warmup_epochs": 1.0,
    "nbs": 16,
    "mosaic": 0.0,
    "scale": 0.35,
    "translate": 0.1,
    "fliplr": 0.5,
}


def main(
    out: Annotated[Path, typer.Option(help="Weights to write; the card goes beside them as .json.")] = DEMO_WEIGHTS,
    scenes: Annotated[int, typer.Option(min=30, help="Pairs to draw.")] = 800,
    seed: Annotated[int, typer.Option(min=1, help="Seed of the scenes; the demo's own is 0.")] = 1,
    epochs: Annotated[int, typer.Option(min=1)] = 10,
    imgsz: Annotated[int, typer.Option(min=64, help="Side the images are scaled to, pixels.")] = 256,
    batch: Annotated[int, typer.Option(min=1)] = 16,
    threads: Annotated[int, typer.Option(min=0, help="CPU threads; 0: all cores.")] = 1,
    device: Annotated[str, typer.Option(help="cpu, cuda:0, …")] = "cpu",
    work: Annotated[
        Path | None,
        typer.Option(help="Folder for scenes and training state; a killed training goes on from there."),
    ] = None,
) -> None:
    """Draw scenes of another seed than the demo's, train YOLOv5n on them from scratch, and write weights and a card."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    folder = work or Path(tempfile.mkdtemp(prefix="demo_detector."))
    try:
        pretrain(out, folder.resolve(), scenes, seed, epochs, imgsz, batch, threads, device)
    finally:
        if work is None:
            shutil.rmtree(folder, ignore_errors=True)


def pretrain(
    out: Path, work: Path, scenes: int, seed: int, epochs: int, imgsz: int, batch: int, threads: int, device: str
) -> dict[str, Any]:
    """Do what ``main`` says; returns the card.

    Raises:
        ConfigError: ``seed`` is the demo's own.
    """
    if seed == DEMO_SEED:
        raise ConfigError(f"--seed {seed}: the demo runs on these scenes; pretraining needs others (--seed 1)")
    started = time.monotonic()
    dataset = open_dataset(write_demo(work / "scenes", scenes=scenes, seed=seed))
    for number, record in enumerate(dataset):
        write_view(record, VIEWS[number % len(VIEWS)], work / "images" / f"{record.stem}.png")
    split = make_split(dataset, "scene-712", seed=0)
    data = export_yolo(dataset, split, work / "images", work / "yolo")
    common: dict[str, Any] = {
        "data": data,
        "model": "yolov5n",
        "imgsz": imgsz,
        "batch": batch,
        "threads": threads,
        "device": device,
    }
    training = TrainJob(out=work / "training", seed=0, epochs=epochs, hyperparameters=HYPERPARAMETERS, **common)
    logger.info("training on %d images; log: %s", len(split.ids["train"]), training.out / "log.txt")
    summary = work / "training" / "summary.json"
    if not summary.is_file():
        run_job(training, progress=_LogProgress())
    weights = training.out / "best.safetensors"
    run_job(DetectJob(out=work / "detections", weights=weights, splits=("test",), **common))
    detections = json.loads((work / "detections" / "test.json").read_text(encoding="utf-8"))
    figures = evaluate(coco_ground_truth(dataset, split.ids["test"]), detections, replicates=0)
    with replace_atomically(out) as temporary:
        shutil.copyfile(weights, temporary)
    card = {
        "what": "YOLOv5n (ultralytics' anchor-free yolov5nu), pretrained on synthetic scenes for the demo only",
        "sha256": digest_file(out),
        "precision": "float16",
        "licence": "AGPL-3.0-or-later",
        "command": f"python -m fusion_det.detection.demo_detector --scenes {scenes} --seed {seed} --epochs {epochs}"
        f" --imgsz {imgsz} --batch {batch} --threads {threads} --device {device}",
        "scenes": {"generator_version": GENERATOR_VERSION, "seed": seed, "pairs": scenes},
        "images": {
            "views": "pair number modulo 3: " + ", ".join(VIEWS),
            **{part: len(split.ids[part]) for part in ("train", "val", "test")},
            "split": {"name": split.name, "seed": split.seed, "digest": split.digest},
        },
        "training": {
            "initial_weights": None,
            "epochs": epochs,
            "best_epoch": json.loads(summary.read_text(encoding="utf-8"))["best_epoch"],
            "imgsz": imgsz,
            "batch": batch,
            "seed": training.seed,
            **HYPERPARAMETERS,
        },
        "test": {
            "mAP50": round(figures["mAP50"], 4),
            "mAP50_95": round(figures["mAP50_95"], 4),
            "per_class_AP50": {name: round(row["AP50"], 4) for name, row in figures["per_class"].items()},
        },
        "versions": {name: version(name) for name in ("torch", "ultralytics-opencv-headless", "numpy")}
        | {"python": platform.python_version()},
        "date": datetime.now(UTC).date().isoformat(),
        "minutes": round((time.monotonic() - started) / 60, 1),
    }
    write_json(out.with_suffix(".json"), card)
    logger.info("mAP50 %.3f on %d test images; wrote %s", figures["mAP50"], len(split.ids["test"]), out)
    return card


def write_view(record: PairRecord, view: str, path: Path) -> None:
    """Write the visible image, the infrared image, or their mean, as 8-bit RGB."""
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    with Image.open(record.vi) as image:
        vi = np.asarray(image.convert("RGB"), np.uint16)
    with Image.open(record.ir) as image:
        ir = np.repeat(np.asarray(image.convert("L"), np.uint16)[..., None], 3, axis=2)
    pixels = {"vi": vi, "ir": ir, "mean": (vi + ir + 1) // 2}[view]
    Image.fromarray(pixels.astype(np.uint8)).save(path)


class _LogProgress:
    """Logs every finished epoch."""

    def start(self, description: str, total: int | None, done: int = 0) -> None:
        self._done, self._total = done, total

    def advance(self, steps: int = 1, note: str = "") -> None:
        self._done += steps
        if steps:
            logger.info("epoch %d of %s: %s", self._done, self._total, note)

    def tell(self, message: str) -> None:
        logger.info(message)

    def finish(self, note: str = "") -> None:
        return


if __name__ == "__main__":
    typer.run(main)
