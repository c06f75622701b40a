"""Starting a detector process, following it, and never leaving one behind."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fusion_det.detection.jobs import DetectJob, JobFile, TrainJob
from fusion_det.errors import StageError
from fusion_det.files import write_text
from fusion_det.progress import NoProgress, Progress

logger = logging.getLogger(__name__)

FULL_DISK = 20_000_000
"""Fewer free bytes than this, and a failed process most likely failed for want of them."""


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
    job_file, log = job.out / "job.json", job.out / "log.txt"
    write_text(job_file, JobFile(job=job).model_dump_json(indent=1))
    total = job.epochs if isinstance(job, TrainJob) else len(job.splits)
    progress.start(job.kind, total)
    events: list[dict[str, Any]] = []
    done = threading.Event()
    with _process(job_file, log, _environment(job)) as (process, stream):
        watcher = threading.Thread(target=_stop_when_cancelled, args=(process, cancelled, done), daemon=True)
        watcher.start()
        for line in stream:
            event = json.loads(line)
            events.append(event)
            _show(event, progress)
        code = process.wait()
        done.set()
    if cancelled is not None and cancelled.is_set():
        raise StageError(f"{job.kind} stopped on request; the next run continues it")
    if code:
        words = next((e["message"] for e in reversed(events) if e["event"] == "error"), None)
        if shutil.disk_usage(job.out).free < FULL_DISK:
            words = f"the disk of {job.out} is full; make room and run the same command again, nothing is lost"
        raise StageError(f"{job.kind} process {_fate(code)}{': ' + words if words else ''}. Log: {log}")
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


@contextmanager
def _process(job_file: Path, log: Path, environment: dict[str, str]) -> Iterator[tuple[subprocess.Popen[bytes], Any]]:
    read_end, write_end = os.pipe()
    with log.open("ab") as sink:
        process = subprocess.Popen(
            [sys.executable, "-m", "fusion_det.detection.worker", str(job_file)],
            stdin=subprocess.PIPE,  # never written to: its closing tells the child that we are gone
            stdout=sink,
            stderr=subprocess.STDOUT,
            pass_fds=(write_end,),
            env={**environment, "FUSION_DET_EVENTS": str(write_end)},
            cwd=job_file.parent,
        )
    os.close(write_end)
    try:
        with os.fdopen(read_end, encoding="utf-8") as stream:
            yield process, stream
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        if process.stdin is not None:
            process.stdin.close()


def _stop_when_cancelled(
    process: subprocess.Popen[bytes], cancelled: threading.Event | None, done: threading.Event
) -> None:
    while cancelled is not None and not done.wait(0.2):
        if cancelled.is_set():
            process.kill()
            return


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


def _fate(code: int) -> str:
    if code in (-9, 137):
        return "was killed (signal 9; out of memory? try a smaller detector.batch or --jobs 1)"
    return f"was killed by signal {-code}" if code < 0 else f"failed with exit code {code}"
