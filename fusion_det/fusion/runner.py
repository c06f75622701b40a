"""From pairs on disk to fused images on disk, with the device kept busy between them.

Threads read ahead, the calling thread fuses, other threads encode and write; all queues are short, so memory does not grow
with the data set. What happens to the pixels is in :mod:`fusion_det.fusion.frame` and :mod:`fusion_det.fusion.protocol`.
"""

from __future__ import annotations

import errno
import functools
import logging
import shutil
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

from fusion_det.data.images import load_pair, read_samples
from fusion_det.data.pair import Pair, PairRecord
from fusion_det.errors import ConfigError, MethodError, StageError
from fusion_det.fusion.external import ExternalImages
from fusion_det.fusion.method import FusionMethod
from fusion_det.fusion.pace import steps_shown, tell_time
from fusion_det.fusion.png import is_whole_png, sweep, write_png
from fusion_det.fusion.protocol import (
    Protocol,
    StoredPair,
    check_protocol,
    finished,
    load_stored_pair,
)
from fusion_det.machine import freed_memory_kept, is_out_of_memory
from fusion_det.progress import NoProgress, Progress
from fusion_det.tasks import IVIF, TASKS

if TYPE_CHECKING:
    import numpy as np

    from fusion_det.fusion.frame import Color

logger = logging.getLogger(__name__)

COLORS = ("ycbcr", "gray")

Loaded = TypeVar("Loaded", Pair, StoredPair)


@dataclass(frozen=True)
class FusionSummary:
    """What one run of the runner did.

    written, skipped: images made now, and images that were there. seconds: wall time of everything.
    fuse_seconds: time inside the method and the colour conversion around it, without reading and writing.
    """

    written: int
    skipped: int
    seconds: float
    fuse_seconds: float
    bytes_written: int

    @property
    def seconds_per_pair(self) -> float | None:
        """``fuse_seconds`` per image; None when nothing was fused (all was there, or external images were copied)."""
        return self.fuse_seconds / self.written if self.written and self.fuse_seconds else None


