"""Runs a plan on this machine: stages in order of their inputs, one heavy stage per slot, each failure confined to its row."""

from __future__ import annotations

import contextlib
import errno
import logging
import queue
import shutil
import threading
import time
import traceback
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Protocol

from fusion_det.errors import ConfigError, FusionDetError
from fusion_det.files import write_text
from fusion_det.pipeline.stage import Outcome, Slot, Stage, StageContext
from fusion_det.pipeline.store import Store
from fusion_det.progress import NoProgress, Progress

logger = logging.getLogger(__name__)

LIGHT_SLOT = Slot("cpu", 1)


class Display(Protocol):
    """Shows a run: gives each running stage a progress bar of its own."""

    def bar(self, title: str) -> Progress: ...

    def stage_ended(self, stage: Stage, outcome: Outcome, done: int, total: int) -> None: ...


class NoDisplay:
    """Shows nothing."""

    def bar(self, title: str) -> Progress:
        return NoProgress()

    def stage_ended(self, stage: Stage, outcome: Outcome, done: int, total: int) -> None: ...


def run_plan(
    stages: Sequence[Stage],
    store: Store,
    slots: Sequence[Slot],
    display: Display | None = None,
    *,
    found: Collection[str] = (),
) -> dict[str, Outcome]:
    """Run every stage whose result is not in the store yet.

    A stage that fails takes down the stages that need it and no others. An interrupt (Ctrl-C) stops what is running, keeps
    what is whole, and is raised again.

    Args:
        stages: in any order; inputs that are not listed are not run.
        slots: where heavy stages run; as many run at a time as there are slots.
        found: digests of stages that are known to be in the store, so that it need not be asked again.

    Returns:
        Stage digest → outcome, for all stages.
    """
    display = display or NoDisplay()
    free: queue.SimpleQueue[Slot] = queue.SimpleQueue()
    for slot in slots:
        free.put(slot)
    cancelled = threading.Event()
    outcomes: dict[str, Outcome] = {}
    waiting = {s.digest: s for s in stages}
    running: dict[Future[Outcome], Stage] = {}
    heavy_running = 0
    pool = ThreadPoolExecutor(max_workers=len(slots) + 2, thread_name_prefix="stage")
    try:
        while waiting or running:
            for stage in [s for s in waiting.values() if _decided(s, outcomes)]:
                if blocked := _blocked(stage, outcomes):
                    _note(stage, Outcome("skipped", reason=blocked), outcomes, waiting, display, len(stages))
                    continue
                if (folder := store.folder(stage) if stage.digest in found else store.find(stage)) is not None:
                    _note(stage, Outcome("cached", folder), outcomes, waiting, display, len(stages))
                    continue
                if stage.heavy and not slots:
                    raise ConfigError(f"{stage.kind} {stage.label} has vanished from the store; run the command again")
                if stage.heavy and heavy_running >= len(slots):
                    continue
                heavy_running += stage.heavy
                del waiting[stage.digest]
                ready = {role: outcomes[s.digest].folder for role, s in stage.inputs.items()}
                inputs = {
                    role: folder for role, folder in ready.items() if folder is not None
                }  # all: it is not blocked
                running[pool.submit(_run_stage, stage, inputs, store, free, display, cancelled)] = stage
            if running:
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    stage = running.pop(future)
                    heavy_running -= stage.heavy
                    _note(stage, future.result(), outcomes, waiting, display, len(stages))
            elif waiting and not any(_decided(s, outcomes) for s in waiting.values()):
                raise ConfigError(
                    f"the plan waits for stages that are not in it: {[s.label for s in waiting.values()]}"
                )
    except BaseException:
        cancelled.set()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    return outcomes


def _decided(stage: Stage, outcomes: Mapping[str, Outcome]) -> bool:
    return all(s.digest in outcomes for s in stage.inputs.values())


