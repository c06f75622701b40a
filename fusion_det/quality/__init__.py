"""Quality of fused images: the fourteen formulas fusion papers print, in the conventions they use, and two learned ones.

Importing this package, and reading the table of metrics, does not import torch; the metrics do.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from fusion_det.quality.table import FORMULAS, METRICS, PROFILES, Metric, Profile, find_metric, find_metrics

if TYPE_CHECKING:
    from fusion_det.quality.edges import nabf, qabf
    from fusion_det.quality.evaluation import evaluate
    from fusion_det.quality.fidelity import vif
    from fusion_det.quality.gradients import average_gradient, spatial_frequency
    from fusion_det.quality.intensity import (
        correlation_coefficient,
        entropy,
        mse,
        mutual_information,
        psnr,
        scd,
        standard_deviation,
    )
    from fusion_det.quality.learned import learned_metric, musiq, topiq
    from fusion_det.quality.similarity import ms_ssim, ssim

__all__ = [
    "FORMULAS",
    "METRICS",
    "PROFILES",
    "Metric",
    "Profile",
    "average_gradient",
    "correlation_coefficient",
    "entropy",
    "evaluate",
    "find_metric",
    "find_metrics",
    "learned_metric",
    "ms_ssim",
    "mse",
    "musiq",
    "mutual_information",
    "nabf",
    "psnr",
    "qabf",
    "scd",
    "spatial_frequency",
    "ssim",
    "standard_deviation",
    "topiq",
    "vif",
]

_LATE = {
    "edges": ("nabf", "qabf"),
    "evaluation": ("evaluate",),
    "fidelity": ("vif",),
    "gradients": ("average_gradient", "spatial_frequency"),
    "intensity": (
        "correlation_coefficient",
        "entropy",
        "mse",
        "mutual_information",
        "psnr",
        "scd",
        "standard_deviation",
    ),
    "learned": ("learned_metric", "musiq", "topiq"),
    "similarity": ("ms_ssim", "ssim"),
}


def __getattr__(name: str) -> Any:
    """The metrics are imported when they are asked for: they need torch, their table does not."""
    for module, names in _LATE.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
