"""The scans of a GPU against the reference in float64 on the CPU: ``pytest -m gpu`` on a machine that has one."""

from __future__ import annotations

import pytest
import torch
from scan_cases import NAMES, Case, Scan, errors, run

from fusion_det.fusion.ssm import Backend, choose_backend, cuda, scan_2d, selective_scan, triton_scan
from fusion_det.fusion.ssm.reference import selective_scan_reference

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

SCANS: dict[Backend, Scan] = {"cuda": cuda.selective_scan_mamba, "triton": triton_scan.selective_scan_triton}
TOLERANCE = 5e-5
"""Of the largest value; the GPU's exponential is good to about 1e-6, and sums add up errors."""


@pytest.fixture(params=["cuda", "triton"])
def backend(request: pytest.FixtureRequest) -> Backend:
    why_not = {"cuda": cuda.why_not, "triton": triton_scan.why_not}[request.param]
    reason = why_not(torch.zeros(1, device="cuda"))
    if reason:
        pytest.skip(reason)
    return request.param


@pytest.mark.parametrize(
    "case",
    [
        Case(1, 1, 1, 1, 1),
        Case(2, 6, 2, 4, 11),
        Case(1, 72, 4, 12, 128),
        Case(2, 72, 4, 18, 1000),
        Case(1, 12, 1, 64, 333),
        Case(1, 3, 3, 5, 5000),
        Case(2, 8, 2, 3, 257, softplus=False, skip=False, bias=False),
        Case(1, 8, 1, 16, 700, delta_scale=30),
        Case(1, 8, 1, 16, 700, rate_scale=1e-3),
    ],
    ids=str,
)
def test_agrees_with_the_reference(backend: Backend, case: Case) -> None:
    found = errors(SCANS[backend], case, device="cuda")
    assert max(found.values()) < TOLERANCE, found


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(backend: Backend, dtype: torch.dtype) -> None:
    found = errors(SCANS[backend], Case(2, 8, 2, 16, 300, dtype=dtype), device="cuda")
    assert max(found.values()) < 4 * torch.finfo(dtype).eps, found


def test_triton_tiles_all_give_the_same() -> None:
    case = Case(1, 20, 1, 6, 900)
    for tiling in (triton_scan.Tiling(4, 256), triton_scan.Tiling(1, 128), triton_scan.Tiling(16, 64, 16, programs=1)):

        def scan(*args: object, tiling: triton_scan.Tiling = tiling) -> tuple[torch.Tensor, torch.Tensor]:
            return triton_scan.selective_scan_triton(*args, tiling=tiling)  # type: ignore[arg-type]

        found = errors(scan, case, device="cuda")
        assert max(found.values()) < TOLERANCE, (tiling, found)


def test_triton_gradients_are_the_same_in_every_run() -> None:
    case = Case(1, 72, 4, 12, 3000)
    given = {name: tensor.float().cuda() for name, tensor in case.inputs().items()}
    dy = torch.randn(1, 72, 3000, device="cuda")
    first, second = (run(triton_scan.selective_scan_triton, given, dy, True) for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_autocast_leaves_the_scan_in_float32(backend: Backend) -> None:
    given = {name: tensor.float().cuda() for name, tensor in Case(1, 8, 2, 4, 200).inputs().items()}
    expected = selective_scan(*(given[name] for name in NAMES), delta_softplus=True, backend=backend)
    with torch.autocast("cuda", dtype=torch.bfloat16):
        found = selective_scan(*(given[name] for name in NAMES), delta_softplus=True, backend=backend)
    torch.testing.assert_close(found, expected)


def test_a_sequence_as_long_as_a_picture(backend: Backend) -> None:
    """Both modalities of 1024×768 in one sequence; two channels of it checked."""
    case = Case(1, 288, 4, 12, 180_001, delta_scale=0.3)
    given = {name: tensor.float().cuda() for name, tensor in case.inputs().items()}
    y, last = SCANS[backend](*(given[name] for name in NAMES), True)
    few = {name: tensor.cpu().double() for name, tensor in given.items()}
    for name in ("u", "delta"):
        few[name] = few[name][:, :2]
    for name in ("B", "C"):
        few[name] = few[name][:, :1]
    for name in ("A", "D", "delta_bias"):
        few[name] = few[name][:2]
    expected, expected_last = selective_scan_reference(*(few[name] for name in NAMES), True)
    torch.testing.assert_close(y[:, :2].cpu().double(), expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(last[:, :2].cpu().double(), expected_last, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("modalities", [1, 2])
def test_scans_of_maps(backend: Backend, modalities: int) -> None:
    generator = torch.Generator().manual_seed(0)
    shapes = {
        "u": (modalities, 2, 13, 17, 6),
        "params": (modalities, 2, 13, 17, 4, 3 + 2 * 5),
        "dt_weight": (4, 6, 3),
        "dt_bias": (4, 6),
        "A": (4, 6, 5),
        "D": (4, 6),
    }
    inputs = {name: torch.randn(shape, generator=generator, dtype=torch.float64) for name, shape in shapes.items()}
    inputs["A"] = -inputs["A"].abs()
    on_cpu = {name: tensor.clone().requires_grad_() for name, tensor in inputs.items()}
    on_gpu = {name: tensor.float().cuda().requires_grad_() for name, tensor in inputs.items()}
    expected, found = scan_2d(**on_cpu, backend="reference"), scan_2d(**on_gpu, backend=backend)
    dy = torch.randn(expected.shape, generator=generator, dtype=torch.float64)
    expected.backward(dy)
    found.backward(dy.float().cuda())
    torch.testing.assert_close(found.cpu().double(), expected, rtol=1e-4, atol=1e-4)
    for name, leaf in on_cpu.items():
        scale = leaf.grad.abs().max().item()
        torch.testing.assert_close(
            on_gpu[name].grad.cpu().double(), leaf.grad, rtol=0, atol=TOLERANCE * scale, msg=name
        )


def test_a_fast_backend_is_chosen() -> None:
    assert choose_backend(torch.zeros(1, device="cuda")) in ("cuda", "triton")
