"""Splits: partition, proportions, independence of order, and files."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion_det.data import Boxes, PairDataset, PairRecord, Split, leakage, make_split
from fusion_det.data.splits import random_parts
from fusion_det.errors import ConfigError, DatasetError

STEMS = st.lists(st.text("abc0123_-", min_size=1, max_size=6), min_size=3, max_size=60, unique=True)


def dataset_of(stems: list[str], runs: dict[str, str] | None = None, **changes: object) -> PairDataset:
    """A dataset without files: one box of class i % 2 in pair i."""
    records = tuple(
        PairRecord(
            stem,
            Path(f"ir/{stem}.png"),
            Path(f"vi/{stem}.png"),
            40,
            30,
            Boxes(np.array([[1.0, 2, 9, 9]]), np.array([i % 2])),
            condition="day" if i % 3 else "night",
            run=(runs or {}).get(stem),
        )
        for i, stem in enumerate(sorted(stems))
    )
    return replace(PairDataset("toy", Path("toy"), ("a", "b"), records, "0" * 64), **changes)  # type: ignore[arg-type]


@given(STEMS, st.integers(0, 10**6), st.randoms())
def test_random_712_is_a_partition_and_ignores_order(stems: list[str], seed: int, random: object) -> None:
    parts = random_parts(stems, seed)
    assert sorted(stem for part in parts.values() for stem in part) == sorted(stems)
    assert all(parts.values())
    shuffled = list(stems)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert random_parts(shuffled, seed) == parts
    n = len(stems)
    assert abs(len(parts["test"]) - 0.2 * n) <= 1 and abs(len(parts["val"]) - 0.1 * n) <= 1


def test_random_712_on_4200_and_the_documented_algorithm() -> None:
    stems = [f"{i:05d}" for i in range(4200)]
    split = make_split(dataset_of(stems), "random-712", seed=3)
    assert split.counts() == {"train": 2940, "val": 420, "test": 840}
    ranked = sorted(stems, key=lambda s: hashlib.sha256(b"fusion_det/random-712/3/" + s.encode()).hexdigest())
    assert set(split.ids["train"]) == set(ranked[:2940])
    assert set(split.ids["val"]) == set(ranked[2940:3360])
    # For ever: a table made years ago must name the same images.
    assert make_split(dataset_of(stems)).digest.startswith("393f6b0c")


@pytest.mark.parametrize(
    ("n", "counts"),
    [(3, (1, 1, 1)), (4, (2, 1, 1)), (10, (7, 1, 2)), (74, (52, 7, 15)), (60, (42, 6, 12)), (13, (9, 1, 3))],
)
def test_rounding_by_hand(n: int, counts: tuple[int, int, int]) -> None:
    assert tuple(len(part) for part in random_parts([str(i) for i in range(n)], 0).values()) == counts


def test_seeds_differ_and_agree_with_themselves() -> None:
    dataset = dataset_of([f"{i:03d}" for i in range(50)])
    digests = [make_split(dataset, "random-712", seed).digest for seed in (0, 1, 2, 0)]
    assert len(set(digests)) == 3 and digests[0] == digests[3]


def test_a_subset_keeps_most_of_its_sides() -> None:
    """Ranking by hash: taking pairs away moves only those at the borders of the parts."""
    stems = [f"{i:04d}" for i in range(1000)]
    whole, fewer = random_parts(stems, 0), random_parts(stems[:-20], 0)
    assert len(set(fewer["train"]) - set(whole["train"])) <= 20


def test_only_labelled_pairs_are_split() -> None:
    dataset = dataset_of([f"{i}" for i in range(9)])
    records = tuple(replace(r, boxes=None) if i == 4 else r for i, r in enumerate(dataset))
    split = make_split(replace(dataset, records=records))
    assert sum(split.counts().values()) == 8 and all("4" not in ids for ids in split.ids.values())


def test_too_few_pairs_and_unknown_names() -> None:
    with pytest.raises(DatasetError, match="needs three"):
        make_split(dataset_of(["a", "b"]))
    with pytest.raises(ConfigError, match="known: random-712"):
        make_split(dataset_of(["a", "b", "c"]), "random-811")
    with pytest.raises(DatasetError, match="runs of toy are unknown"):
        make_split(dataset_of(["a", "b", "c"]), "scene-712")


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(1, 12), min_size=3, max_size=25), st.integers(0, 5))
def test_scene_712_keeps_runs_together(lengths: list[int], seed: int) -> None:
    stems = [f"{i:04d}" for i in range(sum(lengths))]
    runs = {stem: f"r{k}" for stem, k in zip(stems, np.repeat(range(len(lengths)), lengths).tolist(), strict=True)}
    dataset = dataset_of(stems, runs)
    split = make_split(dataset, "scene-712", seed)
    assert sorted(s for ids in split.ids.values() for s in ids) == stems
    assert all(split.ids.values())
    sides = [{runs[stem] for stem in ids} for ids in split.ids.values()]
    assert sum(map(len, sides)) == len(lengths)
    assert leakage(dataset, split)["run"] == 0
    backwards = replace(dataset, records=tuple(reversed(dataset.records)))
    assert make_split(backwards, "scene-712", seed).digest == split.digest


def test_scene_712_comes_near_the_proportions() -> None:
    stems = [f"{i:04d}" for i in range(400)]
    split = make_split(dataset_of(stems, {s: f"r{int(s) // 10}" for s in stems}), "scene-712")
    assert split.counts() == {"train": 280, "val": 40, "test": 80}


def test_scene_712_keeps_neighbours_of_unknown_run_together() -> None:
    stems = [f"{i:04d}" for i in range(60)]
    runs = {s: f"r{int(s) // 5}" for s in stems if not 20 <= int(s) < 30}
    split = make_split(dataset_of(stems, runs), "scene-712")
    unknown = set(stems[20:30])
    assert sum(bool(unknown & set(ids)) for ids in split.ids.values()) == 1


def test_leakage_by_hand() -> None:
    runs = {"f1": "A", "f2": "A", "f4": "B", "f5": "C", "f9": "C"}
    dataset = dataset_of(["f1", "f2", "f4", "f5", "f9", "g3"], runs)
    split = Split("x", None, {"train": ("f1", "f5"), "val": ("g3",), "test": ("f2", "f4", "f9")})
    # f2 is next to f1, f4 next to f5, f9 next to none; runs of f2 and f9 are in train. g3 is another series.
    assert leakage(dataset, split) == {"neighbour": pytest.approx(2 / 3), "run": pytest.approx(2 / 3)}
    # An unknown run in train does not make every unknown run in test leaked.
    half_known = dataset_of(["f1", "f5", "f9"], {"f9": "A"})
    known = Split("x", None, {"train": ("f1",), "val": (), "test": ("f5", "f9")})
    assert leakage(half_known, known)["run"] == 0
    unnumbered = dataset_of(["a", "b", "c"])
    assert leakage(unnumbered, Split("x", None, {"train": ("a",), "val": ("b",), "test": ("c",)})) == {}


def test_official_split_with_and_without_val() -> None:
    stems = [f"{i:02d}" for i in range(30)]
    full = {"train": tuple(stems[:20]), "val": tuple(stems[20:25]), "test": tuple(stems[25:])}
    split = make_split(dataset_of(stems, official_splits=full), "official")
    assert split.ids == full and split.note == "" and split.seed is None
    without = {"train": full["train"], "test": full["test"]}
    first, other = (make_split(dataset_of(stems, official_splits=without), "official", seed) for seed in (0, 1))
    assert first.counts() == {"train": 18, "val": 2, "test": 5}
    assert "no validation part: 2 of 20 training images" in first.note
    assert set(first.ids["val"]) <= set(full["train"]) and first.digest != other.digest
    with pytest.raises(ConfigError, match="no official split"):
        make_split(dataset_of(stems), "official")
    overlapping = {"train": ("00", "01", "02"), "test": ("02",)}
    with pytest.raises(DatasetError, match="02 is in test and in another part"):
        make_split(dataset_of(stems, official_splits=overlapping), "official")


IDS = {"train": ["00215", "00007"], "val": ["00001"], "test": ["00002", "x.1"]}


def test_save_and_load(tmp_path: Path) -> None:
    split = make_split(dataset_of([f"{i:02d}" for i in range(20)]), "random-712", 5)
    split.save(tmp_path / "s.json")
    loaded = Split.load(tmp_path / "s.json")
    assert loaded == split and loaded.digest == split.digest


def test_digest_is_of_the_ids_whatever_the_format(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(IDS))
    (tmp_path / "b.yaml").write_text("train: [00215, 00007]\nval: [00001]\ntest:\n - 00002\n - x.1\n")
    (tmp_path / "c.yml").write_text(yaml.safe_dump({"ids": IDS, "name": "mine"}))
    (tmp_path / "d").mkdir()
    for part, ids in {"train": IDS["train"], "valid": IDS["val"], "test": IDS["test"]}.items():
        (tmp_path / "d" / f"{part}.txt").write_text("# a comment\n" + "\n".join(f"Ir/{i}.png" for i in ids) + "\n\n")
    splits = [Split.load(tmp_path / name) for name in ("a.json", "b.yaml", "c.yml", "d")]
    assert {split.digest for split in splits} == {splits[0].digest}
    assert splits[0].ids["train"] == ("00007", "00215") and splits[2].name == "mine"
    reordered = {part: ids[::-1] for part, ids in IDS.items()}
    (tmp_path / "e.json").write_text(json.dumps(reordered))
    assert Split.load(tmp_path / "e.json").digest == splits[0].digest


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({**IDS, "val": []}, "has no ids for val"),
        ({"train": ["a"], "test": ["b"]}, "has no ids for val"),
        ({**IDS, "val": ["00002"]}, "in more than one part: 00002"),
        ({**IDS, "train": ["a", "a"]}, "there twice: a"),
        ({**IDS, "train": [215]}, "must be text"),
        ({**IDS, "train": "a b"}, "has no ids for train"),
        ([1, 2], "is not a mapping"),
        ({"ids": IDS, "digest": "f" * 64}, "says digest ffff"),
    ],
)
def test_bad_split_files(tmp_path: Path, content: object, message: str) -> None:
    (tmp_path / "s.json").write_text(json.dumps(content))
    with pytest.raises(DatasetError, match=r"s\.json.*" + message):
        Split.load(tmp_path / "s.json")


@pytest.mark.parametrize(("name", "text"), [("s.json", "{"), ("s.yaml", "a: [b"), ("s.json", "\x00\xff")])
def test_unreadable_split_files(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_bytes(text.encode("latin-1"))
    with pytest.raises(DatasetError, match=r"cannot be read(.|\n)*s\."):
        Split.load(tmp_path / name)
    with pytest.raises(DatasetError, match="none"):
        Split.load(tmp_path / "none.json")


def test_a_split_must_fit_its_dataset(tmp_path: Path) -> None:
    (tmp_path / "s.json").write_text(json.dumps({"train": ["a", "z"], "val": ["b"], "test": ["c"]}))
    with pytest.raises(DatasetError, match=r"s\.json: train: not in toy: z"):
        Split.load(tmp_path / "s.json", dataset_of(["a", "b", "c"]))
    dataset = dataset_of(["a", "b", "c", "z"])
    unlabelled = replace(dataset, records=tuple(replace(r, boxes=None) if r.stem == "z" else r for r in dataset))
    with pytest.raises(DatasetError, match="without boxes in toy: z"):
        Split.load(tmp_path / "s.json", unlabelled)
    assert Split.load(tmp_path / "s.json", dataset).counts()["train"] == 2
