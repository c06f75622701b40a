"""What of this machine the process may use."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
from collections.abc import Iterator
from pathlib import Path

# The parameters of glibc's mallopt(3), and where its own adjustment of them ends, which naming any value stops.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_USUAL_TRIM, _USUAL_MMAP = 64 << 20, 32 << 20
_KEEP = 1 << 30


def available_cores() -> int:
    """Cores this process may run on (its affinity, as a batch system or ``taskset`` set it), at least 1."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0)) or 1
    return os.cpu_count() or 1


@contextlib.contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Within this block freed memory stays with the process, up to 1 GiB, instead of going back to the system at once.

    A network allocates and frees tensors of tens of megabytes with every layer. Memory fresh from the system has to be
    cleared and mapped page by page, which for a light network on a CPU costs as much as a third of its time. At the end
    everything free is given back. Does nothing where the C library is not glibc.
    """
    # Only there does ``None`` name the libraries already loaded; Windows refuses it.
    library = ctypes.CDLL(None) if os.name == "posix" else None
    if library is None or not (hasattr(library, "mallopt") and hasattr(library, "malloc_trim")):
        yield
        return
    library.mallopt(_MMAP_THRESHOLD, _KEEP)
    library.mallopt(_TRIM_THRESHOLD, _KEEP)
    try:
        yield
    finally:
        library.mallopt(_MMAP_THRESHOLD, _USUAL_MMAP)
        library.mallopt(_TRIM_THRESHOLD, _USUAL_TRIM)
        library.malloc_trim(0)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether this says that memory ran out, a device's or the machine's own, of which torch tells by its message alone."""
    import torch

    known = isinstance(error, (MemoryError, torch.OutOfMemoryError))
    return known or (isinstance(error, RuntimeError) and "DefaultCPUAllocator: can't allocate memory" in str(error))


def device_name(device: str) -> str:
    """What a device is called by its maker: "NVIDIA H100 …" for "cuda", the processor's name for "cpu"."""
    if device.startswith("cuda"):
        import torch

        return str(torch.cuda.get_device_name(device))
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
