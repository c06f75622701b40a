"""mamba-ssm as a backend: how its function is called, and what is said when it cannot be.

No GPU is needed: a stand-in package computes by the reference and writes down what it was given.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from scan_cases import NAMES, Case, errors, run
from torch._subclasses.fake_tensor import FakeTensorMode

from fusion_det.errors import ConfigError
from fusion_det.fusion.ssm import cuda

INTERFACE = """
from fusion_det.fusion.ssm.reference import selective_scan_reference

calls = []

def selective_scan_fn(u, delta, A, B, C, D=None, z=None, delta_bias=None, delta_softplus=False, return_last_state=False):
    calls.append(dict(u=u, delta=delta, A=A, B=B, C=C, D=D, z=z, delta_bias=delta_bias))
    y, last_state = selective_scan_reference(u, delta, A, B, C, D, delta_bias, delta_softplus)
    return (y, last_state) if return_last_state else y
"""
PACKAGE = {"mamba_ssm/__init__.py": "", "mamba_ssm/ops/__init__.py": ""}
WITH_INTERFACE = {**PACKAGE, "mamba_ssm/ops/selective_scan_interface.py": INTERFACE}

Install = Callable[[dict[str, str]], None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Make these files importable, and forget them afterwards."""

    def forget() -> None:
        cuda._scan_function.cache_clear()
        cuda._why_not_installed.cache_clear()
        for name in [n for n in sys.modules if n.split(".")[0] in ("mamba_ssm", "selective_scan_cuda")]:
            del sys.modules[name]
        importlib.invalidate_caches()

    def write(files: dict[str, str]) -> None:
        for name, content in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(content)
        forget()

    monkeypatch.syspath_prepend(tmp_path)
    forget()
    yield write
    forget()


@pytest.fixture
def on_gpu() -> torch.Tensor:
    """Says that it lies on a GPU."""
    with FakeTensorMode():
        return torch.empty(1, device="cuda")


@pytest.mark.parametrize(
    "case",
    [Case(2, 6, 2, 4, 11), Case(1, 3, 3, 1, 7, softplus=False), Case(skip=False), Case(bias=False)],
)
def test_results_and_gradients_pass_through(case: Case, install: Install) -> None:
    install({**WITH_INTERFACE, "selective_scan_cuda.py": ""})
    found = errors(cuda.selective_scan_mamba, case)
    assert max(found.values()) < 2e-6, found


def test_the_kernel_gets_what_it_takes(install: Install) -> None:
    """Sequences of one dtype and dense rows, parameters in float32, no gate."""
    install({**WITH_INTERFACE, "selective_scan_cuda.py": ""})
    inputs = Case(2, 6, 2, 4, 11).inputs()
    given = {name: inputs[name].to(torch.bfloat16) for name in NAMES}
    given["delta"] = inputs["delta"].half().mT.contiguous().mT  # strides of (b,L,d), and another half
    given["A"] = given["A"].mT.contiguous().mT
    y, last_state = cuda.selective_scan_mamba(*(given[name].requires_grad_() for name in NAMES), True)
    [call] = sys.modules["mamba_ssm.ops.selective_scan_interface"].calls
    assert {call[name].dtype for name in ("u", "delta", "B", "C")} == {torch.float32}  # holds bfloat16 and float16
    assert {call[name].dtype for name in ("A", "D", "delta_bias")} == {torch.float32}
    assert all(call[name].stride(-1) == 1 for name in NAMES) and call["A"].is_contiguous()
    assert call["z"] is None
    assert y.dtype == torch.bfloat16 and y.requires_grad and not last_state.requires_grad


def test_half_precision_stays_half_if_all_are(install: Install) -> None:
    install({**WITH_INTERFACE, "selective_scan_cuda.py": ""})
    case = Case(dtype=torch.bfloat16)
    given = {name: tensor.to(case.low(name)) for name, tensor in case.inputs().items()}
    run(cuda.selective_scan_mamba, given, torch.ones(1, 4, 10), True)
    [call] = sys.modules["mamba_ssm.ops.selective_scan_interface"].calls
    assert {call[name].dtype for name in ("u", "delta", "B", "C")} == {torch.bfloat16}


def test_too_many_states(install: Install) -> None:
    install({**WITH_INTERFACE, "selective_scan_cuda.py": ""})
    inputs = Case(states=257, length=2).inputs()
    with pytest.raises(ConfigError, match="up to 256 states, not 257"):
        cuda.selective_scan_mamba(*(inputs[name] for name in NAMES), True)


def test_installed_as_it_must_be(install: Install, on_gpu: torch.Tensor) -> None:
    install({**WITH_INTERFACE, "selective_scan_cuda.py": ""})
    assert cuda.why_not(on_gpu) is None


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            PACKAGE | {"selective_scan_cuda.py": "raise ImportError('x.so: undefined symbol: _ZN3c10')"},
            "undefined symbol",
        ),
        (WITH_INTERFACE, "without its extension selective_scan_cuda"),
        (
            PACKAGE
            | {
                "selective_scan_cuda.py": "",
                "mamba_ssm/ops/selective_scan_interface.py": "import absent_library_of_mamba",
            },
            "not absent_library_of_mamba, which it needs",
        ),
    ],
)
def test_installed_otherwise_says_how_to(
    files: dict[str, str], message: str, install: Install, on_gpu: torch.Tensor
) -> None:
    install(files)
    reason = cuda.why_not(on_gpu)
    assert reason is not None and message in reason and cuda.INSTALL in reason
    inputs = Case().inputs()
    with pytest.raises(ConfigError, match=message):
        cuda.selective_scan_mamba(*(inputs[name] for name in NAMES), True)


def test_not_installed_says_how_to(install: Install, on_gpu: torch.Tensor) -> None:
    if importlib.util.find_spec("mamba_ssm") is not None:
        pytest.skip("mamba-ssm is installed here")
    assert cuda.why_not(on_gpu) == f"mamba-ssm is not installed: {cuda.INSTALL}"


def test_tensors_it_cannot_take(on_gpu: torch.Tensor) -> None:
    assert "lies on cpu" in str(cuda.why_not(torch.zeros(1)))
    assert "float64; use reference" in str(cuda.why_not(on_gpu.double()))
