"""How the compiled scans are compiled, kept and run on threads."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fusion_det.fusion.ssm.cpu.threads import run_tasks, shares

TOLERANCE = 3e-5


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_no_more_threads_than_torch_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    seen: set[str] = set()
    meet = threading.Barrier(3)

    def kernel(task: int) -> None:
        seen.add(threading.current_thread().name)
        meet.wait(timeout=20)

    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    run_tasks(kernel, (), [(task,) for task in range(6)])
    assert len(seen) == 3


def test_an_error_in_a_thread_reaches_the_caller() -> None:
    def kernel(task: int) -> None:
        if task == 3:
            raise ZeroDivisionError("task 3")

    with pytest.raises(ZeroDivisionError, match="task 3"):
        run_tasks(kernel, (), [(task,) for task in range(8)])


@given(items=st.integers(1, 20), blocks=st.integers(1, 30), threads=st.integers(1, 40))
def test_shares_cover_every_block_once(items: int, blocks: int, threads: int) -> None:
    torch.set_num_threads(threads)
    parts = shares(items, blocks)
    assert [block for first, end in parts for block in range(first, end)] == list(range(blocks))
    assert all(first < end for first, end in parts)
    assert items * len(parts) >= min(threads, items * blocks)


_OTHER_PROCESSOR = """
import json, sys, torch
sys.path.insert(0, {root!r})
from fusion_det.fusion.ssm.cpu.autograd import selective_scan_cpu
from fusion_det.fusion.ssm.cpu.vectors import has_avx512
from tests.fusion.ssm.scan_cases import Case, errors
cases = [Case(channels=40, groups=2, states=5, length=150), Case(channels=16, length=90, delta_scale=40.0, rate_scale=100.0)]
print(json.dumps([has_avx512(), [errors(selective_scan_cpu, case) for case in cases]]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("features", ["", "+sse4.2,+avx,+avx2,+fma"], ids=["any_x86", "avx2"])
def test_compiled_for_other_processors(features: str, tmp_path: Path) -> None:
    """The code for processors without AVX-512, which this machine can run too."""
    if platform.machine() != "x86_64":
        pytest.skip("names processors of another architecture")
    if features and "avx2" not in Path("/proc/cpuinfo").read_text():
        pytest.skip("this processor has no AVX2")
    root = str(Path(__file__).parents[3])
    env = os.environ | {"NUMBA_CPU_NAME": "x86-64", "NUMBA_CPU_FEATURES": features, "NUMBA_CACHE_DIR": str(tmp_path)}
    script = _OTHER_PROCESSOR.format(root=root)
    done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    avx512, found = json.loads(done.stdout)
    assert not avx512
    assert max(error for case in found for error in case.values()) < TOLERANCE


def test_machine_code_is_kept_and_knows_its_sources(tmp_path: Path) -> None:
    """A second process compiles nothing; kernels carry the digest of all the sources they were compiled from."""
    script = (
        "import torch\nfrom fusion_det.fusion.ssm import selective_scan\nfrom fusion_det.fusion.ssm.cpu import sequence\n"
        "x = torch.ones(1, 2, 5)\nselective_scan(x, x, -torch.ones(2, 3), torch.ones(1, 1, 3, 5), torch.ones(1, 1, 3, 5))\n"
        "k = sequence.scan_forward\n"
        "print(k.py_func.__qualname__, *(sum(n.values()) for n in (k.stats.cache_hits, k.stats.cache_misses)))"
    )
    env = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    lines = [
        subprocess.run(
            [sys.executable, "-c", script], env=env, capture_output=True, text=True, check=True
        ).stdout.split()
        for _ in range(2)
    ]
    assert lines[0][1:] == ["0", "1"]
    assert lines[1][1:] == ["1", "0"]
    assert len(lines[0][0].removeprefix("scan_forward_")) == 12


def test_without_a_place_for_machine_code(monkeypatch: pytest.MonkeyPatch) -> None:
    from fusion_det.fusion.ssm.cpu import compiled

    real = compiled.njit

    def nowhere(**options: object) -> object:
        if options.get("cache"):
            raise RuntimeError("cannot cache function: no locator available")
        return real(**options)

    monkeypatch.setattr(compiled, "njit", nowhere)

    def double(x: np.ndarray) -> np.ndarray:
        return 2 * x

    assert compiled.kernel(double)(np.ones(3)).sum() == 6
