"""The reference scan against recorded outputs, closed forms and finite differences; the one interface over all backends."""

from __future__ import annotations

import importlib
import logging
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from scan_cases import NAMES, Case, run
from torch._subclasses.fake_tensor import FakeTensorMode

from fusion_det.errors import ConfigError
from fusion_det.fusion.ssm import BACKEND_ENV, choose_backend, selective_scan
from fusion_det.fusion.ssm.reference import selective_scan_reference

scan = partial(selective_scan, backend="reference")


# Recorded outputs


@pytest.mark.parametrize(("suffix", "tolerance"), [("", 3e-6), ("_f64", 1e-12)])
def test_recorded_scan_and_gradients(scan_golden: dict[str, torch.Tensor], suffix: str, tolerance: float) -> None:
    dtype = torch.float64 if suffix else torch.float32
    inputs = {name: scan_golden[name].to(dtype) for name in NAMES}
    found = run(selective_scan_reference, inputs, scan_golden["grad_y"].to(dtype), softplus=True)
    for name, tensor in found.items():
        recorded = scan_golden[name.replace("d", "grad_", 1) + suffix if name.startswith("d") else name + suffix]
        torch.testing.assert_close(tensor, recorded, atol=tolerance, rtol=tolerance, msg=name)


def test_recorded_gate_and_bare_scan(scan_golden: dict[str, torch.Tensor]) -> None:
    g = {name: tensor.double() for name, tensor in scan_golden.items()}
    gated = scan(*(g[name] for name in NAMES), delta_softplus=True, z=g["z"])
    torch.testing.assert_close(gated, g["y_gated_f64"], atol=1e-12, rtol=0)
    bare = scan(g["u"], g["delta"].abs(), g["A"], g["B"], g["C"])
    torch.testing.assert_close(bare, g["y_no_softplus_no_D_f64"], atol=1e-12, rtol=0)


# Closed forms


def test_without_decay_it_is_a_running_sum() -> None:
    u, delta = torch.randn(2, 3, 50, dtype=torch.float64), torch.rand(2, 3, 50, dtype=torch.float64)
    ones = torch.ones(2, 1, 1, 50, dtype=torch.float64)
    y, last = scan(u, delta, torch.zeros(3, 1, dtype=torch.float64), ones, ones, return_last_state=True)
    torch.testing.assert_close(y, (delta * u).cumsum(-1))
    torch.testing.assert_close(last[..., 0], (delta * u).sum(-1))


def test_an_impulse_dies_away_exponentially() -> None:
    delta, rates, length = 0.3, torch.tensor([[-0.5, -2.0]], dtype=torch.float64), 20
    u = torch.zeros(1, 1, length, dtype=torch.float64)
    u[..., 0] = 1.0
    ones = torch.ones(1, 1, 2, length, dtype=torch.float64)
    y = scan(u, torch.full_like(u, delta), rates, ones, ones)
    t = torch.arange(length, dtype=torch.float64)
    torch.testing.assert_close(y[0, 0], delta * torch.exp(delta * rates[0, :, None] * t).sum(0))


def test_constant_input_settles_at_the_sum_of_the_series() -> None:
    delta, rate = 0.7, -1.3
    u = torch.ones(1, 1, 200, dtype=torch.float64)
    ones = u[None]
    y = scan(u, delta * u, torch.tensor([[rate]], dtype=torch.float64), ones, ones, torch.tensor([2.0]).double())
    decay = torch.tensor(delta * rate, dtype=torch.float64).exp()
    torch.testing.assert_close(y[0, 0, -1], delta / (1 - decay) + 2.0)


def test_channels_use_the_b_and_c_of_their_group() -> None:
    inputs = Case(batch=2, channels=6, groups=2, states=3, length=9).inputs()
    shared = scan(*(inputs[name] for name in NAMES))
    for name in ("B", "C"):
        inputs[name] = inputs[name][:, [0, 0, 0, 1, 1, 1]]
    torch.testing.assert_close(scan(*(inputs[name] for name in NAMES)), shared)


def test_softplus_of_a_large_step_is_the_step() -> None:
    inputs = Case(length=5).inputs()
    inputs["delta"] = inputs["delta"].abs() + 25
    args = [inputs[name] for name in NAMES[:5]]
    torch.testing.assert_close(scan(*args, delta_softplus=True), scan(*args), atol=1e-9, rtol=0)


@pytest.mark.parametrize("case", [Case(2, 4, 2, 2, 4), Case(1, 2, 1, 1, 3, softplus=False, skip=False, bias=False)])
def test_gradients_are_finite_differences(case: Case) -> None:
    inputs = {name: tensor.requires_grad_() for name, tensor in case.inputs().items()}

    def y(*tensors: torch.Tensor) -> torch.Tensor:
        given = dict(zip(inputs, tensors, strict=True))
        return selective_scan_reference(*(given.get(name) for name in NAMES), case.softplus)[0]

    assert torch.autograd.gradcheck(y, tuple(inputs.values()))


# Precision


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_only_in_and_out(dtype: torch.dtype) -> None:
    case = Case(length=300, delta_scale=0.1, rate_scale=0.01, dtype=dtype)  # states that add up for long
    inputs = case.inputs()
    exact, _ = selective_scan_reference(*(inputs[name] for name in NAMES), True)
    y, last = selective_scan_reference(*(inputs[name].to(case.low(name)) for name in NAMES), True)
    assert y.dtype == dtype and last.dtype == torch.float32
    torch.testing.assert_close(y.double(), exact, rtol=torch.finfo(dtype).eps, atol=1e-3)


