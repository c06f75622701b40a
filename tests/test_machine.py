"""The number of cores a process may use."""

from __future__ import annotations

import ctypes
import os
import resource

import pytest

from fusion_det.machine import available_cores, freed_memory_kept


def test_cores_follow_the_affinity_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3, 7}, raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    assert available_cores() == 2


def test_without_affinity_the_machine_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert available_cores() == 1


def page_faults(library: ctypes.CDLL, size: int) -> int:
    """Pages the system has to provide for filling memory of this size, just freed, once more."""
    library.malloc.restype, library.free.argtypes = ctypes.c_void_p, (ctypes.c_void_p,)
    for _ in range(2):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        memory = library.malloc(size)
        ctypes.memset(memory, 1, size)
        library.free(memory)
        after = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    return after - before


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="the C library is not glibc")
def test_memory_that_is_kept_is_not_fetched_again() -> None:
    library, size = ctypes.CDLL(None), 48 << 20
    with freed_memory_kept():
        inside = page_faults(library, size)
    outside = page_faults(library, size)
    assert inside < outside / 4  # outside it is more than the C library keeps of its own accord


def test_without_glibc_memory_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    with freed_memory_kept():
        pass
