"""The measuring process: ``python -m fusion_det.efficiency.worker JOB ANSWER``, both JSON files.

A process of its own, because memory that an earlier method took and gave back, and kernels that it warmed up, would count
for the next.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch

from fusion_det.efficiency.job import Job, Measurement, job_from_json
from fusion_det.efficiency.memory import peak_memory
from fusion_det.efficiency.parameters import TRIAL_SIZE, random_pair
from fusion_det.efficiency.timing import time_calls
from fusion_det.errors import FusionDetError, MethodError
from fusion_det.files import write_json
from fusion_det.fusion import FusionMethod, build_method, load_method_modules, weights_status
from fusion_det.fusion.method import used_precision
from fusion_det.machine import device_name, freed_memory_kept, is_out_of_memory


def measure(job: Job) -> Measurement:
    """Fuse one random pair again and again, in this process, under the allocator's settings that the runner uses.

    A small pair comes first, so that loading and compiling kernels counts neither as memory nor as time. The first pair of
    the real size gives the memory and is a warm-up too.

    Raises:
        MethodError: an unknown method, or one that ran out of memory. ConfigError: a device that is not there.
    """
    load_method_modules(job.modules)
    torch.set_num_threads(job.threads)
    trained, _ = weights_status(job.method, "auto", job.config)
    method = build_method(job.method, "auto" if trained else None, job.config, job.device, job.dtype)
    if not isinstance(method, FusionMethod):
        raise MethodError(f"{job.method}: images of a folder, nothing to measure")
    try:
        with torch.no_grad():
            return _measure(method, job)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise MethodError(f"{job.method} ran out of {job.device} memory at {job.width}×{job.height}") from error


def _measure(method: FusionMethod, job: Job) -> Measurement:
    steps, method.steps = method.steps, 1  # one step of a sampler is enough to know them all
    with freed_memory_kept():
        method.fuse(*random_pair(method, TRIAL_SIZE, TRIAL_SIZE, job.device))
    ir, vi = random_pair(method, job.height, job.width, job.device)
    with freed_memory_kept():
        memory = peak_memory(lambda: method.fuse(ir, vi), job.device)
        for _ in range(job.warmup - 1):
            method.fuse(ir, vi)
        seconds = time_calls(lambda: method.fuse(ir, vi), job.device, repeats=job.repeats, limit=job.seconds)
    return Measurement(
        seconds=tuple(steps * value for value in seconds),
        memory=None if memory is None else memory.increase,
        memory_peak=None if memory is None else memory.peak,
        memory_exact=memory is None or memory.exact,
        trained=method.trained,
        device=device_name(job.device),
        dtype=used_precision(method.card, job.dtype),
        threads=job.threads,
    )


def main(job_file: Path, answer: Path) -> None:
    """Measure, and answer with the measurement or with the error that a user can mend."""
    job = job_from_json(json.loads(job_file.read_text(encoding="utf-8")))
    try:
        write_json(answer, {"measurement": measure(job).to_json()})
    except FusionDetError as error:
        write_json(answer, {"error": str(error)})


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