class FusionRunner:
    """Fuses pairs with one method into ``OUT/STEM.png``.

    Args:
        method: from :func:`fusion_det.fusion.build_method`; already on ``device``.
        color: "ycbcr" writes RGB images, "gray" writes grey ones; see :func:`fusion_det.fusion.frame.fuse_frames`.
        device: where the pairs are put for the method: "cpu", "cuda", "mps".
        batch_size: pairs of one size fused at once (by the common protocol).
        workers: threads that read, and as many that write.
        protocol: "official" has every pair fused by the procedure that the method's authors published. Its images are
            written as they come, grey or in colour; with ``color="gray"`` a colour image gives its luma.

    Raises:
        MethodError: the method's network has no trained weights, or no published procedure that is asked for.
        ConfigError: an option out of range.
    """

    def __init__(
        self,
        method: FusionMethod | ExternalImages,
        color: Color = "ycbcr",
        device: str = "cpu",
        batch_size: int = 1,
        workers: int = 2,
        protocol: Protocol = "common",
    ) -> None:
        reduced = method.dtype if isinstance(method, FusionMethod) else None
        check_protocol(protocol, method.card, "float32" if reduced is None else str(reduced).removeprefix("torch."))
        if color not in COLORS:
            raise ConfigError(f"--color {color}: use {' or '.join(COLORS)}")
        if batch_size < 1 or workers < 1:
            raise ConfigError(f"--batch-size {batch_size}, --workers {workers}: both are at least 1")
        if isinstance(method, FusionMethod) and not method.trained:
            raise MethodError(
                f"{method.card.name} has no trained weights, and random ones are never used for fused images; build it "
                f"with weights='auto' or a file (--weights {method.card.name}=FILE)"
            )
        self.method, self.color, self.device = method, color, device
        self.batch_size, self.workers, self.protocol = batch_size, workers, protocol
        self._lost_color = False

    def run(self, records: Sequence[PairRecord], out: Path, progress: Progress | None = None) -> FusionSummary:
        """Write the fused image of every record that has none yet.

        An image is there if ``OUT/STEM.png`` is a whole PNG of the right size and kind, not older than its sources. It
        appears under that name only when it is whole, whatever kills the process. ``out`` must hold the images of one
        method: a picture does not say which method made it.

        Raises:
            MethodError: the method returned something that is not an image, or ran out of memory; external images are
                missing or do not fit (before anything is written).
            DatasetError: a source has become unreadable. StageError: the disk is full.
            ConfigError: ``out`` cannot be written.
        """
        progress = progress or NoProgress()
        started = time.perf_counter()
        queue = _WriteQueue(self.workers, self.workers + self.batch_size, progress)
        todo: list[PairRecord] = []
        self._lost_color = False
        try:
            self.check_output(records, out)
            out.mkdir(parents=True, exist_ok=True)
            sweep(out)
            todo = [record for record in records if not self._is_done(record, out)]
            work = self._copy if isinstance(self.method, ExternalImages) else self._fuse
            fuse_seconds = work(todo, out, queue, progress, len(records)) if todo else 0.0
            sweep(out)  # again: what a run killed a moment before this one left was too young at the beginning
        except OSError as error:
            raise _explained(error, out, todo[queue.written :], queue) from error
        return FusionSummary(
            written=queue.written,
            skipped=len(records) - len(todo),
            seconds=time.perf_counter() - started,
            fuse_seconds=fuse_seconds,
            bytes_written=queue.bytes_written,
        )

    def check_output(self, records: Sequence[PairRecord], out: Path) -> None:
        """ConfigError if ``out`` is a folder that source images lie in."""
        folders = {file.parent for record in records for file in (record.ir, record.vi)}
        if isinstance(self.method, ExternalImages):
            folders.add(self.method.folder)
        if out.resolve() in {folder.resolve() for folder in folders}:
            raise ConfigError(f"{out} holds the source images; write the fused images to another folder")

    def _is_done(self, record: PairRecord, out: Path) -> bool:
        if isinstance(self.method, ExternalImages):
            sources = [self.method.files[record.stem]] if record.stem in self.method.files else []
        else:
            sources = [record.ir, record.vi]
        # A source that is gone cannot be newer; whoever reads it will say that it is gone.
        newest = max((source.stat().st_mtime_ns for source in sources if source.exists()), default=0)
        either = self.color != "gray" and (self.protocol == "official" or record.task != IVIF)
        gray = None if either else self.color == "gray"
        return is_whole_png(out / f"{record.stem}.png", record.width, record.height, gray=gray, newer_than=newest)

    def _fuse(self, todo: list[PairRecord], out: Path, queue: _WriteQueue, progress: Progress, total: int) -> float:
        progress.start(f"fusing {self.method.card.name}", total, done=total - len(todo))
        official = self.protocol == "official"
        batches = group_by_size(todo, 1 if official else self.batch_size)
        with freed_memory_kept(), self._explaining(batches[0]):
            tell_time(self._fusing, batches, self.device, progress)
        with freed_memory_kept(), queue, steps_shown(self._fusing, batches, progress):
            if official:
                singly = _PairReader(batches, self.workers, load_stored_pair)
                seconds = self._in_turn(singly, self._fuse_officially, out, queue)
            else:
                in_batches = _PairReader(batches, self.workers, load_pair)
                seconds = self._in_turn(in_batches, self._fuse_commonly, out, queue)
        progress.finish()
        return seconds

    def _in_turn(
        self,
        reader: _PairReader[Loaded],
        fuse: Callable[[Sequence[PairRecord], Sequence[Loaded]], Sequence[np.ndarray]],
        out: Path,
        queue: _WriteQueue,
    ) -> float:
        """Fuse batch after batch; returns the seconds in ``fuse``."""
        seconds = 0.0
        with reader:
            for batch, pairs in reader:
                self._tell_of_lost_color(batch, pairs)
                began = time.perf_counter()
                with self._explaining(batch):
                    images = fuse(batch, pairs)
                seconds += time.perf_counter() - began
                for record, image in zip(batch, images, strict=True):
                    queue.submit(functools.partial(write_png, image, out / f"{record.stem}.png"))
        return seconds

    def _tell_of_lost_color(self, batch: Sequence[PairRecord], pairs: Sequence[Pair | StoredPair]) -> None:
        """Warn, once a run, of a first source in colour beside a grey second one that alone gives the colour."""
        task = batch[0].task
        if self._lost_color or self.color == "gray" or task == IVIF or TASKS[task].joint_chroma:
            return
        for record, pair in zip(batch, pairs, strict=True):
            if not self._lost_color and isinstance(pair, Pair) and pair.is_grey:
                first = read_samples(record.ir)
                self._lost_color = first.ndim == 3 and bool((first != first[..., :1]).any())
                if self._lost_color:
                    _warn_of_lost_color(record.ir, record.vi, task)

    def _fuse_commonly(self, batch: Sequence[PairRecord], pairs: Sequence[Pair]) -> Sequence[np.ndarray]:
        """uint8 (H,W,3) or (H,W) each.

        A pair without any colour gives a grey image, but for infrared and visible pairs: detectors are trained on images of
        one kind.
        """
        import torch

        from fusion_det.fusion.frame import fuse_frames

        task = batch[0].task
        colorless = [task != IVIF and pair.is_grey for pair in pairs]
        if any(colorless) and not all(colorless):
            return [self._fuse_commonly([r], [p])[0] for r, p in zip(batch, pairs, strict=True)]
        with torch.no_grad():
            ir, vi = (
                torch.stack(images).to(self.device) for images in zip(*((p.ir, p.vi) for p in pairs), strict=True)
            )
            colored = [pair.ir_rgb for pair in pairs if pair.ir_rgb is not None]
            ir_rgb = torch.stack(colored).to(self.device) if colored else None
            color = "gray" if all(colorless) else self.color
            method, stems = self._fusing.for_task(task), [pair.stem for pair in pairs]
            fused = fuse_frames(method, ir, vi, color, stems, ir_rgb)
        return list(fused.cpu().numpy())

    def _fuse_officially(self, batch: Sequence[PairRecord], pairs: Sequence[StoredPair]) -> Sequence[np.ndarray]:
        """uint8 (H,W,3) or (H,W) each."""
        gray = self.color == "gray"
        return [
            finished(self._fusing.for_task(record.task).fuse_officially(*pair), record, self._fusing.card, gray=gray)
            for record, pair in zip(batch, pairs, strict=True)
        ]

    @property
    def _fusing(self) -> FusionMethod:
        if isinstance(self.method, ExternalImages):  # for the type checker; run() sends these elsewhere
            raise TypeError("external images are copied, not fused")
        return self.method

    @contextmanager
    def _explaining(self, batch: Sequence[PairRecord]) -> Iterator[None]:
        """Errors say which pairs were being fused, and too little memory what helps."""
        name = self.method.card.name
        try:
            yield
        except Exception as error:
            if is_out_of_memory(error):
                cures = ["a smaller --batch-size"] if len(batch) > 1 else []
                cures += ["a machine with more memory" if self.device == "cpu" else "--device cpu"]
                raise MethodError(
                    f"fusion method {name} ran out of {self.device} memory on {len(batch)} pair(s) of "
                    f"{batch[0].width}×{batch[0].height}; use {' or '.join(cures)}"
                ) from error
            error.add_note(f"while fusing {', '.join(record.stem for record in batch)} with {name}")
            raise

    def _copy(self, todo: list[PairRecord], out: Path, queue: _WriteQueue, progress: Progress, total: int) -> float:
        method = self.method
        if not isinstance(method, ExternalImages):
            raise TypeError("only external images are copied")
        files = method.check(todo, self.workers, progress)
        progress.start(f"copying {method.card.name}", total, done=total - len(todo))

        def convert(file: Path, target: Path) -> int:
            return write_png(method.read(file, gray=self.color == "gray"), target)

        with queue:
            for record in todo:
                queue.submit(functools.partial(convert, files[record.stem], out / f"{record.stem}.png"))
        progress.finish()
        return 0.0


