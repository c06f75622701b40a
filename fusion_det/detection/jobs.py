"""What is asked of a detector process: plain data, so that parent and child need not share anything else."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

STATE_FILE = "state.pt"
"""Whole state of an unfinished training, in the job's folder."""


class _Job(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    data: Path
    """Absolute path of the exported ``data.yaml``."""
    out: Path
    """Absolute path of the folder the job writes to (kept when it is killed: the next try continues there)."""
    model: str
    """ultralytics architecture: "yolov5n" … "yolov5x" (built as the anchor-free "yolov5nu" …)."""
    imgsz: int
    batch: int
    device: str = "cpu"
    """"cpu", "cuda:0", "mps"."""
    threads: int = 0
    """CPU threads of the process; 0 = all cores."""
    workers: int = 0
    """Processes that load images (ignored on a CPU, where loading in-process is faster)."""
    nms_iou: float = 0.7
    max_detections: int = 300


class TrainJob(_Job):
    """Train a detector; leaves ``best.safetensors``, ``curve.csv`` and ``summary.json`` in ``out``."""

    kind: Literal["train"] = "train"
    seed: int
    epochs: int
    weights: Path | None = None
    """Initial weights (.safetensors or an ultralytics .pt), None for scratch."""
    amp: bool | Literal["bf16"] = False
    cache: Literal["ram", "disk", "none"] = "ram"
    hyperparameters: dict[str, Any] = Field(default_factory=dict)
    """Passed to ultralytics: optimizer, lr0, lrf, momentum, weight_decay, warmup_epochs, nbs, mosaic, close_mosaic, …"""


class DetectJob(_Job):
    """Run a trained detector over splits; leaves ``<split>.json`` (COCO results) each, and ``summary.json``."""

    kind: Literal["detect"] = "detect"
    weights: Path
    splits: tuple[str, ...] = ("val", "test")
    confidence: float = 0.001
    extra_data: Path | None = None
    """``data.yaml`` of further images to detect on (as its "test"), into ``extra.json``: pictures for the report, no figures."""


class JobFile(BaseModel):
    """The file a detector process is started with."""

    job: TrainJob | DetectJob = Field(discriminator="kind")
