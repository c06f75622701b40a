"""``scene-712``: whole capture runs stay on one side, stratified by condition.

1. Frames are grouped by capture run. Frames of unknown run form a group with the neighbours (consecutive ids) whose run
   is unknown too, so that unknown does not mean leaked.
2. A candidate takes the groups in the order of sha256(``fusion_det/scene-712/{seed}/{candidate}/{group}``) and gives each
   to the part that lacks most images, for its condition, to reach 7:1:2 (ties: train, test, val).
3. Of 256 candidates the one wins whose shares deviate least from 7:1:2, summed over: all images, the images of each
   condition, the boxes of each class; among equals the first. Exact fractions, so that no rounding decides.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from fusion_det.data.leakage import numbered
from fusion_det.data.pair import PairDataset, PairRecord
from fusion_det.errors import DatasetError

CANDIDATES = 256
SHARES = {"train": Fraction(7, 10), "test": Fraction(2, 10), "val": Fraction(1, 10)}


@dataclass(frozen=True)
class Group:
    """Frames that must stay together. weights: what is to be shared 7:1:2: ("all",), ("condition", c), ("class", i)."""

    name: str
    stems: tuple[str, ...]
    condition: str
    weights: Mapping[tuple[str, str], int]


def scene_parts(dataset: PairDataset, seed: int) -> dict[str, list[str]]:
    """Part → stems.

    Raises:
        DatasetError: the dataset's capture runs are unknown, or fewer than three.
    """
    records = dataset.labelled()
    if all(record.run is None for record in records):
        raise DatasetError(
            f"The capture runs of {dataset.name} are unknown, so scene-712 cannot keep them together.",
            cure="Use random-712, or a --split-file made by whoever knows the runs.",
        )
    groups = capture_groups(records)
    if len(groups) < len(SHARES):
        raise DatasetError(
            f"{dataset.name} has {len(groups)} capture runs here; three parts need three at least.",
            cure="Raise --limit, or use random-712.",
        )
    totals = _total(groups)
    wanted: Counter[str] = Counter()
    for group in groups:
        wanted[group.condition] += len(group.stems)
    candidates = (_candidate(groups, wanted, seed, number) for number in range(CANDIDATES))
    complete = [candidate for candidate in candidates if all(candidate[part] for part in SHARES)]
    if not complete:  # very few runs of very different length: three largest shares by size
        ordered = sorted(groups, key=lambda group: (-len(group.stems), group.name))
        complete = [{"train": [*ordered[:-2]], "test": [ordered[-2]], "val": [ordered[-1]]}]
    best = min(complete, key=lambda parts: deviation(parts, totals))
    return {part: [stem for group in best[part] for stem in group.stems] for part in SHARES}


def capture_groups(records: Sequence[PairRecord]) -> list[Group]:
    """Groups by run, by name; consecutive frames of unknown run are a group of their own."""
    members: dict[str, list[PairRecord]] = defaultdict(list)
    previous: tuple[str, int] | None = None
    block = ""
    for record in sorted(records, key=lambda r: r.stem):
        if record.run is not None:
            members[f"run/{record.run}"].append(record)
            continue
        number = numbered(record.stem)
        follows = number is not None and previous is not None and number == (previous[0], previous[1] + 1)
        if not follows:
            block = f"unknown/{record.stem}" if number is not None else "unknown/unnumbered"
        members[block].append(record)
        previous = number
    return [_group(name, members[name]) for name in sorted(members)]


def deviation(parts: Mapping[str, Sequence[Group]], totals: Mapping[tuple[str, str], int]) -> Fraction:
    """Sum over what is shared and over parts of |share - wanted share|; 0 is a perfect 7:1:2 of everything."""
    sums = {part: _total(groups) for part, groups in parts.items()}
    return sum(
        (
            abs(Fraction(sums[part][key], total) - share)
            for key, total in totals.items()
            for part, share in SHARES.items()
        ),
        Fraction(0),
    )


def _group(name: str, records: Sequence[PairRecord]) -> Group:
    condition = Counter(record.condition or "" for record in records).most_common(1)[0][0]
    weights: Counter[tuple[str, str]] = Counter({("all", ""): len(records)})
    for record in records:
        weights["condition", record.condition or ""] += 1
        if record.boxes is not None:
            weights.update(("class", str(int(label))) for label in record.boxes.labels)
    return Group(name, tuple(record.stem for record in records), condition, weights)


def _total(groups: Sequence[Group]) -> Counter[tuple[str, str]]:
    total: Counter[tuple[str, str]] = Counter()
    for group in groups:
        total.update(group.weights)
    return total


def _candidate(groups: Sequence[Group], wanted: Mapping[str, int], seed: int, number: int) -> dict[str, list[Group]]:
    """One dealing of the groups; ``wanted``: frames per condition, counting each group under its commonest one."""
    prefix = f"fusion_det/scene-712/{seed}/{number}/"
    ordered = sorted(groups, key=lambda g: hashlib.sha256((prefix + g.name).encode()).hexdigest())
    parts: dict[str, list[Group]] = {part: [] for part in SHARES}
    taken: Counter[tuple[str, str]] = Counter()
    for group in ordered:
        part = max(SHARES, key=lambda p: SHARES[p] * wanted[group.condition] - taken[p, group.condition])
        parts[part].append(group)
        taken[part, group.condition] += len(group.stems)
    return parts
