"""The statistics behind every number of a report: pure functions of arrays.

Two kinds of chance are kept apart, because they answer two questions:

- **training seeds**: would another training of the same detector on the same images give another figure?
  Shown as mean ± sample standard deviation, and as the number of seeds that agree on the sign of a difference.
- **test images**: would other test images of the same kind give another figure? Shown as a bootstrap interval
  over images. Replicate ``i`` resamples the same images for every method, so differences are *paired*: what is
  hard about an image is hard for both methods and cancels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

LEVEL = 0.95
"""Confidence level of every interval."""
ALPHA = 1 - LEVEL
"""Holm-adjusted p below this counts as a difference."""


@dataclass(frozen=True)
class PairedDifference:
    """``a`` minus ``b`` over the same resampled test images.

    low, high: percentile interval at :data:`LEVEL`. p: two-sided bootstrap p, never below ``2 / (replicates + 1)``.
    replicates: how many replicates were defined for both.
    """

    low: float
    high: float
    p: float
    replicates: int


def mean_std(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean and sample standard deviation (n - 1); the latter is None for fewer than two values."""
    array = np.asarray(values, dtype=np.float64)
    return float(array.mean()), float(array.std(ddof=1)) if len(array) > 1 else None


def average_over_seeds(replicates: Sequence[Sequence[float | None]]) -> np.ndarray:
    """(S seeds) x (B replicates) → (B,) float64, the mean over seeds of each replicate.

    A replicate that is undefined (None) for one seed holds no ground truth and is NaN in the result.

    Raises:
        ValueError: the seeds have different numbers of replicates, or there are none.
    """
    lengths = {len(row) for row in replicates}
    if len(lengths) != 1:
        raise ValueError(f"bootstrap replicates of unequal number: {sorted(lengths)}")
    array = np.array([[np.nan if v is None else v for v in row] for row in replicates], dtype=np.float64)
    return np.asarray(array.mean(axis=0))


def percentile_interval(replicates: np.ndarray, level: float = LEVEL) -> tuple[float, float] | None:
    """Percentile bootstrap interval (Efron 1979) of a (B,) array; NaN are left out; None if fewer than two remain."""
    defined = replicates[np.isfinite(replicates)]
    if len(defined) < 2:
        return None
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def paired_difference(a: np.ndarray, b: np.ndarray, level: float = LEVEL) -> PairedDifference | None:
    """Interval and p of ``a - b`` from paired (B,) replicates; None if they cannot be paired.

    The p-value is the share of replicates on the less likely side of zero, doubled, with one added to count and
    number (Davison & Hinkley 1997, eq. 4.11), so that B replicates never claim more than B replicates can show.
    """
    if a.shape != b.shape:
        return None
    difference = a - b
    difference = difference[np.isfinite(difference)]
    interval = percentile_interval(difference, level)
    if interval is None:
        return None
    n = len(difference)
    tail = min(int((difference <= 0).sum()), int((difference >= 0).sum()))
    return PairedDifference(*interval, p=min(1.0, 2 * (tail + 1) / (n + 1)), replicates=n)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's (1979) step-down adjusted p-values, in the order given; controls the family-wise error."""
    adjusted = [0.0] * len(p_values)
    running = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = running
    return adjusted