@functools.cache
def _warn_of_lost_color(first: Path, second: Path, task: str) -> None:
    """Once for a pair, however many methods fuse it."""
    logger.warning(
        "%s is in colour, but of %s pairs the second image gives the colour, and %s is grey: so is the fused image. Swap "
        "--first and --second to keep the colour. (Other pairs like this one are not named.)",
        first,
        task,
        second,
    )


def group_by_size(records: Iterable[PairRecord], batch_size: int) -> list[list[PairRecord]]:
    """Batches of at most ``batch_size`` records of one size and task, in the order in which each batch is first begun."""
    batches: list[list[PairRecord]] = []
    open_batches: dict[tuple[int, int, str], list[PairRecord]] = {}
    for record in records:
        kind = (record.height, record.width, record.task)
        batch = open_batches.get(kind)
        if batch is None or len(batch) == batch_size:
            batch = open_batches[kind] = []
            batches.append(batch)
        batch.append(record)
    return batches


class _PairReader(Generic[Loaded]):
    """Iterates over (batch, its pairs), reading a few batches ahead in threads."""

    def __init__(self, batches: Sequence[list[PairRecord]], workers: int, load: Callable[[PairRecord], Loaded]) -> None:
        self._batches = iter(batches)
        self._load: Callable[[PairRecord], Loaded] = load
        longest = max(map(len, batches), default=1)
        self._ahead = 1 + -(-workers // longest)
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="read")
        self._reading: deque[tuple[list[PairRecord], list[Future[Loaded]]]] = deque()

    def __enter__(self) -> _PairReader[Loaded]:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def __iter__(self) -> Iterator[tuple[list[PairRecord], list[Loaded]]]:
        self._fill()
        while self._reading:
            batch, futures = self._reading.popleft()
            pairs = [future.result() for future in futures]
            self._fill()
            yield batch, pairs

    def _fill(self) -> None:
        while len(self._reading) < self._ahead:
            batch = next(self._batches, None)
            if batch is None:
                return
            self._reading.append((batch, [self._pool.submit(self._load, record) for record in batch]))


