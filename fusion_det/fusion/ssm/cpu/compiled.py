"""How kernels are compiled: without the GIL, C's rules for division, machine code kept on disk."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from numba import njit

log = logging.getLogger(__name__)

inlined: Callable[..., Any] = njit(nogil=True, error_model="numpy")
"""For what kernels call: compiled as part of them."""


def kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """For what Python calls. Its machine code is kept beside this file, or in the user's cache where that is read-only.

    Numba looks only at the file a function stands in to see whether its machine code is out of date, and knows nothing of
    the functions that were compiled into it. So the code of this whole folder is made part of the function's name.
    """
    function.__qualname__ = f"{function.__qualname__}_{_sources_digest()}"
    try:
        return njit(nogil=True, error_model="numpy", cache=True)(function)
    except RuntimeError as error:  # no place to keep it: no writable home, a read-only installation
        log.info("compiled kernels are not kept (%s); every process compiles them anew, some seconds each", error)
        return inlined(function)


def _sources_digest() -> str:
    sources = sorted(Path(__file__).parent.glob("*.py"))
    return hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:12]
