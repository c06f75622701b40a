"""Measuring in a fresh process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from fusion_det.efficiency.job import Job, Measurement
from fusion_det.errors import StageError
from fusion_det.files import write_json


def run_job(job: Job) -> Measurement:
    """Measure in a process that is started for it, and ended with it.

    Raises:
        StageError: the process failed or was killed; with its own message, or the last words of its output.
    """
    with tempfile.TemporaryDirectory(prefix="fusion-det-") as folder:
        job_file, answer = Path(folder) / "job.json", Path(folder) / "answer.json"
        write_json(job_file, asdict(job))
        threads = str(job.threads)
        done = subprocess.run(
            [sys.executable, "-m", f"{__package__}.worker", str(job_file), str(answer)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
            env=os.environ | {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads},
        )
        if done.returncode or not answer.is_file():
            raise StageError(f"measuring {job.method} {_fate(done.returncode, done.stdout)}")
        result = json.loads(answer.read_text(encoding="utf-8"))
    if "error" in result:
        raise StageError(result["error"])
    return Measurement.from_json(result["measurement"])


def _fate(code: int, output: str) -> str:
    if code in (-9, 137):
        return "was killed (signal 9; out of memory? try a smaller --size)"
    if code < 0:
        return f"was killed by signal {-code}"
    words = output.strip().splitlines()
    return f"failed: {words[-1] if words else f'exit code {code}'}"
