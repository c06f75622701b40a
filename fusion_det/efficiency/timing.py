"""How long a call takes on a device, many times over."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch


def time_calls(compute: Callable[[], object], device: str, *, repeats: int, limit: float) -> list[float]:
    """Seconds of each of ``repeats`` calls one after the other, or of fewer once ``limit`` seconds have passed; at least one.

    CUDA's own events time what runs there; elsewhere the wall clock does. Warming up is the caller's affair.
    """
    time_one = _time_on_cuda if device.startswith("cuda") else _time_on_clock
    seconds: list[float] = []
    began = time.perf_counter()
    while len(seconds) < repeats and (not seconds or time.perf_counter() - began < limit):
        seconds.append(time_one(compute, device))
    return seconds


def _time_on_clock(compute: Callable[[], object], device: str) -> float:
    synchronize(device)
    began = time.perf_counter()
    compute()
    synchronize(device)
    return time.perf_counter() - began


def _time_on_cuda(compute: Callable[[], object], device: str) -> float:
    with torch.cuda.device(device):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        compute()
        end.record()
        end.synchronize()
    return start.elapsed_time(end) / 1000


def synchronize(device: str) -> None:
    """Wait until the device has done what it was given."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    elif device == "mps":
        torch.mps.synchronize()
