"""The statistics against closed forms, hand computation and scipy/statsmodels-style definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from fusion_det.report.statistics import (
    average_over_seeds,
    holm,
    mean_std,
    paired_difference,
    percentile_interval,
)


def test_mean_and_sample_deviation_by_hand():
    assert mean_std([1.0, 2.0, 6.0]) == pytest.approx((3.0, math.sqrt(7.0)))
    assert mean_std([0.5]) == (0.5, None)


def test_replicates_are_averaged_over_seeds_not_over_replicates():
    averaged = average_over_seeds([[0.0, 0.2, None], [1.0, 0.4, None]])
    assert averaged[:2] == pytest.approx([0.5, 0.3])
    assert math.isnan(averaged[2])
    with pytest.raises(ValueError, match="unequal"):
        average_over_seeds([[0.1], [0.1, 0.2]])


def test_percentile_interval_is_numpys_quantile_of_the_defined():
    values = np.array([np.nan, *np.linspace(0, 1, 101)])
    assert percentile_interval(values) == pytest.approx((0.025, 0.975))
    assert percentile_interval(np.array([0.3, np.nan])) is None


def test_paired_interval_meets_the_normal_closed_form():
    """The mean of n paired differences: the bootstrap interval is d̄ ± 1.96 σ/√n, however much the pairs vary together."""
    rng = np.random.default_rng(0)
    n, replicates = 400, 4000
    common = rng.normal(0, 5, n)
    a, b = common + rng.normal(0.3, 1, n), common + rng.normal(0, 1, n)
    draws = rng.integers(0, n, (replicates, n))
    found = paired_difference(a[draws].mean(axis=1), b[draws].mean(axis=1))
    assert found is not None
    d = a - b
    half = 1.96 * d.std() / math.sqrt(n)
    assert found.low == pytest.approx(d.mean() - half, abs=0.1 * half)
    assert found.high == pytest.approx(d.mean() + half, abs=0.1 * half)
    closed = 2 * stats.norm.sf(abs(d.mean()) / (d.std() / math.sqrt(n)))
    assert found.p == pytest.approx(closed, abs=0.01)
    # Unpaired, the common part would not cancel and the interval would be several times as wide.
    unpaired = paired_difference(a[draws].mean(axis=1), b[rng.integers(0, n, (replicates, n))].mean(axis=1))
    assert unpaired is not None
    assert unpaired.high - unpaired.low > 3 * (found.high - found.low)


def test_p_never_claims_more_than_the_replicates_can_show():
    found = paired_difference(np.full(99, 0.9), np.full(99, 0.1))
    assert found is not None
    assert found.p == pytest.approx(2 / 100)
    same = paired_difference(np.full(99, 0.5), np.full(99, 0.5))
    assert same is not None
    assert same.p == 1.0


def test_replicates_of_different_number_are_not_paired():
    assert paired_difference(np.zeros(10), np.zeros(9)) is None


def test_holm_by_hand():
    # Sorted .01 .02 .03 .04: times 4 3 2 1 = .04 .06 .06 .04, then made monotone.
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_holm_lies_between_raw_and_bonferroni_and_keeps_the_order(p):
    adjusted = holm(p)
    assert all(
        raw <= new <= min(1.0, len(p) * raw) or new == 1.0 or new >= raw for raw, new in zip(p, adjusted, strict=True)
    )
    assert all(new >= raw for raw, new in zip(p, adjusted, strict=True))
    order = np.argsort(p, kind="stable")
    assert (np.diff(np.array(adjusted)[order]) >= 0).all()
