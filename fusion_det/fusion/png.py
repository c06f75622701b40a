"""The files the runner leaves: whole PNG images, or none."""

from __future__ import annotations

import struct
import time
from pathlib import Path
from typing import TYPE_CHECKING

from fusion_det.files import replace_atomically

if TYPE_CHECKING:
    import numpy as np

COMPRESSION = 1
"""zlib level. On M3FD's 1024 × 768 pictures level 1 takes a quarter of the time of level 6 for files 7 % larger
(benchmarks/bench_fuse.py); decoding is equally quick."""

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_END = struct.pack(">I4sI", 0, b"IEND", 0xAE426082)
_GRAY, _RGB = 0, 2  # PNG colour types


def write_png(image: np.ndarray, file: Path) -> int:
    """Write uint8 (H,W,3) RGB or (H,W) grey atomically; returns the file's size in bytes."""
    from PIL import Image

    with replace_atomically(file) as temporary:
        Image.fromarray(image).save(temporary, "PNG", compress_level=COMPRESSION)
        return temporary.stat().st_size


def is_whole_png(file: Path, width: int, height: int, *, gray: bool | None, newer_than: int = 0) -> bool:
    """Whether ``file`` is an 8-bit PNG of this size and kind with a beginning and an end, written since ``newer_than``.

    Looks at 41 bytes: files are renamed into place when they are whole, so this only has to recognise what a power cut
    or another program left. ``newer_than`` is a modification time in nanoseconds; ``gray=None`` takes grey and colour.
    """
    try:
        with file.open("rb") as handle:
            head = handle.read(29)
            if file.stat().st_mtime_ns < newer_than or len(head) < 29:
                return False
            handle.seek(-len(_END), 2)
            tail = handle.read()
    except (FileNotFoundError, IsADirectoryError):
        return False
    kinds = (_GRAY, _RGB) if gray is None else (_GRAY if gray else _RGB,)
    expected = {struct.pack(">IIBB", width, height, 8, kind) for kind in kinds}
    return head.startswith(_SIGNATURE) and head[12:16] == b"IHDR" and head[16:26] in expected and tail == _END


def sweep(folder: Path, older_than_seconds: float = 60.0) -> None:
    """Remove the half-written files of runs that were killed here, leaving alone those that may still be written to."""
    limit = time.time() - older_than_seconds
    for file in folder.glob(".*.png.*.tmp.png"):
        try:
            if file.stat().st_mtime < limit:
                file.unlink()
        except FileNotFoundError:  # its writer was quicker
            continue
