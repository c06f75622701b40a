"""What each kind of stage does, and what identifies it. The only module that knows every room."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fusion_det.config import DetectorConfig, FusionConfig
from fusion_det.data import PairDataset, PairRecord, Split, coco_ground_truth, export_yolo
from fusion_det.data.yolo_export import label_text, link_or_copy
from fusion_det.detection.jobs import STATE_FILE, DetectJob, TrainJob
from fusion_det.detection.launch import run_job
from fusion_det.errors import StageError
from fusion_det.files import digest_file, digest_json, write_json
from fusion_det.fusion import FusionRunner, MethodSpec, build_method, get_card, method_identity
from fusion_det.fusion.protocol import own_protocol
from fusion_det.fusion.weights import WeightsChoice
from fusion_det.pipeline.fusion_training import WEIGHTS
from fusion_det.pipeline.stage import Estimate, Stage, StageContext
from fusion_det.pipeline.versions import code_digest, library_versions
from fusion_det.progress import Progress
from fusion_det.tasks import IVIF

EVALUATED_SPLITS = ("val", "test")
LIGHT = 0.4
"""Seconds a megapixel that most methods take on two CPU cores."""


def truth_stage(dataset: PairDataset, split: Split, extra: Sequence[str] = ()) -> Stage:
    """``truth``: COCO ground truth of val, test and ``extra`` images, and the split's ids."""

    def run(context: StageContext) -> dict[str, Any]:
        for part, stems in {
            **{p: split.ids[p] for p in EVALUATED_SPLITS},
            **({"extra": extra} if extra else {}),
        }.items():
            write_json(context.work / f"{part}.json", coco_ground_truth(dataset, stems), indent=None)
        split.save(context.work / "split.json")
        return {"split_digest": split.digest}

    identity = {
        "boxes": _labels_digest(dataset, split),
        "split": split.digest,
        "conditions": digest_json([[r.stem, r.condition, r.run] for r in dataset.select(stems_of(split))]),
        "code": code_digest("fusion_det.data.ground_truth"),
        "extra": list(extra),
    }
    return Stage("truth", dataset.name, identity, {}, run)


def fuse_stage(
    spec: MethodSpec, records: Sequence[PairRecord], config: FusionConfig, training: Stage | None = None
) -> Stage:
    """``fuse``: ``images/STEM.png`` of every pair.

    Args:
        training: the ``train-fusion`` stage that makes the weights; without one they are what ``spec`` says.
    """
    protocol = own_protocol(get_card(spec), config.protocol)
    task = records[0].task if records else IVIF

    def run(context: StageContext) -> dict[str, Any]:
        import torch

        torch.set_num_threads(context.slot.threads)
        weights: WeightsChoice = "auto" if training is None else context.inputs["weights"] / WEIGHTS
        method = build_method(spec, weights=weights, device=context.slot.device)
        device, batch_size = context.slot.device, config.batch_size
        runner = FusionRunner(method, config.color, device, batch_size, config.workers, protocol)
        images = context.work / "images"
        summary = runner.run(records, images, Cancellable(context.progress, context.cancelled))
        return {"pairs": len(records), "seconds_per_pair": summary.seconds_per_pair, "protocol": protocol}

    if training is None:
        method_facts = method_identity(spec, protocol=protocol, task=task)
    else:
        method_facts = method_identity(spec, None, training.identity["method"]["config"], protocol=protocol, task=task)
    identity = {
        "method": method_facts,
        "color": config.color,
        "pairs": digest_json([[r.stem, r.content] for r in records]),
        "versions": library_versions("torch", "numpy", "pillow"),
    }
    size = sum(r.width * r.height for r in records)
    per_megapixel = get_card(spec).seconds_per_megapixel.get(method_facts["config"], LIGHT)
    return Stage(
        "fuse",
        spec.name,
        identity,
        {} if training is None else {"weights": training},
        run,
        heavy=True,
        estimate=Estimate(seconds=size * per_megapixel / 1e6, bytes=2 * size),
    )


