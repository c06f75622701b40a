"""The statistics behind every number of a report: pure functions of arrays.

Two kinds of chance are kept apart, because they answer two questions:

- **training seeds**: would another training of the same detector on the same images give another figure?
  Shown as mean ± sample standard deviation, and as the number of seeds that agree on the sign of a difference.
- **test images**: would other test images of the same kind give another figure? Shown as a bootstrap interval
  over images. Replicate ``i`` resamples the same images for every method, so differences are *paired*: what is
  hard about an image is hard for both methods and cancels.
"""

from __future__ import annotations

import itertools
import math
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


def midranks(values: np.ndarray) -> np.ndarray:
    """Ranks along the last axis, 1 for the smallest; ties share the mean of their places. (…, n) → (…, n) float64."""
    below = (values[..., None, :] < values[..., :, None]).sum(axis=-1)
    equal = (values[..., None, :] == values[..., :, None]).sum(axis=-1)
    return np.asarray(below + (equal + 1) / 2, dtype=np.float64)


def spearman(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Spearman's (1904) rank correlation along the last axis, ties by mid-ranks; NaN where one side is constant."""
    a, b = midranks(x), midranks(y)
    a, b = a - a.mean(axis=-1, keepdims=True), b - b.mean(axis=-1, keepdims=True)
    product = (a * b).sum(axis=-1)
    scale = np.sqrt((a * a).sum(axis=-1) * (b * b).sum(axis=-1))
    return np.divide(product, scale, out=np.full_like(product, np.nan), where=scale > 0)


def kendall(x: np.ndarray, y: np.ndarray) -> float:
    """Kendall's tau-b (1945) of two (n,) arrays; NaN where one of them is constant."""
    i, j = np.triu_indices(len(x), 1)
    a, b = np.sign(x[i] - x[j]), np.sign(y[i] - y[j])
    scale = np.sqrt(float((a != 0).sum()) * float((b != 0).sum()))
    return float((a * b).sum() / scale) if scale else float("nan")


EXACT_PERMUTATIONS = 8
"""Up to so many values every order is tried; above, :data:`RANDOM_PERMUTATIONS` random ones."""
RANDOM_PERMUTATIONS = 20_000


def permutation_p(x: np.ndarray, y: np.ndarray) -> float:
    """Two-sided p of Spearman's rank correlation of two (n,) arrays, were all orders of ``y`` equally likely.

    Exact for n of at most :data:`EXACT_PERMUTATIONS`; else from random orders, with one added to count and number
    (Davison & Hinkley 1997, eq. 4.11). 1 where the correlation is undefined.
    """
    observed = spearman(x, y)
    if not np.isfinite(observed):
        return 1.0
    n = len(x)
    exact = n <= EXACT_PERMUTATIONS
    if exact:
        orders = np.array(list(itertools.permutations(range(n))))
    else:
        generator = np.random.Generator(np.random.PCG64(0))
        orders = generator.random((RANDOM_PERMUTATIONS, n)).argsort(axis=1)
    a, b = midranks(x), midranks(y)
    a, b = a - a.mean(), b - b.mean()
    drawn = b[orders] @ a / np.sqrt((a @ a) * (b @ b))
    extreme = int((np.abs(drawn) >= abs(float(observed)) - 1e-9).sum())
    return extreme / len(orders) if exact else (extreme + 1) / (len(orders) + 1)


def smallest_permutation_p(n: int) -> float:
    """The least p that :func:`permutation_p` can give for n different values: that of two identical orders."""
    return min(1.0, 2 / math.factorial(n)) if n <= EXACT_PERMUTATIONS else 1 / (RANDOM_PERMUTATIONS + 1)
