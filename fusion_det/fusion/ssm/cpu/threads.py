"""Compiled kernels side by side on as many threads as torch may use.

Numba's own parallel loops are not for us: its default threading layer aborts the process when two Python threads enter it,
and its thread count is not torch's. The kernels release the GIL, so plain threads do.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Sequence
from typing import Any

import torch


def run_tasks(kernel: Callable[..., None], shared: tuple[Any, ...], tasks: Sequence[tuple[Any, ...]]) -> None:
    """Call ``kernel(*shared, *task)`` for every task, on at most ``torch.get_num_threads()`` threads.

    Tasks are taken in order, by whichever thread is free; they must not write to the same place. Threads live as long as
    the call, so nothing is left over for a fork to break. The first exception of any of them is raised here.
    """
    queue = iter(tasks)
    lock = threading.Lock()
    errors: list[BaseException] = []

    def work() -> None:
        try:
            while not errors:
                with lock:
                    task = next(queue, None)
                if task is None:
                    return
                kernel(*shared, *task)
        except BaseException as error:  # noqa: BLE001 - handed to the caller's thread below, an interrupt too
            errors.append(error)

    helpers: list[threading.Thread] = []
    try:
        for _ in range(min(torch.get_num_threads(), len(tasks)) - 1):
            helper = threading.Thread(target=work)
            helper.start()
            helpers.append(helper)
        work()
    except BaseException as error:  # an interrupt between these lines, or no more threads to be had
        errors.append(error)
        raise
    finally:
        for helper in helpers:
            helper.join()
    if errors:
        raise errors[0]


def shares(items: int, blocks: int) -> list[tuple[int, int]]:
    """Split ``blocks`` channel blocks so that ``items`` × the number of parts keeps torch's threads busy: (first, end)s."""
    parts = max(1, min(blocks, -(-torch.get_num_threads() // max(items, 1))))
    bounds = [round(part * blocks / parts) for part in range(parts + 1)]
    return list(itertools.pairwise(bounds))