def _blocked(stage: Stage, outcomes: Mapping[str, Outcome]) -> str:
    for s in stage.inputs.values():
        if (outcome := outcomes[s.digest]).folder is None:
            return outcome.reason if outcome.state == "skipped" else f"{s.kind} {s.label} failed: {outcome.reason}"
    return ""


def _note(
    stage: Stage,
    outcome: Outcome,
    outcomes: dict[str, Outcome],
    waiting: dict[str, Stage],
    display: Display,
    total: int,
) -> None:
    outcomes[stage.digest] = outcome
    waiting.pop(stage.digest, None)
    display.stage_ended(stage, outcome, len(outcomes), total)


def _run_stage(
    stage: Stage,
    inputs: Mapping[str, Path],
    store: Store,
    free: queue.SimpleQueue[Slot],
    display: Display,
    cancelled: threading.Event,
) -> Outcome:
    slot = free.get() if stage.heavy else LIGHT_SLOT
    started = time.monotonic()
    progress = display.bar(f"{stage.kind} {stage.label}")
    try:
        with store.working(stage, cancelled) as work:
            if work is None:
                return Outcome("cached", store.folder(stage))
            context = StageContext(work, inputs, slot, progress, cancelled)
            facts = stage.run(context)
            seconds = time.monotonic() - started
            return Outcome("done", store.complete(stage, facts, seconds), seconds)
    except FusionDetError as error:
        return Outcome("failed", seconds=time.monotonic() - started, reason=str(error))
    except OSError as error:
        return Outcome("failed", seconds=time.monotonic() - started, reason=_os_reason(error, store))
    except Exception as error:
        trace = store.partial(stage) / "error.txt"
        with contextlib.suppress(OSError):  # a full disk, say: the row's reason is in the outcome all the same
            write_text(trace, traceback.format_exc())
        logger.debug("stage %s %s failed", stage.kind, stage.label, exc_info=True)
        return Outcome(
            "failed",
            seconds=time.monotonic() - started,
            reason=f"{type(error).__name__}: {error} (traceback: {trace})",
        )
    finally:
        progress.finish()
        if stage.heavy:
            free.put(slot)


def _os_reason(error: OSError, store: Store) -> str:
    if error.errno == errno.ENOSPC:
        free_gb = shutil.disk_usage(store.root).free / 1e9
        return (
            f"the disk of {store.root} is full ({free_gb:.1f} GB free). Nothing is lost: make room (fusion-det status shows "
            "what the store holds) and run the same command again"
        )
    return f"{type(error).__name__}: {error}"


def make_slots(device: str, jobs: int | None, cores: int, cuda_devices: Callable[[], int]) -> tuple[Slot, ...]:
    """Slots for ``--device`` and ``--jobs``.

    "auto" is every CUDA device, else the CPU; "cuda:0,cuda:2" names some; ``jobs`` is the number of stages at a time per
    device: by default 1 on a GPU, and on a CPU one per core, at most four, since small networks use one core better than two.
    CPU threads are divided among the slots.

    Raises:
        ConfigError: an unknown device.
    """
    if device == "auto":
        count = cuda_devices()
        names = [f"cuda:{i}" for i in range(count)] or ["cpu"]
    else:
        names = [name.strip() for name in device.split(",") if name.strip()]
        names = [f"cuda:{n}" if n.isdigit() else "cuda:0" if n == "cuda" else n for n in names]
        if bad := [n for n in names if not (n in ("cpu", "mps") or n.removeprefix("cuda:").isdigit())]:
            raise ConfigError(f"--device {device}: {bad[0]!r} is none of auto, cpu, mps, cuda:N (or a list of cuda:N)")
        if not names:
            raise ConfigError("--device is empty; give auto, cpu, mps or cuda:N")
    if jobs is not None and jobs < 1:
        raise ConfigError(f"--jobs {jobs}: needs at least 1")
    names = [name for name in names for _ in range(jobs or (min(cores, 4) if name == "cpu" else 1))]
    return tuple(Slot(name, max(1, cores // len(names))) for name in names)
