"""What the quality metrics are called, which way is better, what they read, and under which conventions they exist.

A table of data, without torch: tables, options and reports read it; the formulas are in the modules beside it.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

from fusion_det.errors import QualityError

Profile = Literal["paper", "cddfuse", "zoo", "standard"]
"""Conventions in use in the literature. Where a profile has no convention of its own for a metric, that of ``paper`` holds.

- ``paper``: S4Fusion's tables (SF, AG, VIF, Qabf), completed by ``cddfuse``; MS_SSIM and Nabf, which neither of the two
  has, by ``zoo``.
- ``cddfuse``: the evaluator of CDDFuse (Zhao et al., CVPR 2023); differs from ``paper`` in AG alone.
- ``zoo``: the survey IVIF_ZOO: MI in bits, MSE of images in 0..1, PSNR 48.13 dB up, its own window of VIF, SSIM and
  MS_SSIM with a dynamic range of 1.
- ``standard``: SSIM, MS_SSIM and PSNR with the dynamic range of 255 that their authors define.
"""

PROFILES: tuple[Profile, ...] = get_args(Profile)


@dataclass(frozen=True)
class Metric:
    """One column of a table of fusion quality.

    name: its column heading, also its name in options and result files. function: its name in ``fusion_det.quality``.
    low, high: bounds of the value; for a metric of two sources those of their sum where the metric is a sum.
    needs_sources: False if it looks at the fused image alone.
    smallest_side: what the shorter side of the image must have at least; profiles that want another are in ``sides``.
    learned: computed by a network, see ``fusion_det.quality.learned``.
    """

    name: str
    title: str
    function: str
    higher_is_better: bool = True
    low: float = 0.0
    high: float = math.inf
    needs_sources: bool = True
    smallest_side: int = 1
    sides: tuple[tuple[Profile, int], ...] = ()
    learned: bool = False

    @property
    def arrow(self) -> str:
        return "↑" if self.higher_is_better else "↓"

    def smallest_side_in(self, profile: Profile) -> int:
        return dict(self.sides).get(profile, self.smallest_side)


METRICS: tuple[Metric, ...] = (
    Metric(
        "SF", "Spatial frequency", "spatial_frequency", needs_sources=False, high=255 * math.sqrt(2), smallest_side=2
    ),
    Metric("AG", "Average gradient", "average_gradient", needs_sources=False, smallest_side=2),
    # 41: the coarsest of the four scales, without padding, is then one window.
    Metric("VIF", "Visual information fidelity", "vif", smallest_side=41, sides=(("zoo", 1),)),
    Metric("Qabf", "Edge preservation", "qabf", low=0.0, high=1.0),
    Metric("MI", "Mutual information", "mutual_information"),
    Metric("EN", "Entropy", "entropy", needs_sources=False, high=8.0),
    Metric("SD", "Standard deviation", "standard_deviation", needs_sources=False, high=127.5),
    Metric("SCD", "Sum of the correlations of differences", "scd", low=-2.0, high=2.0),
    Metric("CC", "Correlation coefficient", "correlation_coefficient", low=-1.0, high=1.0),
    Metric("PSNR", "Peak signal-to-noise ratio", "psnr", low=-math.inf),
    Metric("MSE", "Mean squared error", "mse", higher_is_better=False, high=255.0**2),
    Metric(
        "SSIM",
        "Structural similarity",
        "ssim",
        low=-2.0,
        high=2.0,
        smallest_side=7,
        sides=(("zoo", 11), ("standard", 11)),
    ),
    # 161: below it the fifth level is smaller than the window.
    Metric("MS_SSIM", "Multi-scale structural similarity", "ms_ssim", high=2.0, smallest_side=161),
    Metric("Nabf", "Fusion artefacts", "nabf", higher_is_better=False, high=1.0, smallest_side=2),
    Metric("MUSIQ", "MUSIQ (KonIQ-10k)", "musiq", needs_sources=False, high=100.0, learned=True),
    Metric("TOPIQ", "TOPIQ (KonIQ-10k)", "topiq", needs_sources=False, high=1.0, learned=True),
)
"""In the order of tables: the four columns of the S4Fusion paper first."""

FORMULAS: tuple[str, ...] = tuple(metric.name for metric in METRICS if not metric.learned)
"""Names of the metrics that need nothing but the images."""


def find_metric(name: str) -> Metric:
    """The metric of that name; upper or lower case, "-" or "_" do not matter. QualityError if there is none."""
    known = {_folded(metric.name): metric for metric in METRICS}
    if found := known.get(_folded(name)):
        return found
    near = difflib.get_close_matches(_folded(name), known, n=1, cutoff=0.4)
    hint = f" Did you mean {known[near[0]].name}?" if near else ""
    raise QualityError(f"There is no quality metric {name!r}.{hint} Known: {', '.join(m.name for m in METRICS)}")


def find_metrics(names: Iterable[str]) -> tuple[Metric, ...]:
    """The metrics of those names, each once, in the order given. QualityError for an unknown one."""
    return tuple(dict.fromkeys(find_metric(name) for name in names))


def check_profile(profile: str) -> Profile:
    """The profile itself. QualityError if there is none of that name."""
    for known in PROFILES:
        if profile == known:
            return known
    raise QualityError(f"there is no profile {profile!r} of quality metrics; profiles: {', '.join(PROFILES)}")


def _folded(name: str) -> str:
    return name.casefold().replace("-", "_")
