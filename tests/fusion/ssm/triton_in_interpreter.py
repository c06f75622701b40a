"""The Triton kernels' arithmetic against the reference in float64, element by element in Triton's interpreter.

The interpreter must be chosen before triton is first imported, so test_triton_backend.py runs this file in a process of its
own. By hand: ``TRITON_INTERPRET=1 pytest tests/fusion/ssm/triton_in_interpreter.py``.
"""

from __future__ import annotations

from functools import partial

import pytest
import torch
from scan_cases import NAMES, Case, errors, run

from fusion_det.fusion.ssm import selective_scan
from fusion_det.fusion.ssm.reference import selective_scan_reference
from fusion_det.fusion.ssm.triton_scan import ON_A_GPU, Tiling, selective_scan_triton

TOLERANCE = 2e-5
"""Of the largest value; most results are within 3e-7, but a bias's gradient is what is left of a sum of either sign."""
SMALL = Tiling(channels=2, steps=16, chunks=4, programs=16)


@pytest.mark.parametrize(
    "case",
    [
        Case(1, 1, 1, 1, 1),
        Case(2, 6, 2, 4, 11),
        Case(1, 3, 1, 2, 16),  # a chunk, exactly
        Case(1, 3, 1, 2, 17),  # and one step more
        Case(1, 4, 2, 3, 64),  # as many chunks as are carried over at a time
        Case(1, 3, 1, 2, 130),  # three rounds of them, a part of a block of channels
        Case(2, 4, 4, 1, 40),  # a group for each channel
        Case(2, 5, 1, 2, 35, softplus=False, skip=False, bias=False),
        Case(1, 2, 1, 33, 20),
        Case(1, 2, 1, 2, 70, delta_scale=30),
        Case(1, 2, 1, 2, 70, rate_scale=1e-3),
        Case(1, 2, 1, 2, 40, softplus=False, delta_scale=1e4, rate_scale=1e4),
    ],
    ids=str,
)
def test_agrees_with_the_reference(case: Case) -> None:
    found = errors(partial(selective_scan_triton, tiling=SMALL), case)
    assert max(found.values()) < TOLERANCE, found


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_rounded_only_at_the_end(dtype: torch.dtype) -> None:
    found = errors(partial(selective_scan_triton, tiling=SMALL), Case(1, 3, 1, 2, 40, dtype=dtype))
    assert max(found.values()) < torch.finfo(dtype).eps, found
    assert found["last_state"] < 1e-6 and found["dA"] < 1e-5, found


def test_the_tiles_of_a_gpu() -> None:
    found = errors(partial(selective_scan_triton, tiling=ON_A_GPU), Case(1, 3, 1, 1, 140))
    assert max(found.values()) < TOLERANCE, found


@pytest.mark.parametrize("programs", [1, 2])
def test_channels_of_a_group_in_turn(programs: int) -> None:
    """dB and dC are sums over five blocks of channels, in one or two programs."""
    tiling = Tiling(channels=2, steps=32, chunks=4, programs=programs)
    found = errors(partial(selective_scan_triton, tiling=tiling), Case(1, 9, 1, 2, 20))
    assert max(found.values()) < TOLERANCE, found


def test_recorded_scan(scan_golden: dict[str, torch.Tensor]) -> None:
    y, last = selective_scan(
        *(scan_golden[name] for name in NAMES),
        delta_softplus=True,
        z=scan_golden["z"],
        return_last_state=True,
        backend="triton",
    )
    torch.testing.assert_close(y, scan_golden["y_gated"], atol=3e-6, rtol=3e-6)
    torch.testing.assert_close(last, scan_golden["last_state"], atol=3e-6, rtol=3e-6)


def test_any_strides() -> None:
    case = Case(2, 4, 2, 2, 20)
    plain = {name: tensor.float() for name, tensor in case.inputs().items()}
    strided = {
        name: torch.stack((t.mT.contiguous().mT if t.dim() > 1 else t, t), -1)[..., 0] for name, t in plain.items()
    }
    assert not any(t.is_contiguous() for t in strided.values())
    dy = torch.randn(2, 20, 4).mT
    expected, found = (run(selective_scan_triton, given, dy, True) for given in (plain, strided))
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_softplus_keeps_its_digits() -> None:
    """With A = 0 and all else 1, y is the softplus itself."""
    delta = torch.linspace(-60, 60, 121)[:, None, None]
    ones = torch.ones_like(delta)
    y, _ = selective_scan_triton(ones, delta, torch.zeros(1, 1), ones[:, None], ones[:, None], None, None, True)
    expected = torch.nn.functional.softplus(delta.double())
    torch.testing.assert_close(y.double(), expected, rtol=3e-7, atol=0)


@pytest.mark.filterwarnings("ignore:(overflow|invalid value):RuntimeWarning")
@pytest.mark.parametrize("delta", [0.0, 1e-30, 1e6, 1e18, 1e30])
@pytest.mark.parametrize("rate", [0.0, -1e-30, -1e6])
def test_finite_where_the_reference_is(delta: float, rate: float) -> None:
    """The reference in float32 too: at the largest steps some gradients are beyond it."""
    case = Case(1, 2, 1, 2, 20, softplus=False, bias=False)
    given = {name: tensor.float() for name, tensor in case.inputs().items()}
    given["delta"], given["A"] = torch.full_like(given["delta"], delta), torch.full_like(given["A"], rate)
    found, expected = (
        run(scan, given, torch.ones(1, 2, 20), False) for scan in (selective_scan_triton, selective_scan_reference)
    )
    for name, tensor in expected.items():
        assert (found[name].isfinite() | ~tensor.isfinite()).all(), name
    assert expected["y"].isfinite().all()


def test_only_some_inputs_need_gradients() -> None:
    given = {name: tensor.float() for name, tensor in Case().inputs().items()}
    given["B"].requires_grad_()
    y, last = selective_scan_triton(*(given[name] for name in NAMES), True)
    y.sum().backward()
    assert given["B"].grad is not None and given["u"].grad is None
    assert not last.requires_grad
