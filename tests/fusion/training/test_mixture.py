"""Which pairs are used: shares, seeds, and nothing that a detector is tested on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusion_det.data.pair import PairDataset, PairRecord
from fusion_det.data.splits import Split
from fusion_det.errors import ConfigError
from fusion_det.fusion.training.mixture import Mixture, Source, mix, parse_source


def dataset(name: str, count: int, content: str | None = None) -> PairDataset:
    """``count`` pairs named 00000, …; datasets of equal ``content`` hold equal images."""
    records = tuple(
        PairRecord(f"{i:05d}", Path(name, "ir"), Path(name, "vi"), 10, 10, content=f"{content or name}{i}")
        for i in range(count)
    )
    return PairDataset(name, Path(name), (), records, content_digest=name, family=name)


def split(name: str, val: list[str], test: list[str]) -> Split:
    return Split("s", 0, {"train": ("99999",), "val": tuple(val), "test": tuple(test)}, dataset=name)


def ids(mixture: Mixture) -> set[str]:
    return {member.id for member in (*mixture.train, *mixture.validation)}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("m3fd", ("m3fd", 1.0, "ivif")),
        ("m3fd=0.7", ("m3fd", 0.7, "ivif")),
        ("/data/a=b/pairs", ("/data/a=b/pairs", 1.0, "ivif")),
        ("/data/a=b=.5", ("/data/a=b", 0.5, "ivif")),
        ("medical:mri_pet=0.5", ("mri_pet", 0.5, "medical")),
        ("C:/pairs", ("C:/pairs", 1.0, "ivif")),
    ],
)
def test_parse_source(text: str, expected: tuple[str, float, str]) -> None:
    assert parse_source(text) == expected


def test_task_of_a_source_that_names_none() -> None:
    assert parse_source("lytro", "multi-focus").task == "multi-focus"
    assert parse_source("ivif:roadscene", "multi-focus").task == "ivif"
    with pytest.raises(ConfigError, match="did you mean medical"):
        parse_source("medcal:mri_pet")


@given(st.integers(2, 40), st.floats(0.1, 1), st.integers(0, 3), st.data())
def test_parts_are_disjoint_and_of_the_asked_size(count: int, share: float, seed: int, data: st.DataObject) -> None:
    used = round(share * count)
    if used < 1:
        return
    held_out = data.draw(st.integers(0, used - 1))
    mixture = mix([Source(dataset("a", count), share)], validation=held_out, seed=seed)
    assert (len(mixture.train), len(mixture.validation)) == (used - held_out, held_out)
    assert len(ids(mixture)) == used
    (origin,) = mixture.origins
    assert {f"a/{stem}" for stem in origin["train"]} == {member.id for member in mixture.train}
    assert {f"a/{stem}" for stem in origin["validation"]} == {member.id for member in mixture.validation}


def test_seeds_choose_differently_and_one_seed_alike() -> None:
    source = Source(dataset("a", 50), 0.5)
    first, again, other = (mix([source], validation=5, seed=seed) for seed in (0, 0, 1))
    assert first.digest == again.digest != other.digest
    assert ids(first) == ids(again) != ids(other)


def test_another_dataset_changes_nothing_in_what_is_used_of_the_first() -> None:
    a, b = Source(dataset("a", 50), 0.5), Source(dataset("b", 20))
    alone, mixed = mix([a], validation=0), mix([b, a], validation=0)
    assert ids(alone) == {identity for identity in ids(mixed) if identity.startswith("a/")}
    assert mixed.families == ("a", "b")


def test_excluded_ids_are_in_neither_part() -> None:
    barred = [f"{i:05d}" for i in range(20)]
    mixture = mix([Source(dataset("a", 50))], validation=10, exclude=split("a", barred[:5], barred[5:]))
    assert len(ids(mixture)) == 30
    assert not ids(mixture) & {f"a/{stem}" for stem in barred}
    assert mixture.origins[0]["excluded"] == 20


def test_copies_of_excluded_pairs_are_excluded_under_any_name() -> None:
    original, copy = dataset("m3fd", 30, "x"), dataset("roadscene", 30, "x")
    mixture = mix([Source(original), Source(copy)], validation=0, exclude=split("m3fd", ["00001"], ["00002"]))
    assert not ids(mixture) & {f"{name}/{stem}" for name in ("m3fd", "roadscene") for stem in ("00001", "00002")}


def test_the_same_images_are_used_once() -> None:
    mixture = mix([Source(dataset("a", 10, "x")), Source(dataset("b", 12, "x"))], validation=3)
    assert len(ids(mixture)) == 12
    assert mixture.origins[1]["repeated"] == 10


def test_a_split_of_another_known_dataset_bars_nothing_there() -> None:
    """M3FD's fusion set numbers other images like M3FD."""
    m3fd, fusion = dataset("m3fd", 20), dataset("m3fd_fusion", 20)
    mixture = mix([Source(m3fd), Source(fusion)], validation=0, exclude=split("m3fd", ["00000"], ["00001"]))
    assert "m3fd_fusion/00000" in ids(mixture)
    assert "m3fd/00000" not in ids(mixture)


def test_a_split_without_a_dataset_bars_its_ids_everywhere() -> None:
    mixture = mix(
        [Source(dataset("m3fd", 20)), Source(dataset("own", 20))], validation=0, exclude=split("", ["00000"], ["00001"])
    )
    assert not ids(mixture) & {"m3fd/00000", "own/00000"}


def test_a_split_that_has_nothing_to_do_with_the_pairs() -> None:
    with pytest.raises(ConfigError, match="none of its 2 validation and test ids of roadscene"):
        mix([Source(dataset("m3fd", 20))], validation=0, exclude=split("roadscene", ["00000"], ["00001"]))


@pytest.mark.parametrize("held_out", [-1, 10, 11])
def test_nothing_left_to_train_on(held_out: int) -> None:
    with pytest.raises(ConfigError, match="--validation"):
        mix([Source(dataset("a", 10))], validation=held_out)


def test_wrong_shares_and_repetition() -> None:
    with pytest.raises(ConfigError, match="share"):
        Source(dataset("a", 10), 1.5)
    with pytest.raises(ConfigError, match="named twice"):
        mix([Source(dataset("a", 10)), Source(dataset("a", 10))], validation=0)


def test_a_task_does_not_vanish_silently() -> None:
    few = replace(dataset("b", 2), task="medical")
    few = replace(few, records=tuple(replace(record, task="medical") for record in few.records))
    with pytest.raises(ConfigError, match=r"--data b=0\.2 \(2 medical pairs\): no pair may be used"):
        mix([Source(dataset("a", 10)), Source(few, 0.2)], validation=0)
    assert mix([Source(dataset("a", 10)), Source(few, 0.5)], validation=0).tasks == ("ivif", "medical")


def test_pairs_that_are_at_hand_are_barred_by_their_images() -> None:
    """An experiment on M3FD that trains on another copy of it, or on something else altogether."""
    tested = dataset("m3fd", 4)
    copy, other = dataset("copy", 6, content="m3fd"), dataset("msrs", 3)
    mixture = mix(
        [Source(copy), Source(other)], validation=0, exclude=split("m3fd", [], ["99"]), tested=tested.records[1:3]
    )
    assert ids(mixture) == {f"copy/0000{i}" for i in (0, 3, 4, 5)} | {f"msrs/0000{i}" for i in range(3)}
    assert mixture.origins[0]["excluded"] == 2
