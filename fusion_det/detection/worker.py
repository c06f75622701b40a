"""The detector process: ``python -m fusion_det.detection.worker JOB.json``. Started by :mod:`fusion_det.detection.launch`.

Everything ultralytics prints goes to the log file that is its stdout; see :mod:`fusion_det.processes`.
"""

from __future__ import annotations

import logging
import os
import shutil
import sys
from pathlib import Path

from fusion_det.detection.jobs import DetectJob, JobFile, TrainJob
from fusion_det.errors import FusionDetError
from fusion_det.files import write_json
from fusion_det.machine import available_cores
from fusion_det.processes import Events, serve


def work(job_file: Path, events: Events) -> None:
    """Do the job in a file."""
    job = JobFile.model_validate_json(job_file.read_text(encoding="utf-8")).job
    if isinstance(job, TrainJob):
        run_training(job, events)
    else:
        run_detection(job, events)


def run_training(job: TrainJob, events: Events) -> None:
    """Train (or finish training) and leave ``best.safetensors``, ``curve.csv``, ``summary.json`` in ``job.out``."""
    _prepare_libraries(job.out, job.threads)
    import torch

    from fusion_det.detection.trainer import CURVE_FILE, build_trainer, read_training_state, write_curve

    state = read_training_state(job.out)
    if state is None or state["epoch"] + 1 < job.epochs:
        trainer = build_trainer(job, events.send)
        trainer.add_callback(
            "on_train_batch_end",
            lambda t: events.send_now_and_then(
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


def run_detection(job: DetectJob, events: Events) -> None:
    """Detect on each split and leave ``<split>.json`` and ``summary.json`` in ``job.out``."""
    _prepare_libraries(job.out, job.threads)
    from fusion_det.detection.trainer import detect

    figures = {}
    for split in job.splits:
        detections, figures[split] = detect(job, job.data, split)
        write_json(job.out / f"{split}.json", detections, indent=None)
        events.send("split", split=split, detections=len(detections))
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
    sys.exit(serve(sys.argv[1:], work))