def export_stage(spec: MethodSpec, dataset: PairDataset, split: Split, fuse: Stage) -> Stage:
    """``export``: a YOLO tree of its own for the method, images hard-linked from the fuse stage."""

    def run(context: StageContext) -> dict[str, Any]:
        tree = context.work / "yolo"
        export_yolo(dataset, split, context.inputs["fused images"] / "images", tree)
        return {"split_digest": split.digest}

    identity = {
        "labels": _labels_digest(dataset, split),
        "split": split.digest,
        "code": code_digest("fusion_det.data.yolo_export"),
    }
    return Stage("export", spec.name, identity, {"fused images": fuse}, run)


def train_stage(
    spec: MethodSpec, config: DetectorConfig, weights: Path | None, seed: int, export: Stage, images: int
) -> Stage:
    """``train``: one detector; ``best.safetensors``, ``curve.csv``, ``summary.json``. Continues where it was killed."""

    def run(context: StageContext) -> dict[str, Any]:
        bf16 = config.amp == "bf16" or (config.amp == "auto" and _has_bf16(context.slot.device))
        with _private_tree(context) as data:
            job = TrainJob(
                **_common(config, context, data),
                seed=seed,
                epochs=config.epochs,
                weights=weights,
                amp="bf16" if bf16 else False,
                cache=config.cache,
                hyperparameters=config.hyperparameters,
            )
            run_job(job, progress=context.progress, cancelled=context.cancelled)
        # Last of all: with it, a kill before this line costs nothing.
        (context.work / STATE_FILE).unlink()
        summary = json.loads((context.work / "summary.json").read_text(encoding="utf-8"))
        return {**summary, "device": context.slot.device, "precision": "bf16" if bf16 else "fp32"}

    identity = {
        "detector": config.model_dump(
            exclude={"workers", "cache", "weights", "nms_iou", "confidence", "max_detections"}
        )
        # best epoch by validation: it depends on how detections are made
        | {"validation": [config.nms_iou, config.max_detections]},
        "weights": None if weights is None else digest_file(weights) if weights.is_file() else "to be downloaded",
        "seed": seed,
        "code": code_digest(
            "fusion_det.detection.trainer",
            "fusion_det.detection.sampling",
            "fusion_det.detection.pretrained",
            "fusion_det.seeds",
        ),
        "versions": library_versions("torch", "ultralytics", "numpy", "opencv"),
    }
    per_image = {"n": 0.05, "s": 0.15, "m": 0.4, "l": 0.8, "x": 1.6}[config.model[-1]] * (config.imgsz / 320) ** 2
    return Stage(
        "train",
        f"{spec.name} seed {seed}",
        identity,
        {"export": export},
        run,
        heavy=True,
        estimate=Estimate(seconds=images * config.epochs * per_image, bytes=20_000_000),
    )


def detect_stage(
    spec: MethodSpec, config: DetectorConfig, seed: int, train: Stage, export: Stage, extra: Mapping[str, str]
) -> Stage:
    """``detect``: raw detections on val and test as COCO results, and on ``extra`` images (stem → its part of the split)."""

    def run(context: StageContext) -> dict[str, Any]:
        with _private_tree(context) as data:
            job = DetectJob(
                **_common(config, context, data),
                weights=context.inputs["detector"] / "best.safetensors",
                confidence=config.confidence,
                splits=EVALUATED_SPLITS,
                extra_data=_extra_tree(data.parent, extra) if extra else None,
            )
            run_job(job, progress=context.progress, cancelled=context.cancelled)
        return json.loads((context.work / "summary.json").read_text(encoding="utf-8"))

    identity = {
        "detections": config.model_dump(include={"imgsz", "batch", "nms_iou", "confidence", "max_detections"}),
        "splits": EVALUATED_SPLITS,
        "extra": dict(extra),
        "code": code_digest("fusion_det.detection.trainer"),
        "versions": library_versions("torch", "ultralytics"),
    }
    return Stage(
        "detect",
        f"{spec.name} seed {seed}",
        identity,
        {"detector": train, "export": export},
        run,
        heavy=True,
        estimate=Estimate(seconds=10, bytes=5_000_000),
    )


