"""ultralytics' trainer and validator, made reproducible and resumable exactly, and never unpickling a model.

What differs from ultralytics, and why:

- data order and augmentation depend on (seed, epoch, image) only (:mod:`fusion_det.detection.sampling`);
- gradients are accumulated within an epoch and never across its end, so that an epoch boundary is a complete state;
- after an epoch the *whole* state (float32 weights, EMA, optimiser, scaler) is written beside and renamed; ultralytics resumes
  from a half-precision EMA, which is another training;
- the best epoch's EMA is kept as safetensors; there is no final validation here, that is a stage of its own.
"""

from __future__ import annotations

import csv
import io
import math
import time
from collections.abc import Callable
from copy import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from ultralytics.data.build import InfiniteDataLoader, seed_worker
from ultralytics.models.yolo.detect import DetectionTrainer, DetectionValidator
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils import nms, ops

from fusion_det.detection.jobs import STATE_FILE, DetectJob, TrainJob
from fusion_det.detection.pretrained import Transfer, load_matching, read_state_dict
from fusion_det.detection.sampling import EpochSampler, SeededSamples
from fusion_det.errors import StageError
from fusion_det.files import replace_atomically, write_text
from fusion_det.seeds import derive_seed

Report = Callable[..., None]
"""Called as ``report(event, **facts)`` on every event worth showing in the parent process."""

CURVE_COLUMNS = {
    "metrics/mAP50(B)": "mAP50",
    "metrics/mAP50-95(B)": "mAP50_95",
    "metrics/precision(B)": "precision",
    "metrics/recall(B)": "recall",
    "train/box_loss": "box_loss",
    "train/cls_loss": "cls_loss",
    "train/dfl_loss": "dfl_loss",
    "val/box_loss": "val_box_loss",
    "val/cls_loss": "val_cls_loss",
    "val/dfl_loss": "val_dfl_loss",
}
BEST_FILE, CURVE_FILE = "best.safetensors", "curve.csv"
STATE_EVERY = 15.0
"""Seconds between two writings of the whole state: the most that a kill can cost, besides the epoch in flight."""


