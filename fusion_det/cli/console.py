"""The terminal: one console, and progress bars that also read well in a log file."""

from __future__ import annotations

import sys
import threading
import time
from functools import cache
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as RichBars
from rich.progress import TaskID


@cache
def console(*, stderr: bool = False) -> Console:
    """The program's console; results go to stdout, progress and complaints to stderr."""
    return Console(stderr=stderr, highlight=False)


class RichProgress:
    """A progress bar (implements :class:`fusion_det.progress.Progress`).

    On a terminal it is a live bar with time left. Elsewhere (a log file, CI) it is one line at the start, one at the
    end, and one at most every ``log_every`` seconds, so that logs stay readable. Use as a context manager.
    """

    def __init__(self, *, log_every: float = 30.0) -> None:
        self._console = console(stderr=True)
        self._live = self._console.is_terminal
        self._log_every = log_every
        self._bars: RichBars | None = None
        self._task: TaskID | None = None
        self._description, self._total, self._done = "", None, 0
        self._last_line = 0.0
        self._lock = threading.Lock()

    def __enter__(self) -> RichProgress:
        if self._live:
            self._bars = RichBars(
                TextColumn("{task.description}"),
                BarColumn(bar_width=None),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TextColumn("<"),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}"),
                console=self._console,
                expand=False,
            )
            self._bars.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._bars is not None:
            self._bars.stop()
            self._bars = None
        sys.stderr.flush()

    def start(self, description: str, total: int | None, done: int = 0) -> None:
        with self._lock:
            self._description, self._total, self._done = description, total, done
            if self._bars is not None:
                self._task = self._bars.add_task(description, total=total, completed=done, note="")
            else:
                self._line("")

    def advance(self, steps: int = 1, note: str = "") -> None:
        with self._lock:
            self._done += steps
            if self._bars is not None and self._task is not None:
                self._bars.update(self._task, advance=steps, **({"note": note} if note else {}))
            elif time.monotonic() - self._last_line > self._log_every:
                self._line(note)

    def finish(self, note: str = "") -> None:
        with self._lock:
            if self._bars is not None and self._task is not None:
                self._bars.update(self._task, note=note)
                self._bars.stop_task(self._task)
            else:
                self._line(note or "done")

    def _line(self, note: str) -> None:
        self._last_line = time.monotonic()
        count = f" {self._done}/{self._total}" if self._total else ""
        self._console.print(f"{self._description}{count}{'  ' + note if note else ''}", markup=False)
