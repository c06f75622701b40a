"""Trainings that take a second."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fusion_det.data import open_dataset
from fusion_det.fusion import load_method_modules
from fusion_det.fusion.training.mixture import Source, mix
from fusion_det.fusion.training.settings import TrainSettings
from fusion_det.fusion.training.trainer import TrainJob

LEARNERS = str(Path(__file__).with_name("learners.py"))
SETTINGS = TrainSettings(crop=24, batch=2, accumulate=2, epochs=3, classifier="none", peak_rate=3e-3, sample_every=2)


def write_pairs(root: Path, count: int = 11) -> Path:
    """Smooth pairs of 40 × 32 pixels in ``root/ir`` and ``root/vi``."""
    rng = np.random.default_rng(0)
    for i in range(count):
        for folder, channels in (("ir", 1), ("vi", 3)):
            coarse = rng.integers(0, 256, (5, 4, channels), dtype=np.uint8).squeeze()
            file = root / folder / f"{i:02d}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(coarse).resize((40, 32), Image.Resampling.BICUBIC).save(file)
    return root


def job_of(pairs: Path, out: Path, method: str = "learner", validation: int = 2, **changes: Any) -> TrainJob:
    """A training on all pairs of a folder; ``changes``: of the job, or of its settings."""
    load_method_modules([LEARNERS])
    own = {name: changes.pop(name) for name in list(changes) if name in TrainJob.__dataclass_fields__}
    mixture = mix([Source(open_dataset(pairs))], validation=validation)
    settings = replace(SETTINGS, **changes)
    return TrainJob(method, mixture, settings, out, **{"workers": 0, **own})
