"""Quality of many saved images: several at a time with one thread each, kept one by one as they come.

A killed run continues: every finished image is a line of a journal, and only the others are measured. Memory is that of a few
images, however many there are.
"""

from __future__ import annotations

import json
import math
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fusion_det.assessment.images import Saving, grey_levels, read_pixels, saved_as
from fusion_det.errors import QualityError
from fusion_det.files import write_json
from fusion_det.progress import NoProgress, Progress
from fusion_det.quality.table import Profile, find_metric, find_metrics

if TYPE_CHECKING:
    import numpy as np

    from fusion_det.quality.learned import Scorer

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Triple:
    """The files of one comparison."""

    stem: str
    ir: Path
    vi: Path
    fused: Path


@dataclass(frozen=True)
class Protocol:
    """What is measured, by which conventions, on images saved how. metrics: names of the table of metrics, in its spelling."""

    metrics: tuple[str, ...]
    profile: Profile = "paper"
    saving: Saving = "lossless"


Values = dict[str, float | None]
"""Metric → value; None where the image is too small for the metric, or the value is not finite."""


def measure_images(
    triples: Sequence[Triple],
    protocol: Protocol,
    journal: Path,
    progress: Progress | None = None,
    *,
    workers: int = 1,
    scorers: Mapping[str, Scorer] | None = None,
) -> dict[str, Values]:
    """Stem → values of every image, in the order given.

    Args:
        journal: one JSON line an image, written as they are finished; images that it holds are not measured again. It belongs
            to one protocol and one set of files: the caller gives other work another journal.
        workers: images measured at a time.
        scorers: networks of the learned metrics of the protocol; None for a metric without one gives None for every image.

    Raises:
        DatasetError: a file cannot be read. QualityError: images of unequal sizes.
    """
    import torch

    shown = progress or NoProgress()
    done = read_journal(journal)
    todo = [triple for triple in triples if triple.stem not in done]
    shown.start("measuring quality", len(triples), done=len(triples) - len(todo))
    lock = threading.Lock()

    def work(triple: Triple) -> Values:
        return measure_image(triple, protocol, scorers or {}, lock)

    one_thread = (1,)  # many images are measured fastest with one thread each
    with (
        _threads_restored(),
        journal.open("a", encoding="utf-8") as lines,
        ThreadPoolExecutor(workers, "measure", torch.set_num_threads, one_thread) as pool,
    ):
        for triple, values in _ahead(pool, work, todo, limit=2 * workers):
            lines.write(json.dumps({"stem": triple.stem, "values": values}) + "\n")
            lines.flush()
            done[triple.stem] = values
            shown.advance()
    shown.finish()
    return {triple.stem: done[triple.stem] for triple in triples}


def measure_image(
    triple: Triple, protocol: Protocol, scorers: Mapping[str, Scorer], lock: threading.Lock | None = None
) -> Values:
    """All values of one image. ``lock`` is held around the networks: pyiqa does not promise that they can be called at once."""
    import torch

    from fusion_det.quality import evaluate

    fused = saved_as(read_pixels(triple.fused), protocol.saving)
    images = [grey_levels(pixels) for pixels in (read_pixels(triple.ir), read_pixels(triple.vi), fused)]
    if len({image.shape for image in images}) != 1:
        sizes = ", ".join(f"{image.shape[1]}×{image.shape[0]}" for image in images)
        raise QualityError(f"{triple.fused}: infrared, visible and fused image are of unequal sizes ({sizes})")
    found: Values = dict.fromkeys(protocol.metrics)
    chosen = [name for name in protocol.metrics if _applies(name, images[0].shape, protocol.profile)]
    batches = [torch.from_numpy(image)[None, None] for image in images]
    values = evaluate(*batches, metrics=chosen, profile=protocol.profile)
    found |= {name: _finite(float(value)) for name, value in values.items()}
    for name, score in scorers.items():
        with lock or threading.Lock():
            found[name] = _finite(float(score(_as_batch(fused))))
    return found


def read_journal(journal: Path) -> dict[str, Values]:
    """Stem → values of the whole lines; the half line that a kill leaves is cut off the file."""
    if not journal.is_file():
        return {}
    content = journal.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if whole != content:
        journal.write_bytes(whole)
    return {line["stem"]: line["values"] for line in map(json.loads, whole.splitlines())}


def write_values(
    file: Path, protocol: Protocol, measured: Mapping[str, Values], unavailable: Mapping[str, str] | None = None
) -> None:
    """The values of one method on one set of images as JSON: ``stems``, and a column of ``values`` for each metric.

    unavailable: metric → why it has no values (a learned metric without its weights).
    """
    document: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "profile": protocol.profile,
        "saving": protocol.saving,
        "metrics": list(protocol.metrics),
        "stems": list(measured),
        "values": {name: [values[name] for values in measured.values()] for name in protocol.metrics},
        "unavailable": dict(unavailable or {}),
    }
    write_json(file, document, indent=None)


def load_scorers(metrics: Sequence[str]) -> tuple[dict[str, Scorer], dict[str, str]]:
    """Networks of the learned metrics among these; and metric → why there is none, with the cure."""
    scorers: dict[str, Scorer] = {}
    unavailable: dict[str, str] = {}
    for metric in find_metrics(metrics):
        if not metric.learned:
            continue
        from fusion_det.quality import learned_metric

        try:
            scorers[metric.name] = learned_metric(metric.name)
        except QualityError as error:
            unavailable[metric.name] = str(error)
    return scorers, unavailable


@contextmanager
def _threads_restored() -> Iterator[None]:
    """torch's number of threads is the whole process', whichever thread sets it."""
    import torch

    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _ahead(
    pool: ThreadPoolExecutor, work: Callable[[Triple], Values], todo: Sequence[Triple], limit: int
) -> Iterator[tuple[Triple, Values]]:
    """Results in order, with at most ``limit`` images begun or waiting; on an error those not begun are dropped."""
    running: deque[tuple[Triple, Future[Values]]] = deque()
    try:
        for triple in todo:
            if len(running) == limit:
                first, future = running.popleft()
                yield first, future.result()
            running.append((triple, pool.submit(work, triple)))
        while running:
            first, future = running.popleft()
            yield first, future.result()
    finally:
        for _, future in running:
            future.cancel()


def _applies(name: str, shape: tuple[int, ...], profile: Profile) -> bool:
    metric = find_metric(name)
    return not metric.learned and min(shape) >= metric.smallest_side_in(profile)


def _finite(value: float) -> float | None:
    """None for NaN and infinities, which JSON does not know: an undefined value is no value."""
    return value if math.isfinite(value) else None


def _as_batch(pixels: np.ndarray) -> Any:
    """uint8 (1,1,H,W) or (1,3,H,W)."""
    import torch

    batch = torch.from_numpy(pixels)[None]
    return batch[:, None] if pixels.ndim == 2 else batch.permute(0, 3, 1, 2)
