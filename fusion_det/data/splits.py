"""Splits: which labelled stems are for training, validation and test.

``random-712`` depends on nothing but the seed and the stems: each stem is ranked by the hexadecimal sha256 of
``fusion_det/random-712/{seed}/{stem}`` (UTF-8); of n stems in that order the first are train, then come
round-half-up(n/10) for val (at least one), and the last round-half-up(2n/10) are test (at least one). On M3FD's 4200
that is 2940/420/840. No library's random generator is involved, so the ids are the same for ever.

``scene-712`` is in :mod:`fusion_det.data.scene_split`. ``official`` is the split a dataset comes with.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fusion_det.data.pair import PairDataset
from fusion_det.data.scene_split import scene_parts
from fusion_det.errors import ConfigError, DatasetError, Problem
from fusion_det.files import digest_json, write_json

PARTS = ("train", "val", "test")
SPLIT_NAMES = ("random-712", "scene-712", "official")
SCHEMA_VERSION = 1
OFFICIAL_VAL_SHARE = 8
"""An official split without val gives one in so many of its training stems to val."""


@dataclass(frozen=True)
class Split:
    """ids: part ("train", "val", "test") → stems, sorted. seed: None where no seed was involved.

    note: what a reader of a table must know about how it came about; may be empty.
    """

    name: str
    seed: int | None
    ids: Mapping[str, tuple[str, ...]]
    note: str = ""
    dataset: str = ""

    @property
    def digest(self) -> str:
        """sha256 (hex) of the ids alone, whatever the split is called and whatever file it came from."""
        return digest_json({part: sorted(self.ids[part]) for part in PARTS})

    def counts(self) -> dict[str, int]:
        """Images per part."""
        return {part: len(self.ids[part]) for part in PARTS}

    def save(self, path: Path) -> None:
        """Write as JSON, atomically."""
        write_json(
            path,
            {
                "schema_version": SCHEMA_VERSION,
                "name": self.name,
                "seed": self.seed,
                "dataset": self.dataset,
                "note": self.note,
                "digest": self.digest,
                "ids": {part: list(self.ids[part]) for part in PARTS},
            },
        )

    @classmethod
    def load(cls, path: Path, dataset: PairDataset | None = None) -> Split:
        """Read a split file: this project's JSON, a JSON or YAML mapping, or a folder of train/val/test.txt.

        dataset: if given, ids it does not have (or has no boxes for) are problems as well.

        Raises:
            DatasetError: missing or malformed file, empty part, an id twice, unknown ids, ids that do not fit the digest
                the file carries.
        """
        from fusion_det.data.split_file import read_split_file

        split = read_split_file(path)
        if dataset is not None:
            split.check(dataset, path)
        return split

    def check(self, dataset: PairDataset, file: Path | None = None) -> None:
        """Every id must be a labelled pair of the dataset. DatasetError names file and ids otherwise."""
        known = {record.stem: record.boxes is not None for record in dataset}
        place = file or Path(f"split {self.name}")
        problems = []
        for part in PARTS:
            strangers = [stem for stem in self.ids[part] if stem not in known]
            unlabelled = [stem for stem in self.ids[part] if known.get(stem) is False]
            if strangers:
                problems.append(Problem(place, f"{part}: not in {dataset.name}: {shown(strangers)}"))
            if unlabelled:
                problems.append(Problem(place, f"{part}: without boxes in {dataset.name}: {shown(unlabelled)}"))
        if problems:
            cure = "Use a split of this dataset" + (
                f" (only its first {dataset.limit} pairs are in use)." if dataset.limit else "."
            )
            raise DatasetError(f"The split does not fit the dataset {dataset.name}.", problems, cure)


def make_split(dataset: PairDataset, name: str = "random-712", seed: int = 0) -> Split:
    """Split the labelled pairs of a dataset.

    Raises:
        ConfigError: no such split, or the dataset has no official one.
        DatasetError: fewer than three labelled pairs, or (scene-712) capture runs unknown or fewer than three.
    """
    if name not in SPLIT_NAMES:
        raise ConfigError(f"There is no split {name!r}; known: {', '.join(SPLIT_NAMES)}, or --split-file FILE.")
    stems = sorted(record.stem for record in dataset.labelled())
    if len(stems) < 3:
        raise DatasetError(
            f"{dataset.name} has {len(stems)} pairs with boxes; a split needs three at least.",
            cure="Raise --limit, or use a dataset with boxes.",
        )
    if name == "official":
        return _official(dataset, seed)
    parts = random_parts(stems, seed) if name == "random-712" else scene_parts(dataset, seed)
    return Split(name, seed, _sorted(parts), dataset=dataset.name)


def random_parts(stems: Sequence[str], seed: int) -> dict[str, list[str]]:
    """The algorithm of ``random-712``; the order of ``stems`` does not matter."""
    ranked = ranked_by_hash(stems, f"fusion_det/random-712/{seed}/")
    n = len(ranked)
    val, test = max(1, (n + 5) // 10), max(1, (2 * n + 5) // 10)
    train = n - val - test
    return {"train": ranked[:train], "val": ranked[train : train + val], "test": ranked[train + val :]}


def ranked_by_hash(items: Sequence[str], prefix: str) -> list[str]:
    """Items in the order of sha256(prefix + item): a shuffle that is the same everywhere."""
    return sorted(items, key=lambda item: hashlib.sha256((prefix + item).encode()).hexdigest())


def shown(stems: Sequence[str], most: int = 10) -> str:
    """Some ids and how many more."""
    more = f" and {len(stems) - most} more" if len(stems) > most else ""
    return ", ".join(stems[:most]) + more


def _official(dataset: PairDataset, seed: int) -> Split:
    given = {part: list(dataset.official_splits.get(part, ())) for part in PARTS}
    if not given["train"] or not given["test"]:
        has = ", ".join(part for part in PARTS if given[part]) or "nothing"
        limit = f" Its first {dataset.limit} pairs cover only: {has}; raise --limit." if dataset.limit else ""
        raise ConfigError(
            f"{dataset.name} comes with no official split into train and test (found: {has}).{limit} "
            "Use random-712, or --split-file FILE."
        )
    overlap = [(stem, part) for part in ("val", "test") for stem in given[part] if stem in set(given["train"])]
    overlap += [(stem, "test") for stem in given["test"] if stem in set(given["val"])]
    if overlap:
        problems = [Problem(dataset.root, f"{stem} is in {part} and in another part") for stem, part in overlap]
        raise DatasetError(f"The official split of {dataset.name} overlaps.", problems)
    if given["val"]:
        return Split("official", None, _sorted(given), dataset=dataset.name)
    if len(given["train"]) < 2:
        raise DatasetError(f"{dataset.name}: one training pair cannot be divided into train and val.")
    ranked = ranked_by_hash(given["train"], f"fusion_det/official-val/{seed}/")
    count = max(1, len(ranked) // OFFICIAL_VAL_SHARE)
    given["val"], given["train"] = ranked[:count], ranked[count:]
    note = (
        f"The official split has no validation part: {count} of {len(ranked)} training images "
        f"(1 in {OFFICIAL_VAL_SHARE}, seed {seed}) are used for it."
    )
    return Split("official", seed, _sorted(given), note, dataset.name)


def _sorted(parts: Mapping[str, Sequence[str]]) -> dict[str, tuple[str, ...]]:
    return {part: tuple(sorted(parts[part])) for part in PARTS}
