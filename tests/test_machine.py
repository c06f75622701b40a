"""The cores and the memory a process may use."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys

import pytest
import torch

from fusion_det.machine import available_cores, freed_memory_kept, is_out_of_memory


def test_cores_follow_the_affinity_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3, 7}, raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    assert available_cores() == 2


def test_without_affinity_the_machine_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert available_cores() == 1


_FAULTS = """
import ctypes, resource
from fusion_det.machine import freed_memory_kept

library, size = ctypes.CDLL(None), 48 << 20
library.malloc.restype, library.free.argtypes = ctypes.c_void_p, (ctypes.c_void_p,)

def page_faults():
    "Pages the system has to provide for filling memory of this size, just freed, once more."
    for _ in range(2):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        memory = library.malloc(size)
        ctypes.memset(memory, 1, size)
        library.free(memory)
        after = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    return after - before

with freed_memory_kept():
    inside = page_faults()
print(inside, page_faults())
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="the C library is not glibc")
def test_memory_that_is_kept_is_not_fetched_again() -> None:
    """In a process of its own: in one that has done much, holes in the heap may serve what is asked for."""
    done = subprocess.run([sys.executable, "-c", _FAULTS], capture_output=True, text=True, check=True)
    inside, outside = map(int, done.stdout.split())
    assert inside < outside / 4  # outside it is more than the C library keeps of its own accord


def test_without_glibc_memory_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    with freed_memory_kept():
        pass


def test_running_out_of_memory_is_told_from_other_failures() -> None:
    with pytest.raises(RuntimeError) as full:
        torch.empty(1 << 58)
    with pytest.raises(RuntimeError) as wrong:
        torch.ones(2) + torch.ones(3)
    assert [*map(is_out_of_memory, (full.value, torch.OutOfMemoryError(), MemoryError()))] == [True] * 3
    assert not is_out_of_memory(wrong.value)
