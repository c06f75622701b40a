"""How much of a test set a detector has, in effect, seen in training: neighbouring frames and shared capture runs."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from fusion_det.data.pair import PairDataset

if TYPE_CHECKING:
    from fusion_det.data.splits import Split

_NUMBERED = re.compile(r"(.*?)(\d+)", re.DOTALL)


def leakage(dataset: PairDataset, split: Split) -> dict[str, float]:
    """Share (0–1) of the test frames that have a close relative in train.

    neighbour: the frame whose id is one lower or one higher (00214 or 00216 for 00215) is in train. Missing when no test
        stem ends in a number.
    run: another frame of the same capture run is in train. Frames of unknown run count as not leaked, so it is a lower
        bound; missing when no run is known.

    A random split of densely filmed runs gives 1 - 0.3² = 91 % neighbours at 7:1:2.
    """
    records = dataset.by_stem()
    train, test = split.ids["train"], split.ids["test"]
    found: dict[str, float] = {}
    if not test:
        return found
    if any(numbered(stem) for stem in test):
        ids = {number for stem in train if (number := numbered(stem)) is not None}
        near = [stem for stem in test if (n := numbered(stem)) and ((n[0], n[1] - 1) in ids or (n[0], n[1] + 1) in ids)]
        found["neighbour"] = len(near) / len(test)
    if any(records[stem].run is not None for stem in test):
        runs = {records[stem].run for stem in train} - {None}
        found["run"] = sum(records[stem].run in runs for stem in test) / len(test)
    return found


def numbered(stem: str) -> tuple[str, int] | None:
    """("FLIR_", 97) for "FLIR_00097"; None if the stem does not end in digits."""
    match = _NUMBERED.fullmatch(stem)
    return (match[1], int(match[2])) if match else None
