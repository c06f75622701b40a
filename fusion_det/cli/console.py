"""The terminal: one console, and progress bars that also read well in a log file."""

from __future__ import annotations

import threading
import time
from functools import cache
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as RichBars

if TYPE_CHECKING:
    from fusion_det.pipeline.stage import Outcome, Stage

INTERRUPTED = 130
"""Exit code after Ctrl-C or a polite kill."""

LOG_EVERY = 30.0
"""Seconds between two lines of one piece of work where there is no terminal."""


@cache
def console(*, stderr: bool = False) -> Console:
    """The program's console; results go to stdout, progress and complaints to stderr."""
    return Console(stderr=stderr, highlight=False, emoji=False)  # "--data focus:x" names no emoji


class _Bars:
    """The live area that bars are drawn in; None where stderr is not a terminal."""

    def __init__(self) -> None:
        self.console = console(stderr=True)
        self.live: RichBars | None = None

    def open(self) -> None:
        if self.console.is_terminal:
            self.live = RichBars(
                TextColumn("{task.description}"),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TextColumn("<"),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}"),
                console=self.console,
            )
            self.live.start()

    def close(self) -> None:
        if self.live is not None:
            self.live.stop()
            self.live = None


class _Bar:
    """One bar (implements :class:`fusion_det.progress.Progress`): live on a terminal, else a line now and then."""

    def __init__(self, bars: _Bars, title: str = "", *, leave: bool, silent: bool = False) -> None:
        self._bars, self._title, self._leave, self._silent = bars, title, leave, silent
        self._task: TaskID | None = None
        self._description = title
        self._total: int | None = None
        self._done = self._found = 0
        self._started = time.monotonic()
        self._last_line = time.monotonic()
        self._lock = threading.Lock()

    def start(self, description: str, total: int | None, done: int = 0) -> None:
        with self._lock:
            words = [self._title, description] if description not in self._title else [self._title]
            self._description, self._total, self._done = " · ".join(filter(None, words)), total, done
            self._started, self._found = time.monotonic(), done
            if (live := self._bars.live) is None:
                return
            if self._task is None:
                self._task = live.add_task(escape(self._description), total=total, completed=done, note="")
            else:
                live.reset(self._task, total=total, completed=done, description=escape(self._description), note="")

    def advance(self, steps: int = 1, note: str = "") -> None:
        with self._lock:
            self._done += steps
            if (live := self._bars.live) is not None and self._task is not None:
                live.advance(self._task, steps)
                if note:
                    live.update(self._task, note=escape(note))
            elif not self._silent and time.monotonic() - self._last_line > LOG_EVERY:
                self._last_line = time.monotonic()
                count = f" {self._done}/{self._total}" if self._total else ""
                left = f"  {_left(self._last_line - self._started, self._done - self._found, self._total, self._done)}"
                self._bars.console.print(f"{self._description}{count}  {note}{left}", markup=False, soft_wrap=True)

    def tell(self, message: str) -> None:
        words = f"{self._description}: {message}" if self._description else message
        self._bars.console.print(words, markup=False, soft_wrap=True)

    def finish(self, note: str = "") -> None:
        with self._lock:
            if (live := self._bars.live) is None or self._task is None:
                return
            if self._leave:
                live.update(self._task, note=escape(note))
                live.stop_task(self._task)
            else:
                live.remove_task(self._task)
                self._task = None


def _left(elapsed: float, advanced: int, total: int | None, done: int) -> str:
    """Time left at the pace so far, in words; "" while there is no pace."""
    if not total or advanced < 1:
        return ""
    seconds = elapsed / advanced * (total - done)
    return f"{seconds:.0f} s left" if seconds < 90 else f"{seconds / 60:.0f} min left"


class RichProgress(_Bar):
    """A single piece of work, as a context manager that opens and closes the live area."""

    def __init__(self) -> None:
        super().__init__(_Bars(), leave=True)

    def __enter__(self) -> RichProgress:
        self._bars.open()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._bars.close()


class RunDisplay:
    """Shows a run (implements :class:`fusion_det.pipeline.engine.Display`): a bar per running stage and one for all.

    Where stderr is no terminal each stage is a line when it ends, and its progress a line now and then.
    """

    def __init__(self) -> None:
        self._bars = _Bars()
        self._overall: _Bar | None = None

    def __enter__(self) -> RunDisplay:
        self._bars.open()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()

    def stop(self) -> None:
        """Take the live area away (to print a table, say)."""
        self._bars.close()

    def bar(self, title: str) -> _Bar:
        return _Bar(self._bars, title, leave=False)

    def stage_ended(self, stage: Stage, outcome: Outcome, done: int, total: int) -> None:
        if self._overall is None:
            self._overall = _Bar(self._bars, "all stages", leave=True, silent=True)
            self._overall.start("", total)
        self._overall.advance(1)
        if outcome.state in ("cached", "skipped"):  # what is skipped follows from the failure that was shown
            return
        colour = {"done": "green", "failed": "red"}[outcome.state]
        words = f"  {outcome.reason.splitlines()[0]}" if outcome.reason else ""
        self._bars.console.print(
            f"[{colour}]{outcome.state:7}[/] {done:3}/{total} {stage.kind:8} {escape(stage.label)}  "
            f"{outcome.seconds:.1f} s{escape(words)}",
            soft_wrap=True,
        )
