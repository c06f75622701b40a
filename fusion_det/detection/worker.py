"""The detector process: ``python -m fusion_det.detection.worker JOB.json``. Started by :mod:`fusion_det.detection.launch`.

It talks to its parent in JSON lines on the file descriptor named in ``FUSION_DET_EVENTS``; everything ultralytics prints goes
to the log file that is its stdout. When the parent dies, its end of our stdin closes, and we stop at once: a forgotten
training must not go on writing where the next run will.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import sys
import threading
import time
from pathlib import Path
from typing import Any

from fusion_det.detection.jobs import DetectJob, JobFile, TrainJob
from fusion_det.errors import FusionDetError
from fusion_det.files import write_json
from fusion_det.machine import available_cores

logger = logging.getLogger(__name__)


def main(arguments: list[str]) -> int:
    job = JobFile.model_validate_json(Path(arguments[0]).read_text(encoding="utf-8")).job
    events = Events(int(os.environ["FUSION_DET_EVENTS"]))
    threading.Thread(target=_stop_with_parent, daemon=True).start()
    try:
        if isinstance(job, TrainJob):
            run_training(job, events.send)
        else:
            run_detection(job, events.send)
    except FusionDetError as error:
        events.send("error", message=str(error))
        return 2
    except BaseException as error:
        events.send("error", message=f"{type(error).__name__}: {error}")
        raise
    return 0


class Events:
    """Sends JSON lines; batch events at most twice a second."""

    def __init__(self, descriptor: int) -> None:
        self._stream = os.fdopen(descriptor, "w", encoding="utf-8", buffering=1)
        self._last_batch = 0.0

    def send(self, event: str, **facts: Any) -> None:
        if event == "batch":
            if time.monotonic() - self._last_batch < 0.5:
                return
            self._last_batch = time.monotonic()
        self._stream.write(json.dumps({"event": event, **facts}) + "\n")


def _stop_with_parent() -> None:
    while os.read(0, 1):  # not sys.stdin: its lock would be held at interpreter shutdown
        pass
    os._exit(143)


def run_training(job: TrainJob, report: Any) -> None:
    """Train (or finish training) and leave ``best.safetensors``, ``curve.csv``, ``summary.json`` in ``job.out``."""
    _prepare_libraries(job.out, job.threads)
    import torch

    from fusion_det.detection.trainer import CURVE_FILE, build_trainer, read_training_state, write_curve

    state = read_training_state(job.out)
    if state is None or state["epoch"] + 1 < job.epochs:
        trainer = build_trainer(job, report)
        trainer.add_callback(
            "on_train_batch_end",
            lambda t: report(
                "batch", epoch=t.epoch + 1, epochs=t.epochs, batch=t._batch_in_epoch, batches=len(t.train_loader)
            ),
        )
        trainer.train()
        state = read_training_state(job.out)
        if state is None:
            raise FusionDetError("the training ended without completing an epoch; see the log")
    write_curve(job.out / CURVE_FILE, state["rows"])
    write_json(
        job.out / "summary.json",
        {
            "built": f"{job.model}u",
            "parameters": sum(
                t.numel() for n, t in state["model"].items() if "running_" not in n and "num_batches" not in n
            ),
            "best_epoch": state["best_epoch"],
            "epochs": job.epochs,
            "tensors_taken": state["transfer"],
            "seconds": sum(r["seconds"] for r in state["rows"]),
            "threads": torch.get_num_threads(),
        },
    )
    shutil.rmtree(job.out / "ultralytics", ignore_errors=True)


def run_detection(job: DetectJob, report: Any) -> None:
    """Detect on each split and leave ``<split>.json`` and ``summary.json`` in ``job.out``."""
    _prepare_libraries(job.out, job.threads)
    from fusion_det.detection.trainer import detect

    figures = {}
    for split in job.splits:
        detections, figures[split] = detect(job, job.data, split)
        write_json(job.out / f"{split}.json", detections, indent=None)
        report("split", split=split, detections=len(detections))
    if job.extra_data is not None:
        write_json(job.out / "extra.json", detect(job, job.extra_data, "test")[0], indent=None)
    write_json(job.out / "summary.json", {"ultralytics": figures})
    shutil.rmtree(job.out / "ultralytics", ignore_errors=True)


def _prepare_libraries(out: Path, threads: int) -> None:
    """Keep ultralytics off the network and out of the user's settings, before it is imported."""
    config = out / "ultralytics" / "config"
    config.mkdir(parents=True, exist_ok=True)
    threads = threads or available_cores()
    os.environ |= {
        "YOLO_CONFIG_DIR": str(config),
        "YOLO_OFFLINE": "true",
        "YOLO_AUTOINSTALL": "false",
        "YOLO_VERBOSE": "true",
        "MPLBACKEND": "Agg",
        "NO_ALBUMENTATIONS_UPDATE": "1",
        "OMP_NUM_THREADS": str(threads),  # ultralytics would set it to 1
    }
    import matplotlib

    # check_det_dataset looks for this font and would download it; nothing is drawn with it.
    font = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    for name in ("Arial.ttf", "Arial.Unicode.ttf"):
        shutil.copyfile(font, config / name)
    import torch
    from ultralytics.utils import SETTINGS, torch_utils

    torch.set_num_threads(threads)
    torch_utils.NUM_THREADS = threads  # select_device() resets torch's count to this one (all cores but one)
    trackers = ("sync", "clearml", "comet", "dvc", "mlflow", "raytune", "tensorboard", "wandb")
    SETTINGS.update({name: False for name in trackers if name in SETTINGS})


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")
    sys.exit(main(sys.argv[1:]))
