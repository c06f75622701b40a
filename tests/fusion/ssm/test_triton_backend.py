"""The Triton scan without a GPU: its arithmetic in the interpreter, and its kernels through the compiler to machine code."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from scan_cases import NAMES, Case
from torch._subclasses.fake_tensor import FakeTensorMode

from fusion_det.fusion.ssm import triton_scan

pytest.importorskip("triton")


@pytest.mark.slow
def test_in_the_interpreter() -> None:
    """triton_in_interpreter.py, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "triton_in_interpreter.py"],
        cwd=Path(__file__).parent,
        env={**os.environ, "TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


class _NoGPU:
    """What Triton's launcher asks of a driver before it compiles for this architecture."""

    def __init__(self, architecture: int) -> None:
        from triton.backends.compiler import GPUTarget

        self.target = GPUTarget("cuda", architecture, 32)

    def get_current_device(self) -> int:
        return self.target.arch  # compiled kernels are kept per device

    def get_current_target(self) -> Any:
        return self.target

    def get_current_stream(self, device: int) -> int:
        return 0


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """Launches compile to machine code, are kept here by their kernel's name, and do not run."""
    from triton import knobs
    from triton.runtime.jit import JITFunction

    kernels: dict[str, Any] = {}
    run = JITFunction.run

    def compile_only(self: Any, *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> None:
        kernels[self.__name__] = run(self, *args, grid=grid, warmup=True, **kwargs)

    monkeypatch.setattr(JITFunction, "run", compile_only)
    monkeypatch.setattr(knobs.cache, "dir", str(tmp_path))
    return kernels


@pytest.mark.parametrize(
    ("architecture", "case"),
    [
        (80, Case(1, 288, 4, 18, 1000)),
        (90, Case(1, 288, 4, 12, 1000, dtype=torch.bfloat16)),
        (75, Case(1, 1, 1, 1, 1, softplus=False, dtype=torch.float16)),
    ],
    ids=str,
)
def test_every_launch_compiles_for_gpus(
    architecture: int, case: Case, compiled: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from triton.runtime import driver

    monkeypatch.setattr(driver, "_active", _NoGPU(architecture))
    given = {name: tensor.to(case.low(name)).requires_grad_() for name, tensor in case.inputs().items()}
    y, _ = triton_scan.selective_scan_triton(*(given[name] for name in NAMES), case.softplus)
    y.backward(torch.zeros_like(y))
    assert set(compiled) == {"summarise_chunks", "carry_over_chunks", "scan_chunks", "scan_chunks_backward"}
    assert all(len(kernel.asm["cubin"]) > 0 for kernel in compiled.values())


@pytest.mark.parametrize(("length", "share"), [(11, 1), (128, 1), (1000, 1), (12_000, 3), (100_000, 9)])
def test_short_sequences_share_out_their_channels(length: int, share: int) -> None:
    """4 groups of 9 blocks of channels: the longer the sequence, the fewer programs a chunk needs."""
    u, B = torch.empty(1, 288, length, device="meta"), torch.empty(1, 4, 18, length, device="meta")
    assert triton_scan._Plan.of(u, B, True, triton_scan.ON_A_GPU).blocks_per_share == share


def test_why_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with FakeTensorMode():
        on_gpu = torch.empty(1, device="cuda")
    assert "Triton needs a GPU" in str(triton_scan.why_not(torch.zeros(1)))
    assert "use reference" in str(triton_scan.why_not(on_gpu.double()))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (6, 1))
    assert "this one has 6.1" in str(triton_scan.why_not(on_gpu))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 6))
    assert triton_scan.why_not(on_gpu) is None
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert triton_scan.why_not(torch.zeros(1)) is None


def test_triton_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton_scan.importlib.util, "find_spec", lambda name: None)
    with FakeTensorMode():
        assert "pip install triton" in str(triton_scan.why_not(torch.empty(1, device="cuda")))
