"""Work in a process of its own: started, followed, and never left behind.

The child tells its parent how far it is in JSON lines on a pipe, the file descriptor named in ``FUSION_DET_EVENTS``;
everything else it prints goes to a log. When the parent dies, the child's stdin closes, and the child stops at once: forgotten
work must not go on writing where the next run will.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fusion_det.errors import FusionDetError, StageError

EVENTS = "FUSION_DET_EVENTS"
FULL_DISK = 20_000_000
"""Fewer free bytes than this, and a failed process most likely failed for want of them."""

Event = dict[str, Any]
"""``event``: what it is ("error" with a ``message``), and facts of it."""


def run_worker(
    module: str,
    job: Path,
    *,
    what: str,
    cure: str,
    heard: Callable[[Event], None],
    environment: Mapping[str, str] | None = None,
    cancelled: threading.Event | None = None,
) -> list[Event]:
    """Run ``python -m MODULE JOB`` and wait for it.

    Args:
        module: calls :func:`serve`. job: a file that tells it what to do; the process works in its folder, and its output is
            appended to ``log.txt`` there (so that work that is resumed has one log).
        what: name of the work, for messages; cure: what helps when memory runs out.
        heard: called with every event as it comes.
        cancelled: when set from another thread, the process is stopped.

    Returns:
        All events, oldest first.

    Raises:
        StageError: the process failed, was killed or cancelled; names its log and the last words in it.
    """
    log = job.parent / "log.txt"
    events: list[Event] = []
    done = threading.Event()
    with _process(module, job, log, dict(environment or os.environ)) as (process, stream):
        watcher = threading.Thread(target=_stop_when_cancelled, args=(process, cancelled, done), daemon=True)
        watcher.start()
        for line in stream:
            events.append(json.loads(line))
            heard(events[-1])
        code = process.wait()
        done.set()
    if cancelled is not None and cancelled.is_set():
        raise StageError(f"{what} stopped on request; the next run continues it")
    if code:
        words = next((e["message"] for e in reversed(events) if e["event"] == "error"), None)
        if shutil.disk_usage(job.parent).free < FULL_DISK:
            words = f"the disk of {job.parent} is full; make room and run the same command again, nothing is lost"
        raise StageError(f"{what} process {_fate(code, cure)}{': ' + words if words else ''}. Log: {log}")
    return events


@contextmanager
def _process(
    module: str, job: Path, log: Path, environment: dict[str, str]
) -> Iterator[tuple[subprocess.Popen[bytes], Any]]:
    read_end, write_end = os.pipe()
    with log.open("ab") as sink:
        process = subprocess.Popen(
            [sys.executable, "-m", module, str(job)],
            stdin=subprocess.PIPE,  # never written to: its closing tells the child that we are gone
            stdout=sink,
            stderr=subprocess.STDOUT,
            pass_fds=(write_end,),
            env={**environment, EVENTS: str(write_end)},
            cwd=job.parent,
        )
    os.close(write_end)
    try:
        with os.fdopen(read_end, encoding="utf-8") as stream:
            yield process, stream
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        if process.stdin is not None:
            process.stdin.close()


def _stop_when_cancelled(
    process: subprocess.Popen[bytes], cancelled: threading.Event | None, done: threading.Event
) -> None:
    while cancelled is not None and not done.wait(0.2):
        if cancelled.is_set():
            process.kill()
            return


def _fate(code: int, cure: str) -> str:
    if code in (-9, 137):
        return f"was killed (signal 9; out of memory? {cure})"
    return f"was killed by signal {-code}" if code < 0 else f"failed with exit code {code}"


class Events:
    """The child's end of the pipe: sends JSON lines."""

    def __init__(self, descriptor: int) -> None:
        self._stream = os.fdopen(descriptor, "w", encoding="utf-8", buffering=1)
        self._last: dict[str, float] = {}

    def send(self, event: str, **facts: Any) -> None:
        self._stream.write(json.dumps({"event": event, **facts}) + "\n")

    def send_now_and_then(self, event: str, **facts: Any) -> None:
        """As :meth:`send`, but at most twice a second for one kind of event; the others are lost."""
        if time.monotonic() - self._last.get(event, 0.0) >= 0.5:
            self._last[event] = time.monotonic()
            self.send(event, **facts)


def serve(arguments: list[str], work: Callable[[Path, Events], None]) -> int:
    """The child's main function: do the ``work`` of the job file that ``arguments`` name; returns the exit code."""
    events = Events(int(os.environ[EVENTS]))
    threading.Thread(target=_stop_with_parent, daemon=True).start()
    try:
        work(Path(arguments[0]), events)
    except FusionDetError as error:
        events.send("error", message=str(error))
        return 2
    except BaseException as error:
        events.send("error", message=f"{type(error).__name__}: {error}")
        raise
    return 0


def _stop_with_parent() -> None:
    while os.read(0, 1):  # not sys.stdin: its lock would be held at interpreter shutdown
        pass
    os._exit(143)