def test_autocast_changes_nothing() -> None:
    inputs = {name: tensor.float() for name, tensor in Case(length=60).inputs().items()}
    expected = scan(*(inputs[name] for name in NAMES), delta_softplus=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = scan(*(inputs[name] for name in NAMES), delta_softplus=True)
    assert torch.equal(found, expected)


def test_on_meta_only_shapes_are_made() -> None:
    u = torch.empty(1, 288, 200_000, device="meta")
    B = torch.empty(1, 4, 18, 200_000, device="meta")
    y, last = selective_scan(u, u, torch.empty(288, 18, device="meta"), B, B, return_last_state=True)
    assert (y.shape, y.dtype, last.shape) == (u.shape, u.dtype, (1, 288, 18))


# The interface


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("u", (6, 11), "u is \\(b,d,L\\)"),
        ("u", (2, 6, 0), "nothing to scan"),
        ("delta", (2, 6, 10), "delta is"),
        ("A", (5, 4), "A is"),
        ("B", (2, 4, 4, 11), "6 channels cannot be shared out among 4 groups"),
        ("B", (2, 0, 4, 11), "0 groups"),
        ("C", (2, 1, 4, 11), "C is"),
        ("D", (4,), "D is"),
        ("delta_bias", (6, 1), "delta_bias is"),
    ],
)
def test_shapes_that_do_not_fit(name: str, shape: tuple[int, ...], message: str) -> None:
    inputs = Case(2, 6, 2, 4, 11).inputs()
    inputs[name] = torch.zeros(shape)
    with pytest.raises(ValueError, match=message):
        selective_scan(*(inputs[n] for n in NAMES))


def test_the_gate_must_fit_too() -> None:
    inputs = Case(2, 6, 2, 4, 11).inputs()
    with pytest.raises(ValueError, match="z is"):
        selective_scan(*(inputs[n] for n in NAMES), z=torch.zeros(2, 6, 12))


def test_gate_is_silu() -> None:
    inputs = Case(2, 6, 2, 4, 11).inputs()
    z = torch.randn(2, 6, 11, dtype=torch.float64)
    plain = selective_scan(*(inputs[n] for n in NAMES))
    torch.testing.assert_close(selective_scan(*(inputs[n] for n in NAMES), z=z), plain * F.silu(z))


# The choice of a backend


def test_a_cpu_gets_the_compiled_scan_and_float64_the_reference() -> None:
    assert choose_backend(torch.zeros(1)) == "cpu"
    assert choose_backend(torch.zeros(1, dtype=torch.bfloat16)) == "cpu"
    assert choose_backend(torch.zeros(1, dtype=torch.float64)) == "reference"
    assert choose_backend(torch.zeros(1, device="meta")) == "reference"


def test_the_environment_chooses_and_the_argument_overrules_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(BACKEND_ENV, "reference")
    assert choose_backend(torch.zeros(1)) == "reference"
    assert choose_backend(torch.zeros(1), "cpu") == "cpu"
    monkeypatch.setenv(BACKEND_ENV, "")
    assert choose_backend(torch.zeros(1)) == "cpu"
    monkeypatch.setenv(BACKEND_ENV, "cpu")
    assert choose_backend(torch.zeros(1, device="meta")) == "reference"


@pytest.mark.parametrize("backend", ["gpu", "CPU"])
def test_an_unknown_backend_names_the_known(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for ask in (partial(choose_backend, backend=backend), choose_backend):
        monkeypatch.setenv(BACKEND_ENV, backend)
        with pytest.raises(ConfigError, match=rf"'{backend}'.*{BACKEND_ENV}.*reference, cpu, cuda, triton"):
            ask(torch.zeros(1))


@pytest.mark.parametrize(
    ("backend", "dtype", "message"),
    [
        ("cpu", torch.float64, "use reference"),
        ("triton", torch.float64, "use reference"),
        ("triton", torch.float32, "lies on cpu; Triton needs a GPU"),
        ("cuda", torch.float32, "lies on cpu, and mamba-ssm's kernel needs a CUDA device"),
    ],
)
def test_a_backend_that_cannot_says_why(backend: str, dtype: torch.dtype, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        choose_backend(torch.zeros(1, dtype=dtype), backend)


@pytest.mark.parametrize(
    ("cuda", "triton", "expected"),
    [(None, None, "cuda"), ("no", None, "triton"), (None, "no", "cuda"), ("no", "neither", "reference")],
)
def test_on_a_gpu_the_first_that_can_is_taken_and_a_slow_one_announced_once(
    cuda: str | None,
    triton: str | None,
    expected: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    module = importlib.import_module("fusion_det.fusion.ssm.selective_scan")
    monkeypatch.setattr(module, "_why_not_cuda", lambda tensor: cuda)
    monkeypatch.setattr(module, "_why_not_triton", lambda tensor: triton)
    module._warn_slow.cache_clear()
    with FakeTensorMode(), caplog.at_level(logging.WARNING):
        on_gpu = torch.empty(1, device="cuda")
        assert [choose_backend(on_gpu) for _ in range(2)] == [expected] * 2
    assert [r.levelname for r in caplog.records] == (["WARNING"] if expected == "reference" else [])
    assert all("neither" in r.getMessage() for r in caplog.records)