class ReproducibleTrainer(DetectionTrainer):
    """One training job. Use :func:`build_trainer`, then ``train()``."""

    job: TrainJob
    report: Report
    transfer: Transfer | None = None
    rows: list[dict[str, float]]
    best_epoch: int
    accumulate: int
    _state_saved = -STATE_EVERY

    def setup_model(self) -> None:
        torch.manual_seed(derive_seed("model", self.job.seed))  # a head that starts fresh starts the same
        model = self.get_model(cfg=f"{self.job.model}.yaml", weights=None, verbose=False)
        if self.job.weights is not None:
            self.transfer = load_matching(model, read_state_dict(self.job.weights))
            self.report("weights", taken=self.transfer.taken, total=self.transfer.total, file=str(self.job.weights))
        self.model = model

    def get_dataloader(
        self, dataset_path: str, batch_size: int = 16, rank: int = 0, mode: str = "train"
    ) -> InfiniteDataLoader:
        if mode != "train":
            return super().get_dataloader(dataset_path, batch_size, rank, mode)
        samples = SeededSamples(self.build_dataset(dataset_path, mode, batch_size), self.job.seed)
        batch_size = min(batch_size, len(samples))
        workers = min(self.args.workers, math.ceil(len(samples) / batch_size) - 1)
        return InfiniteDataLoader(
            dataset=samples,
            batch_size=batch_size,
            sampler=EpochSampler(len(samples), self.job.seed),
            num_workers=workers,
            prefetch_factor=4 if workers else None,
            pin_memory=self.device.type == "cuda",
            collate_fn=samples.collate_fn,
            worker_init_fn=seed_worker,
        )

    def _build_train_pipeline(self) -> None:
        if getattr(
            self, "_oom_retries", 0
        ):  # ultralytics would go on with half the batch: another protocol for one row
            raise StageError(
                f"out of memory with {self.job.batch} images a step; set detector.batch lower, for all methods alike"
            )
        super()._build_train_pipeline()
        self._nominal_accumulate: int = self.accumulate  # weight decay was set from it just now
        self.accumulate = 1  # ultralytics asks for a step after every batch; optimizer_step decides

    def optimizer_step(self) -> None:
        self._batch_in_epoch += 1
        batches = len(self.train_loader)
        accumulate = self._nominal_accumulate
        warmup = self._get_warmup_iterations(batches)
        done = self.epoch * batches + self._batch_in_epoch - 1
        if warmup and done <= warmup:
            accumulate = max(1, int(np.interp(done, [0, warmup], [1, accumulate]).round()))
        if self._batch_in_epoch % accumulate == 0 or self._batch_in_epoch == batches:
            super().optimizer_step()

    def begin_epoch(self) -> None:
        self._batch_in_epoch = 0
        self._epoch_started = time.monotonic()

    def _close_dataloader_mosaic(self) -> None:
        # The loader is reset after this: whatever it prefetched of this epoch is drawn again, without mosaics.
        self.train_loader.dataset.close_mosaic(hyp=copy(self.args))
        self.train_loader.sampler.next_epoch = self.epoch

    def _handle_nan_recovery(self, epoch: int) -> bool:
        if self.loss is not None and not bool(self.loss.isfinite()):
            raise StageError(
                f"the loss became {float(self.loss)} in epoch {epoch + 1}; lower the learning rate "
                "(--set detector.hyperparameters.lr0=0.001), or train in full precision (--set detector.amp=fp32)"
            )
        return False

    def save_model(self) -> bool:
        row = {"epoch": float(self.epoch + 1), "seconds": time.monotonic() - self._epoch_started}
        merged = {**self.label_loss_items(self.tloss), **self.metrics}
        row |= {column: float(merged[name]) for name, column in CURVE_COLUMNS.items() if name in merged}
        self.rows.append(row)
        if self.fitness == self.best_fitness:
            self.best_epoch = self.epoch + 1
            state = {n: t.half() if t.is_floating_point() else t for n, t in self.ema.ema.state_dict().items()}
            with replace_atomically(self.job.out / BEST_FILE) as temporary:
                save_file({n: t.contiguous().cpu() for n, t in state.items()}, temporary)
        # Where epochs take seconds, writing the state after each would cost a tenth of the time. What is lost is trained
        # again, to the same weights.
        if time.monotonic() - self._state_saved >= STATE_EVERY or self.epoch + 1 == self.epochs:
            with replace_atomically(self.job.out / STATE_FILE) as temporary:
                torch.save(self._state(), temporary)
            self._state_saved = time.monotonic()
        self.report(
            "epoch",
            epoch=self.epoch + 1,
            epochs=self.epochs,
            mAP50=row.get("mAP50"),
            best_epoch=self.best_epoch,
            seconds=row["seconds"],
        )
        return True

    def _state(self) -> dict[str, Any]:
        return {
            "epoch": self.epoch,
            "model": self.model.state_dict(),
            "ema": self.ema.ema.state_dict(),
            "updates": self.ema.updates,
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "best_fitness": float(self.best_fitness),
            "best_epoch": self.best_epoch,
            "rows": self.rows,
            "transfer": [self.transfer.taken, self.transfer.total] if self.transfer else None,
        }

    def resume_training(self, ckpt: object) -> None:
        state = read_training_state(self.job.out)
        if state is None:
            return
        self.model.load_state_dict(state["model"])
        self.ema.ema.load_state_dict(state["ema"])
        self.ema.updates = state["updates"]
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.best_fitness, self.best_epoch, self.rows = state["best_fitness"], state["best_epoch"], state["rows"]
        self.start_epoch = state["epoch"] + 1
        self.train_loader.sampler.next_epoch = self.start_epoch
        self.report("resume", epoch=self.start_epoch, epochs=self.epochs)

    def get_validator(self) -> DetectionValidator:
        return UnhurriedValidator(
            self.test_loader, save_dir=self.save_dir, args=copy(self.args), _callbacks=self.callbacks
        )

    def final_eval(self) -> None:
        return None


def read_training_state(out: Path) -> dict[str, Any] | None:
    """The last complete epoch of an interrupted training, or None for a fresh start."""
    path = out / STATE_FILE
    if not path.is_file():
        return None
    return torch.load(path, map_location="cpu", weights_only=True)


