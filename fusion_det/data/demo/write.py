"""Write the demo as a dataset in M3FD's own layout."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from functools import partial
from multiprocessing import get_context, parent_process
from multiprocessing.connection import wait
from pathlib import Path

import numpy as np

from fusion_det.data.demo.layout import plan_run, run_length
from fusion_det.data.demo.render import Frame, RunRenderer
from fusion_det.data.pair import M3FD_CLASSES
from fusion_det.errors import DatasetError
from fusion_det.files import folder_lock, replace_folder, write_json
from fusion_det.machine import available_cores
from fusion_det.progress import NoProgress, Progress

GENERATOR_VERSION = 1
"""Raised whenever the same seed would give other images or boxes than before."""
SCENES_FILE = "scenes.json"


def write_demo(
    out: Path,
    *,
    scenes: int = 120,
    seed: int = 0,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Path:
    """Draw ``scenes`` pairs into ``out`` and return it; does nothing when the same ones are already there.

    ``out`` receives ``Ir/ Vis/ Annotation/`` as M3FD has them (``NNNNN.png``, ``NNNNN.xml`` in Pascal VOC,
    1-based inclusive pixels) and ``scenes.json``, which says that the pairs are synthetic, how they were made,
    and the condition and capture run of each. Capture runs are 3 to 6 consecutive frames. Pair ``i`` of a seed
    is the same whatever ``scenes`` is. All is drawn in a folder beside ``out`` and renamed at the end; of several
    processes that want the same demo one draws and the others wait.

    Args:
        scenes: number of pairs, at least 1.
        seed: at least 0; another seed gives other streets, people and vehicles.
        workers: processes; default: one per core, at most eight.

    Raises:
        DatasetError: ``out`` holds something else than a demo, or the figures make no sense.
    """
    progress = progress or NoProgress()
    if scenes < 1 or seed < 0:
        raise DatasetError(f"demo: scenes is {scenes} and seed is {seed}", cure="Ask for scenes >= 1 and seed >= 0.")
    out = Path(out)
    generator = {"name": "fusion_det.data.demo", "version": GENERATOR_VERSION, "scenes": scenes, "seed": seed}
    if _recorded_generator(out) == generator:
        return out
    _refuse_what_is_no_demo(out)
    with folder_lock(out):
        if _recorded_generator(out) == generator:  # another process drew it while this one waited
            return out
        _refuse_what_is_no_demo(out)
        progress.start(f"Drawing the demo (seed {seed})", scenes)
        with replace_folder(out, stale_after=0) as folder:
            pairs: dict[str, dict[str, str]] = {}
            for name in ("Ir", "Vis", "Annotation"):
                (folder / name).mkdir()
            for written in _run_jobs(list(_jobs(seed, scenes)), partial(_write_run, folder, seed), workers):
                pairs.update(written)
                progress.advance(len(written))
            write_json(folder / SCENES_FILE, {"synthetic": True, "generator": generator, "pairs": pairs})
        progress.finish()
    return out


Job = tuple[int, int, int]
"""Run number, index of its first frame, number of frames to draw."""


def _jobs(seed: int, scenes: int) -> Iterator[Job]:
    number, first = 0, 0
    while first < scenes:
        length = run_length(seed, number)
        yield number, first, min(length, scenes - first)
        number, first = number + 1, first + length


def _run_jobs(
    jobs: list[Job], work: partial[dict[str, dict[str, str]]], workers: int | None
) -> Iterator[dict[str, dict[str, str]]]:
    count = min(workers or min(available_cores(), 8), len(jobs))
    if count <= 1:
        yield from map(work, jobs)
        return
    # Fresh interpreters: forking a parent that may run threads (torch, a progress bar) can hang.
    with ProcessPoolExecutor(count, mp_context=get_context("spawn"), initializer=_end_with_parent) as pool:
        futures: list[Future[dict[str, dict[str, str]]]] = [pool.submit(work, job) for job in jobs]
        for future in as_completed(futures):
            yield future.result()


def _end_with_parent() -> None:
    """Let this worker end when its parent does, even if the parent was killed and could not tell it."""
    parent = parent_process()
    if parent is None:
        return

    def wait_for_it(sentinel: int) -> None:
        wait([sentinel])
        os._exit(1)

    threading.Thread(target=wait_for_it, args=(parent.sentinel,), daemon=True).start()


def _write_run(folder: Path, seed: int, job: Job) -> dict[str, dict[str, str]]:
    """Draw and write the frames of one capture run; returns stem → condition and run."""
    number, first, frames = job
    renderer = RunRenderer(seed, plan_run(seed, number, first))
    pairs = {}
    for offset in range(frames):
        stem, frame = f"{first + offset:05d}", renderer.frame(offset)
        _write_image(folder / "Ir" / f"{stem}.png", frame.ir)
        _write_image(folder / "Vis" / f"{stem}.png", frame.vi)
        (folder / "Annotation" / f"{stem}.xml").write_text(annotation(stem, frame), encoding="utf-8")
        pairs[stem] = {"condition": frame.condition, "run": frame.run}
    return pairs


def _write_image(path: Path, image: np.ndarray) -> None:
    from PIL import Image

    # A fixed compression level: equal pixels give equal bytes with the same Pillow.
    Image.fromarray(image).save(path, format="PNG", compress_level=4)


def annotation(stem: str, frame: Frame) -> str:
    """Pascal VOC XML as in M3FD: pixels counted from 1, both corners inside the box."""
    height, width = frame.ir.shape
    lines = [
        "<annotation>",
        f"  <filename>{stem}.png</filename>",
        f"  <size><width>{width}</width><height>{height}</height><depth>3</depth></size>",
    ]
    for (x0, y0, x1, y1), label in zip(frame.boxes.xyxy.astype(int), frame.boxes.labels, strict=True):
        lines += [
            "  <object>",
            f"    <name>{M3FD_CLASSES[label]}</name>",
            f"    <bndbox><xmin>{x0 + 1}</xmin><ymin>{y0 + 1}</ymin><xmax>{x1}</xmax><ymax>{y1}</ymax></bndbox>",
            "  </object>",
        ]
    return "\n".join([*lines, "</annotation>", ""])


def _recorded_generator(out: Path) -> object:
    """What the complete demo in ``out`` was made with; None when there is none."""
    try:
        record = json.loads((out / SCENES_FILE).read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError):
        return None
    return record.get("generator") if isinstance(record, dict) else None


def _refuse_what_is_no_demo(out: Path) -> None:
    if out.exists() and _recorded_generator(out) is None and (not out.is_dir() or any(out.iterdir())):
        raise DatasetError(
            f"{out}: holds something else than a demo; nothing was overwritten", cure="Name another folder."
        )
