"""Starting a detector process and following it."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

from fusion_det.detection.jobs import DetectJob, JobFile, TrainJob
from fusion_det.files import write_text
from fusion_det.processes import run_worker
from fusion_det.progress import NoProgress, Progress


def run_job(
    job: TrainJob | DetectJob, *, progress: Progress | None = None, cancelled: threading.Event | None = None
) -> list[dict[str, Any]]:
    """Run a job in a fresh process and wait for it.

    The process' output goes to ``job.out/log.txt`` (appended: a resumed training has one log), its events to ``progress``.

    Args:
        cancelled: when set from another thread, the process is stopped; what it finished (whole epochs) stays.

    Returns:
        All events, oldest first.

    Raises:
        StageError: the process failed, was killed or cancelled; names its log and the last words in it.
    """
    progress = progress or NoProgress()
    job.out.mkdir(parents=True, exist_ok=True)
    job_file = job.out / "job.json"
    write_text(job_file, JobFile(job=job).model_dump_json(indent=1))
    progress.start(job.kind, job.epochs if isinstance(job, TrainJob) else len(job.splits))
    events = run_worker(
        "fusion_det.detection.worker",
        job_file,
        what=job.kind,
        cure="try a smaller detector.batch or --jobs 1",
        heard=lambda event: _show(event, progress),
        environment=_environment(job),
        cancelled=cancelled,
    )
    progress.finish()
    return events


def _environment(job: TrainJob | DetectJob) -> dict[str, str]:
    environment = dict(os.environ)
    environment.pop(
        "OMP_WAIT_POLICY", None
    )  # good for fusing beside other threads; a training alone is a third slower with it
    if job.threads:
        environment |= {"OMP_NUM_THREADS": str(job.threads), "MKL_NUM_THREADS": str(job.threads)}
    if job.device.startswith("cuda"):
        environment["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # what deterministic cuBLAS asks for
    return environment


def _show(event: dict[str, Any], progress: Progress) -> None:
    if event["event"] == "epoch":
        value = event.get("mAP50")
        note = f"mAP50 {100 * value:.1f}" if value is not None else ""
        progress.advance(1, f"{note} (best epoch {event['best_epoch']})")
    elif event["event"] == "batch":
        progress.advance(0, f"epoch {event['epoch']}/{event['epochs']} batch {event['batch']}/{event['batches']}")
    elif event["event"] == "resume":
        progress.start("train", event["epochs"], event["epoch"])
        progress.advance(0, f"resumed after epoch {event['epoch']}")
    elif event["event"] == "weights":
        progress.advance(0, f"{event['taken']} of {event['total']} tensors from {Path(event['file']).name}")
    elif event["event"] == "split":
        progress.advance(1, f"{event['split']}: {event['detections']} detections")