def evaluate_stage(spec: MethodSpec, seed: int, detect: Stage, truth: Stage) -> Stage:
    """``evaluate``: ``metrics.json``, every figure of the row on the test part."""

    def run(context: StageContext) -> dict[str, Any]:
        from fusion_det.detection.evaluate import evaluate_files

        metrics = evaluate_files(context.inputs["truth"] / "test.json", context.inputs["detections"] / "test.json")
        write_json(context.work / "metrics.json", metrics, indent=None)
        return {"mAP50": metrics["mAP50"], "mAP50_95": metrics["mAP50_95"]}

    identity = {
        "code": code_digest(
            "fusion_det.detection.evaluate",
            "fusion_det.detection.average_precision",
            "fusion_det.detection.matching",
            "fusion_det.detection.resampling",
        ),
        "versions": library_versions("faster-coco-eval", "numpy"),
    }
    return Stage(
        "evaluate",
        f"{spec.name} seed {seed}",
        identity,
        {"detections": detect, "truth": truth},
        run,
        estimate=Estimate(seconds=2),
    )


def _common(config: DetectorConfig, context: StageContext, data: Path) -> dict[str, Any]:
    return {
        "data": data,
        "out": context.work,
        "model": config.model,
        "imgsz": config.imgsz,
        "batch": config.batch,
        "device": context.slot.device,
        "threads": context.slot.threads,
        "workers": config.workers,
        "nms_iou": config.nms_iou,
        "max_detections": config.max_detections,
    }


@contextmanager
def _private_tree(context: StageContext) -> Iterator[Path]:
    """``data.yaml`` of a hard-linked copy of the exported tree, for one process: ultralytics keeps caches beside the labels,
    and two trainings that write them at once (or one that is killed while writing) would spoil each other's."""
    tree = context.work / "yolo"
    shutil.rmtree(tree, ignore_errors=True)
    shutil.copytree(context.inputs["export"] / "yolo", tree, copy_function=lambda a, b: link_or_copy(Path(a), Path(b)))
    yield tree / "data.yaml"
    shutil.rmtree(tree)


def _extra_tree(tree: Path, extra: Mapping[str, str]) -> Path:
    """A tree beside the exported one with only these images, as its "test" part; returns its ``data.yaml``."""
    for stem, part in extra.items():
        for kind, suffix in (("images", "png"), ("labels", "txt")):
            target = tree / "extra" / kind / "test" / f"{stem}.{suffix}"
            target.parent.mkdir(parents=True, exist_ok=True)
            link_or_copy(tree / kind / part / f"{stem}.{suffix}", target)
    text = (tree / "data.yaml").read_text(encoding="utf-8")
    (tree / "extra" / "data.yaml").write_text(
        text.replace("train: images/train", "train: images/test").replace("val: images/val", "val: images/test"),
        encoding="utf-8",
    )
    return tree / "extra" / "data.yaml"


def _has_bf16(device: str) -> bool:
    if not device.startswith("cuda"):
        return False
    import torch

    return torch.cuda.is_bf16_supported(including_emulation=False)


class Cancellable:
    """Progress that ends the work from inside when the run is being stopped."""

    def __init__(self, shown: Progress, cancelled: threading.Event) -> None:
        self._shown, self._cancelled = shown, cancelled
        self.start, self.tell, self.finish = shown.start, shown.tell, shown.finish

    def advance(self, steps: int = 1, note: str = "") -> None:
        if self._cancelled.is_set():
            raise StageError("stopped on request; the next run continues with the missing images")
        self._shown.advance(steps, note)


def stems_of(split: Split) -> list[str]:
    """Every stem of a split, part after part."""
    return [stem for part in split.ids.values() for stem in part]


def _labels_digest(dataset: PairDataset, split: Split) -> str:
    records: Sequence[PairRecord] = dataset.select(stems_of(split))
    return digest_json([dataset.classes, *([r.stem, r.width, r.height, label_text(r)] for r in records)])