class _WriteQueue:
    """Encodes and writes images in threads; ``submit`` waits while ``limit`` of them are under way.

    Leaving the ``with`` block waits for all of them; leaving it by an error (an interrupt, say) waits only for those
    already begun.
    """

    def __init__(self, workers: int, limit: int, progress: Progress) -> None:
        self._limit, self._progress = limit, progress
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="write")
        self._writing: deque[Future[int]] = deque()
        self.written = 0
        self.bytes_written = 0

    def __enter__(self) -> _WriteQueue:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            while kind is None and self._writing:
                self._finish_one()
        finally:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def submit(self, job: Callable[[], int]) -> None:
        while len(self._writing) >= self._limit:
            self._finish_one()
        self._writing.append(self._pool.submit(job))

    def _finish_one(self) -> None:
        self.bytes_written += self._writing.popleft().result()
        self.written += 1
        self._progress.advance()


def _explained(error: OSError, out: Path, left: Sequence[PairRecord], queue: _WriteQueue) -> Exception:
    """An error that says what to do about a full or forbidden disk; any other is returned as it is."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        # A fused photograph takes about half of its raw size.
        guess = sum(record.width * record.height * 3 // 2 for record in left)
        need = queue.bytes_written // queue.written * len(left) if queue.written else guess
        free = shutil.disk_usage(out).free if out.exists() else 0
        return StageError(
            f"the disk of {out} is full: {len(left)} more images need about {need / 1e6:.0f} MB, {free / 1e6:.0f} MB are "
            f"free. Make room and run the same command again: it continues after the {queue.written} images just written."
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST):
        return ConfigError(f"the fused images cannot be written to {out}: {error.strerror}; choose another folder")
    return error
