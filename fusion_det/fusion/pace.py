"""How long methods take that ask their network many times for each image, said before they begin and while they are at it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fusion_det.data.pair import PairRecord
from fusion_det.fusion.method import FusionMethod, padded_size
from fusion_det.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Iterator

TRIAL_SIDE = 128
"""Pixels at most of the first image that a step is timed on."""
LONG_ENOUGH = 0.25
"""Seconds of a step that tell something about larger images; a faster one is timed again on an image of twice the side."""


@dataclass(frozen=True)
class FusionEstimate:
    """What a sampler will take for some pairs.

    steps: for each pair. step_seconds: of one step on an image of ``timed`` (height, width). seconds: for all pairs, if steps
        take time as images have pixels, which is rough: attention on large ones takes more, small ones leave a device idle.
    """

    pairs: int
    steps: int
    timed: tuple[int, int]
    step_seconds: float
    seconds: float

    def __str__(self) -> str:
        height, width = self.timed
        pairs = "1 pair" if self.pairs == 1 else f"{self.pairs} pairs"
        return (
            f"{pairs} in {self.steps} steps each will take about {in_words(self.seconds)}, going by a step on {width} × "
            f"{height} pixels, which took {self.step_seconds:.2g} s"
        )


class _EnoughError(Exception):
    """Ends a trial."""


def tell_time(method: FusionMethod, batches: Sequence[Sequence[PairRecord]], device: str, progress: Progress) -> None:
    """Tell beforehand how long a method of several steps will take for these pairs, by :func:`estimate_fusion`."""
    if method.steps > 1:
        progress.tell(str(estimate_fusion(method, [record for batch in batches for record in batch], device)))


def estimate_fusion(method: FusionMethod, records: Sequence[PairRecord], device: str) -> FusionEstimate:
    """Time a step of a method of several steps on made-up images, as large as the largest pair where it is fast.

    Args:
        records: to be fused, at least one. device: where the method is.
    """
    sizes = [tuple(padded_size(side, method.card) for side in (record.height, record.width)) for record in records]
    largest = max(sizes, key=math.prod)
    side = TRIAL_SIDE
    while True:
        height, width = (padded_size(min(side, whole), method.card) for whole in largest)
        seconds = _time_step(method, (height, width), device)
        if seconds >= LONG_ENOUGH or (height, width) == largest:
            break
        side *= 2
    for_all = seconds * method.steps * sum(map(math.prod, sizes)) / (height * width)
    return FusionEstimate(len(sizes), method.steps, (height, width), seconds, for_all)


def _time_step(method: FusionMethod, size: tuple[int, int], device: str) -> float:
    """Seconds of the second step; the first one allocates and compiles."""
    import torch

    moments = [time.perf_counter()]

    def after_step() -> None:
        if torch.device(device).type != "cpu":
            torch.accelerator.synchronize()
        moments.append(time.perf_counter())
        if len(moments) > 2:
            raise _EnoughError

    channels = 1 if method.card.fuses == "luma" else 3
    ir, vi = (torch.rand(1, n, *size, device=device, dtype=method.dtype) for n in (1, channels))
    try:
        with watching(method, after_step), torch.no_grad():
            method.fuse(ir, vi)
    except _EnoughError:
        pass
    return moments[-1] - moments[-2]


@contextmanager
def watching(method: FusionMethod, after_step: Callable[[], None]) -> Iterator[None]:
    """Within this block the method calls ``after_step`` after each of its steps, if it takes several."""
    method.after_step = after_step
    try:
        yield
    finally:
        method.after_step = None


def steps_shown(
    method: FusionMethod, batches: Sequence[Sequence[PairRecord]], progress: Progress
) -> AbstractContextManager[None]:
    """Within this block ``progress`` tells after every step which one of its batch it was, and how long this will take.

    Args:
        batches: pairs that will be fused together, in order.
    """
    pixels = [sum(record.height * record.width for record in batch) for batch in batches]
    began = time.perf_counter()
    taken = done = 0

    def after_step() -> None:
        nonlocal taken, done
        batch, step = divmod(taken, method.steps)
        taken += 1
        done += pixels[batch]
        left = (time.perf_counter() - began) / done * pixels[batch] * (method.steps - step - 1)
        progress.advance(0, f"step {step + 1}/{method.steps}, {in_words(left)} to the next image")

    return watching(method, after_step)


def in_words(seconds: float) -> str:
    """A time in the unit that suits it: "8 s", "25 min", "3.2 h", "12 days"."""
    for limit, unit, name in ((90, 1, "s"), (5400, 60, "min")):
        if seconds < limit:
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.0f} days"
