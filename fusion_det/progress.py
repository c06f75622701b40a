"""One progress interface for long work, so that the work does not know how (or whether) it is shown."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """What long-running functions report to. Implementations: rich bars in the terminal, lines in a log, nothing."""

    def start(self, description: str, total: int | None, done: int = 0) -> None:
        """Begin (or restart) a piece of work of ``total`` steps of which ``done`` are already there."""

    def advance(self, steps: int = 1, note: str = "") -> None:
        """``steps`` more are finished; ``note`` is a short state to show beside the bar ("epoch 3/40, mAP50 41.2")."""

    def tell(self, message: str) -> None:
        """Something to know before waiting any longer: a line that stays."""

    def finish(self, note: str = "") -> None:
        """The piece of work is over."""


class NoProgress:
    """Shows nothing."""

    def start(self, description: str, total: int | None, done: int = 0) -> None: ...

    def advance(self, steps: int = 1, note: str = "") -> None: ...

    def tell(self, message: str) -> None: ...

    def finish(self, note: str = "") -> None: ...
