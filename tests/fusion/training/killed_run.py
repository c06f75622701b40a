"""Begins a training and kills its own process, as the system does when memory runs out. Not a test.

Arguments: the folder of pairs, the folder of results, the step after which it dies, the number of reading processes.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from training_jobs import job_of

from fusion_det.fusion.training import trainer
from fusion_det.progress import NoProgress


class Deadly(NoProgress):
    """Kills the process when it hears of a step."""

    def __init__(self, at: int) -> None:
        self.left = at

    def advance(self, steps: int = 1, note: str = "") -> None:
        self.left -= steps
        if self.left < 0:  # the state after the last step has been written
            os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    pairs, out, at, workers = sys.argv[1:]
    trainer.STATE_EVERY = 0.0
    trainer.train(job_of(Path(pairs), Path(out), workers=int(workers)), Deadly(int(at)))
