"""How much more memory a call takes at its peak than was taken before it."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass(frozen=True)
class Memory:
    """In bytes. before: taken when the call began (weights, sources; on a CPU the interpreter too). peak: most during it.

    exact: False where the system could only tell the peak of the process' whole life, which may be that of its beginning.
    """

    before: int
    peak: int
    exact: bool = True

    @property
    def increase(self) -> int:
        return max(0, self.peak - self.before)


def peak_memory(compute: Callable[[], object], device: str) -> Memory | None:
    """Call ``compute()`` and see how its memory rises: CUDA's tensors, or a CPU process' resident pages.

    Returns:
        None on devices and systems that do not tell (mps, Windows).
    """
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        compute()
        torch.cuda.synchronize(device)
        return Memory(before, torch.cuda.max_memory_allocated(device))
    if device != "cpu" or sys.platform == "win32":
        compute()
        return None
    forgotten = _forget_peak()
    before = _resident("VmRSS") or _lifetime_peak()
    compute()
    peak = _resident("VmHWM")
    return Memory(before, peak or _lifetime_peak(), exact=forgotten and peak is not None)


def _forget_peak() -> bool:
    """Let the kernel's record of the highest resident size begin again (Linux only)."""
    with suppress(OSError):
        _CLEAR.write_text("5")
        return True
    return False


def _resident(field: str) -> int | None:
    with suppress(OSError):
        if found := re.search(rf"^{field}:\s+(\d+) kB", _STATUS.read_text(), re.MULTILINE):
            return 1024 * int(found[1])
    return None


def _lifetime_peak() -> int:
    import resource  # Windows has none

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