def build_trainer(job: TrainJob, report: Report) -> ReproducibleTrainer:
    """A trainer ready to ``train()``."""
    overrides = {
        "augmentations": [],  # albumentations would change the training depending on whether it is installed
        **job.hyperparameters,
        "model": f"{job.model}.yaml",
        "data": str(job.data),
        "epochs": job.epochs,
        "imgsz": job.imgsz,
        "batch": job.batch,
        "device": job.device.removeprefix("cuda:"),
        "workers": job.workers,
        "seed": job.seed,
        "deterministic": True,
        "amp": job.amp,
        "iou": job.nms_iou,
        "max_det": job.max_detections,
        "cache": False if job.cache == "none" else job.cache,
        "plots": False,
        "save": True,
        "val": True,
        "patience": 0,  # all methods train for the same number of epochs
        "pretrained": False,
        "project": str(job.out),
        "name": "ultralytics",
        "exist_ok": True,
        "verbose": True,
    }
    trainer = ReproducibleTrainer(overrides=overrides)
    trainer.job, trainer.report, trainer.rows, trainer.best_epoch = job, report, [], 0
    trainer.add_callback("on_train_epoch_start", lambda t: t.begin_epoch())
    return trainer


def write_curve(path: Path, rows: list[dict[str, float]]) -> None:
    """Training curve as CSV: epoch, seconds and the columns of ``CURVE_COLUMNS``."""
    columns = ["epoch", "seconds", *CURVE_COLUMNS.values()]
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({**{k: f"{v:.6g}" for k, v in row.items()}, "epoch": int(row["epoch"])})
    write_text(path, text.getvalue())


class UnhurriedValidator(DetectionValidator):
    """ultralytics' validator without the clock: its suppression of overlapping boxes gives up after a time, and leaves the rest
    of the batch without detections, so that figures would depend on how busy the machine is."""

    def postprocess(self, preds: Any) -> list[dict[str, torch.Tensor]]:
        found = nms.non_max_suppression(
            preds,
            self.args.conf,
            self.args.iou,
            nc=0,
            multi_label=True,
            max_det=self.args.max_det,
            max_time_img=math.inf,
            end2end=self.end2end,
        )
        return [{"bboxes": x[:, :4], "conf": x[:, 4], "cls": x[:, 5], "extra": x[:, 6:]} for x in found]


class RawDetections(UnhurriedValidator):
    """Validation that keeps every detection, by stem, in pixels of the source image."""

    def pred_to_json(self, predn: dict[str, torch.Tensor], pbatch: dict[str, Any]) -> None:
        boxes = ops.xyxy2ltwh(predn["bboxes"]).tolist()
        for box, score, label in zip(boxes, predn["conf"].tolist(), predn["cls"].tolist(), strict=True):
            self.jdict.append(
                {
                    "image_id": Path(pbatch["im_file"]).stem,
                    "category_id": int(label) + 1,
                    "bbox": [round(v, 3) for v in box],
                    "score": round(score, 6),
                }
            )

    def eval_json(self, stats: dict[str, Any]) -> dict[str, Any]:
        return stats


def detect(job: DetectJob, data: Path, split: str) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Detections of a trained detector on one split of ``data`` (a ``data.yaml``).

    Returns:
        COCO results (``image_id`` = stem, 1-based ``category_id``, ``bbox`` [x, y, w, h] pixels, ``score``), and ultralytics'
        own figures for them (fractions), kept as a cross-check.
    """
    state = read_state_dict(job.weights)
    names = _class_names(data)
    model = DetectionModel(f"{job.model}.yaml", nc=len(names), verbose=False)
    own = model.state_dict()
    missing = [n for n, t in own.items() if t.is_floating_point() and (n not in state or state[n].shape != t.shape)]
    if missing:
        raise StageError(
            f"{job.weights}: not a {job.model} for {len(names)} classes ({len(missing)} tensors do not fit)"
        )
    model.load_state_dict(state, strict=False)
    model.names = dict(enumerate(names))
    model.eval()
    validator = RawDetections(
        save_dir=job.out / "ultralytics",
        args={
            "task": "detect",
            "mode": "val",
            "model": f"{job.model}.yaml",
            "data": str(data),
            "split": split,
            "imgsz": job.imgsz,
            "batch": job.batch,
            "device": job.device.removeprefix("cuda:"),
            "workers": job.workers,
            "conf": job.confidence,
            "iou": job.nms_iou,
            "max_det": job.max_detections,
            "save_json": True,
            "plots": False,
            "rect": True,
        },
    )
    stats = validator(model=model)
    own_figures = {CURVE_COLUMNS[k]: float(v) for k, v in stats.items() if k in CURVE_COLUMNS}
    return validator.jdict, own_figures


def _class_names(data: Path) -> list[str]:
    import yaml

    names = yaml.safe_load(data.read_text(encoding="utf-8"))["names"]
    return list(names.values()) if isinstance(names, dict) else list(names)
