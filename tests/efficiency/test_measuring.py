"""Time and memory: that they are those of the call, and that a failing method is told and not fatal."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from fusion_det.efficiency.job import Job, Measurement
from fusion_det.efficiency.launch import run_job
from fusion_det.efficiency.memory import Memory, peak_memory
from fusion_det.efficiency.timing import time_calls
from fusion_det.efficiency.worker import measure
from fusion_det.errors import StageError

JOB = Job(
    method="mean",
    config=None,
    modules=(),
    height=96,
    width=128,
    device="cpu",
    dtype="float32",
    threads=1,
    warmup=1,
    repeats=3,
    seconds=30.0,
)

OUTSIDER = """
import os
from fusion_det.fusion import FusionMethod, MethodCard, register_method

CARD = MethodCard(name="doomed", label="Doomed", abbreviation="DOO", title="", family="cnn", fuses="luma")

@register_method(CARD)
class Doomed(FusionMethod):
    card = CARD

    def fuse(self, ir, vi):
        {body}
"""


def outsider(folder: Path, body: str) -> Job:
    file = folder / f"doomed_{abs(hash(body))}.py"
    file.write_text(OUTSIDER.format(body=body))
    return dataclasses.replace(JOB, method="doomed", modules=(str(file),))


def test_memory_of_a_call() -> None:
    """In a process of its own, as methods are measured: what earlier tests freed could serve this call."""
    program = """
import torch
from fusion_det.efficiency.%s import peak_memory
allocate = lambda: torch.ones(64 << 18).sum()  # 64 MiB, and given back
peak_memory(allocate, "cpu")
found = peak_memory(allocate, "cpu")
print(found.increase / 2**20 if found is not None and found.exact else "not told")
"""
    module = peak_memory.__module__.rpartition(".")[2]
    shown = subprocess.run([sys.executable, "-c", program % module], capture_output=True, text=True, check=True).stdout
    if shown.strip() == "not told":
        pytest.skip("this system does not tell the peak of a call")
    assert 60 < float(shown) < 80


def test_memory_is_never_negative() -> None:
    assert Memory(before=10, peak=7).increase == 0


def test_calls_stop_at_the_limit() -> None:
    calls: list[int] = []
    assert len(time_calls(lambda: calls.append(1), "cpu", repeats=4, limit=60.0)) == len(calls) == 4
    assert len(time_calls(lambda: None, "cpu", repeats=4, limit=0.0)) == 1


def test_quartiles() -> None:
    def of(*seconds: float) -> tuple[float, float, float]:
        return Measurement(seconds, None, None, True, True, "", "", 1).quartiles

    assert of(3.0) == (3.0, 3.0, 3.0)
    assert of(5.0, 1.0, 2.0, 3.0, 4.0) == (2.0, 3.0, 4.0)


def test_a_measuring_process() -> None:
    found = run_job(JOB)
    assert len(found.seconds) == 3
    assert all(seconds > 0 for seconds in found.seconds)
    assert found.trained
    assert found.threads == 1
    assert found.dtype == "float32"
    assert found.device
    assert found.memory is not None
    assert found.memory_peak is not None
    assert found.memory < found.memory_peak


def test_a_network_without_weights_is_measured_untrained(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FUSION_DET_WEIGHTS", str(tmp_path))
    threads = torch.get_num_threads()
    try:
        found = measure(
            dataclasses.replace(JOB, method="s4fusion", config="add", dtype="bfloat16", height=30, width=30)
        )
    finally:
        torch.set_num_threads(threads)
    assert not found.trained
    assert found.dtype == "bfloat16"
    assert Measurement.from_json(found.to_json()) == found


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("raise ValueError('no luck')", "measuring doomed failed: ValueError: no luck"),
        ("os.kill(os.getpid(), 9)", "out of memory"),
        ("os.kill(os.getpid(), 15)", "killed by signal 15"),
    ],
)
def test_a_process_that_fails(tmp_path: Path, body: str, words: str) -> None:
    with pytest.raises(StageError, match=words):
        run_job(outsider(tmp_path, body))


def test_mistakes_are_told_in_the_words_they_have_elsewhere() -> None:
    with pytest.raises(StageError, match="--device abacus: this machine has"):
        run_job(dataclasses.replace(JOB, device="abacus"))
