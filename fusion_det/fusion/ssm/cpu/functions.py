"""Exponential, softplus and their like on vectors: arithmetic only, accurate to about one unit in the last place."""

from __future__ import annotations

from typing import Any

import numpy as np

from fusion_det.fusion.ssm.cpu.compiled import inlined
from fusion_det.fusion.ssm.cpu.vectors import at_least, same, split_power, times_power, where_greater

LOG2_E = np.float32(1.4426950408889634)
LN_2 = np.float32(0.6931471805599453)

# 2ᶠ = 1 + f·q(f) for |f| ≤ ½: q by Chebyshev interpolation. Written so, the error of 2ᶠ vanishes with f: a decay near one
# is applied thousands of times over, and a relative error that did not shrink with it would add up.
_Q0, _Q1, _Q2, _Q3, _Q4, _Q5 = (
    np.float32(c)
    for c in (
        0.6931471824645996,
        0.24022650718688965,
        0.055503569543361664,
        0.009618083015084267,
        0.0013390863314270973,
        0.00015453163359779865,
    )
)
# log(1 + e) = s·p(s²), s = e/(2 + e), for 0 ≤ e ≤ 1: the series of 2·artanh(s), likewise economised.
_P0, _P1, _P2, _P3, _P4, _P5 = (
    np.float32(c)
    for c in (2.0, 0.6666668057441711, 0.3999871015548706, 0.286202073097229, 0.2139856070280075, 0.24393907189369202)
)


@inlined
def exp2(x: Any) -> Any:
    """2ˣ; what becomes of very small and very large results is said in ``times_power``."""
    power, f = split_power(x)
    q = same(_Q4) + f * same(_Q5)
    q = same(_Q3) + f * q
    q = same(_Q2) + f * q
    q = same(_Q1) + f * q
    q = same(_Q0) + f * q
    return times_power(same(np.float32(1.0)) + f * q, power)


@inlined
def softplus(x: Any) -> Any:
    """(log(1 + eˣ), its derivative); x and 1 where x > 20, like torch.nn.functional.softplus."""
    zero, one = same(np.float32(0.0)), same(np.float32(1.0))
    magnitude = where_greater(x, zero, x, zero - x)
    e = exp2(zero - magnitude * same(LOG2_E))
    s = e / (same(np.float32(2.0)) + e)
    z = s * s
    p = same(_P4) + z * same(_P5)
    p = same(_P3) + z * p
    p = same(_P2) + z * p
    p = same(_P1) + z * p
    p = same(_P0) + z * p
    value = at_least(x, zero) + s * p
    slope = where_greater(x, zero, one, e) / (one + e)
    linear = same(np.float32(20.0))
    return where_greater(x, linear, x, value), where_greater(x, linear, one, slope)
