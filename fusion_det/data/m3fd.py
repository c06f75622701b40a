"""What is known of M3FD's 4200 detection pairs beside the files themselves: condition and capture run by id."""

from __future__ import annotations

import csv
import re
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from importlib import resources

M3FD_PAIRS = 4200
_ID = re.compile(r"\d{5}")


@dataclass(frozen=True)
class CaptureRun:
    """Consecutive ids first..last (inclusive) filmed at one place; ``name`` is scene and first id ("alley-00825")."""

    first: int
    last: int
    condition: str
    scene: str

    @property
    def name(self) -> str:
        return f"{self.scene}-{self.first:05d}"


@cache
def capture_runs() -> tuple[CaptureRun, ...]:
    """The 99 runs, by first id. They cover 4089 ids; 111 (1301–1334, 1392–1428, 1494–1529, 1994, 3376–3378) are in none.

    Origin and the treatment of ids that the source puts into two ranges: the head of ``m3fd_runs.csv``.
    """
    text = resources.files("fusion_det.data").joinpath("m3fd_runs.csv").read_text(encoding="utf-8")
    rows = csv.DictReader(line for line in text.splitlines() if not line.startswith("#"))
    return tuple(CaptureRun(int(row["first"]), int(row["last"]), row["condition"], row["scene"]) for row in rows)


@cache
def _runs_by_id() -> dict[int, CaptureRun]:
    return {i: run for run in capture_runs() for i in range(run.first, run.last + 1)}


def run_of(stem: str) -> CaptureRun | None:
    """The run of an M3FD stem ("00215"); None for the 111 ids in no run and for anything that is not an M3FD stem."""
    return _runs_by_id().get(int(stem)) if _ID.fullmatch(stem) else None


def is_complete(stems: Collection[str]) -> bool:
    """True for exactly the ids 00000..04199: then it is M3FD whatever its folder is called."""
    return len(stems) == M3FD_PAIRS and all(has_m3fd_id(stem) for stem in stems)


def family_of(name: str, stems: Collection[str]) -> str:
    """Whose images these are: "m3fd" for all of M3FD or a part of it under such a name, else the name itself.

    M3FD's fusion set (``m3fd_fusion``) holds other images, though it numbers them alike.
    """
    part = "m3fd" in name and "fusion" not in name and all(has_m3fd_id(stem) for stem in stems)
    return "m3fd" if part or is_complete(stems) else name


def has_m3fd_id(stem: str) -> bool:
    return _ID.fullmatch(stem) is not None and int(stem) < M3FD_PAIRS
