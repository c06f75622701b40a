"""What an experiment leaves behind: the one document that reports are made from.

``runs/experiments/<name>/results.json`` holds an :class:`ExperimentResults`. Paths in it are absolute. The report reads
nothing else: neither a dataset nor a configuration.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from fusion_det.files import write_text

SCHEMA_VERSION = 1


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class MethodInfo(_Frozen):
    """A column of the table: the card's facts plus where this experiment's weights came from."""

    name: str
    """Of the row."""
    method: str = ""
    """The registered method, of which there may be several rows with different weights; "" for the row's own name."""
    label: str
    abbreviation: str
    title: str = ""
    authors: str = ""
    venue: str = ""
    year: int | None = None
    family: str
    color: Literal["luma", "rgb"]
    weights: str = "none needed"
    """In words: a file, or "shipped, not the authors': trained 12000 steps on roadscene, by this project"."""
    weights_source: Literal["", "official", "shipped", "trained", "own"] = ""
    """Whose they are; "trained": in this experiment. "" without any."""
    trained_on: tuple[str, ...] = ()
    trained_on_known: bool = True
    contaminated: bool = False
    """True when its weights have seen images that it is judged by here (or may have: same dataset, ids unknown)."""
    images_trained_on: int | None = None
    """How many of the images that it is judged by the weights have learnt from, where that is known."""
    table_vi: float | None = None
    """The paper's figure; only for rows with the paper's weights (or a method that needs none)."""
    order: int = 1000
    notes: str = ""
    protocol: Literal["common", "official"] = "common"
    """Official: its images come from the procedure that its authors published; see :mod:`fusion_det.fusion.protocol`."""
    seconds_per_pair: float | None = None
    images: Path | None = None
    """Folder of fused images, ``STEM.png``; None if fusing failed."""


class MethodRun(_Frozen):
    """One (method, detector seed)."""

    method: str
    seed: int
    status: Literal["ok", "failed", "no weights"]
    reason: str = ""
    """For a run without a figure: one line, then how to mend it."""
    detections: dict[str, Path] = Field(default_factory=dict)
    """Split ("val", "test", perhaps "extra") → COCO results JSON: list of {image_id: stem, category_id: 1-based class index,
    bbox: [x, y, w, h] pixels, score}."""
    metrics: dict[str, Any] = Field(default_factory=dict)
    """As :func:`fusion_det.detection.evaluate.evaluate` returns them for the test split; see its docstring."""
    training_curve: Path | None = None
    """CSV with columns epoch, mAP50, mAP50_95, precision, recall, box_loss, cls_loss, dfl_loss, val_box_loss, … (fractions)."""
    best_epoch: int | None = None
    device: str = ""
    """Where it was trained: "cpu", "cuda:0"."""
    precision: str = ""
    """"fp32" or "bf16"."""
    seconds: dict[str, float] = Field(default_factory=dict)
    """Stage → wall seconds ("train", "detect")."""


class QualityRows(_Frozen):
    """Quality of the same images by every method."""

    profile: str
    metrics: tuple[str, ...]
    """In table order; names of :data:`fusion_det.quality.METRICS`."""
    saving: str = "lossless"
    """How the images were saved before they were measured: "jpeg-75" imitates a paper and compares no methods."""
    images: str = ""
    """Which images, in words: "the 60 test images"."""
    color: str = ""
    """What the fused images were: "ycbcr" (their luma was measured), "gray", or "" where that is not known."""
    values: dict[str, Path] = Field(default_factory=dict)
    """Method → ``quality.json``: ``stems``, ``values`` (metric → one number or null for each stem), ``unavailable``."""
    failures: dict[str, str] = Field(default_factory=dict)
    """Method → why it has no values."""


class SplitInfo(_Frozen):
    """Which images are in train, val and test; rows of different digests never meet in one table."""

    name: str
    seed: int | None
    digest: str
    counts: dict[str, int]
    """Split → number of images."""
    boxes: dict[str, dict[str, int]]
    """Split → class name → number of boxes."""
    note: str = ""
    """What a reader must know about how the split came about."""
    leakage: dict[str, float] = Field(default_factory=dict)
    """"neighbour" and "run": share (0–1) of test frames whose neighbouring id / capture run is in train."""


class DatasetInfo(_Frozen):
    name: str
    root: Path
    synthetic: bool
    """True for the demo: every table, figure and page is stamped "demo"."""
    classes: tuple[str, ...]
    pairs: int
    labelled: int
    content_digest: str
    limit: int | None = None
    conditions: dict[str, str] = Field(default_factory=dict)
    """Stem → condition, for the stems of the test split that have one."""


class ExperimentResults(_Frozen):
    schema_version: int = SCHEMA_VERSION
    experiment: str
    title: str
    dataset: DatasetInfo
    split: SplitInfo
    ground_truth: dict[str, Path]
    """Split → COCO ground-truth JSON (image ``id`` = stem, ``file_name`` = STEM.png; category ids 1-based in class order).
    "extra" holds images to show that lie outside the test part; ``report["overlay_parts"]`` tells their part."""
    methods: tuple[MethodInfo, ...]
    """In table order."""
    runs: tuple[MethodRun, ...]
    quality: QualityRows | None = None
    """Quality of the fused images; None where it was not asked for."""
    detector: dict[str, Any]
    """The detector's settings: model, weights, epochs, imgsz, batch, …, plus what was really built ("yolov5su")."""
    report: dict[str, Any] = Field(default_factory=dict)
    """The report's settings: fixed overlay ids, number of disagreement rows, confidence threshold."""
    provenance: dict[str, Any] = Field(default_factory=dict)
    """command, started, finished, commit, versions{library: version}, device, hostname, seconds{stage: s}, seeds."""

    def save(self, path: Path) -> None:
        write_text(path, self.model_dump_json(indent=1) + "\n")

    @classmethod
    def load(cls, path: Path) -> ExperimentResults:
        return cls.model_validate_json(path.read_text(encoding="utf-8"))
