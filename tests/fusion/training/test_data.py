"""Crops: the same of both images, by seed alone, for any number of workers."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain, islice
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fusion_det.data.images import load_pair
from fusion_det.data.pair import PairRecord
from fusion_det.fusion.training.data import Batch, BatchOrder, PairCrops, batches_from, crop_loader, epoch_batches
from fusion_det.fusion.training.mixture import Member
from fusion_det.seeds import derive_seed

SIZE = 24


@pytest.fixture
def members(tmp_path: Path) -> list[Member]:
    """Pairs whose infrared image is the visible image's green channel; the last two are smaller than the crop."""
    rng = np.random.default_rng(0)
    made = []
    for i, (width, height) in enumerate([(40, 30), (25, 60), (24, 24), (50, 50), (60, 11), (7, 5)]):
        vi = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        files = tmp_path / "ir" / f"{i}.png", tmp_path / "vi" / f"{i}.png"
        for file, pixels in zip(files, (vi[..., 1], vi), strict=True):
            file.parent.mkdir(exist_ok=True)
            Image.fromarray(pixels).save(file)
        made.append(Member("demo", PairRecord(str(i), *files, width, height)))
    return made


def batches(members: list[Member], seed: int | None, epoch: int = 0, workers: int = 0) -> list[Batch]:
    loader = crop_loader(members, size=SIZE, batch=2, seed=seed, workers=workers)
    loader.batch_sampler.set_epoch(epoch)
    return list(loader)


def same(a: list[Batch], b: list[Batch]) -> bool:
    return len(a) == len(b) and all(
        list(x.ids) == list(y.ids) and torch.equal(x.ir, y.ir) and torch.equal(x.vi, y.vi)
        for x, y in zip(a, b, strict=True)
    )


def test_both_images_are_cropped_and_flipped_alike(members: list[Member]) -> None:
    for epoch in range(8):
        for batch in batches(members, seed=3, epoch=epoch):
            assert batch.ir.shape == (2, 1, SIZE, SIZE)
            assert batch.vi.shape == (2, 3, SIZE, SIZE)
            assert torch.equal(batch.ir[:, 0], batch.vi[:, 1])


def test_all_flips_and_many_places_occur(members: list[Member]) -> None:
    crops = PairCrops(members, SIZE, seed=0)
    whole = crops[0, 2]  # exactly of the crop's size: only flips differ
    pair = load_pair(members[2].record).vi
    kinds = {tuple(dims): 0 for dims in ((), (-2,), (-1,), (-2, -1))}
    for epoch in range(64):
        found = crops[epoch, 2].vi
        for dims in kinds:
            kinds[dims] += torch.equal(found, pair.flip(dims))
    assert sum(kinds.values()) == 64
    assert min(kinds.values()) >= 5
    assert whole.ids == "demo/2"
    assert len({float(crops[epoch, 3].ir.sum()) for epoch in range(32)}) > 25


def test_a_seed_repeats_and_two_seeds_differ(members: list[Member]) -> None:
    assert same(batches(members, seed=1), batches(members, seed=1))
    assert not same(batches(members, seed=1), batches(members, seed=2))
    assert not same(batches(members, seed=1), batches(members, seed=1, epoch=1))


@pytest.mark.parametrize("workers", [1, 2])
def test_batches_do_not_depend_on_the_number_of_workers(members: list[Member], workers: int) -> None:
    assert same(batches(members, seed=1, epoch=5), batches(members, seed=1, epoch=5, workers=workers))


def test_an_epoch_has_every_pair_once_and_an_order_of_its_own() -> None:
    order = BatchOrder(["ivif"] * 20, batch=4, seed=0)
    first = list(chain(*order))
    order.set_epoch(1)
    second = list(chain(*order))
    assert {epoch for epoch, _ in second} == {1}
    assert sorted(i for _, i in first) == sorted(i for _, i in second) == list(range(20))
    assert [i for _, i in first] != [i for _, i in second]


def test_small_pairs_are_mirrored_up_to_the_crop(members: list[Member]) -> None:
    middle = PairCrops(members, SIZE, seed=None)[0, 5].vi
    pair = load_pair(members[5].record).vi
    expected = np.pad(pair.numpy(), ((0, 0), (0, SIZE - 5), (0, SIZE - 7)), mode="reflect")
    np.testing.assert_array_equal(middle.numpy(), expected)


def test_validation_takes_the_middle_of_all_in_order(members: list[Member]) -> None:
    found = batches(members[:5], seed=None)
    assert [identity for batch in found for identity in batch.ids] == [f"demo/{i}" for i in range(5)]
    assert torch.equal(found[0].vi[0], load_pair(members[0].record).vi[:, 3:27, 8:32])
    assert same(found, batches(members[:5], seed=None, epoch=3))


def test_fewer_pairs_than_a_batch(members: list[Member]) -> None:
    loader = crop_loader(members[:3], size=SIZE, batch=20, seed=0)
    assert [len(batch.ids) for batch in loader] == [3]
    assert len(crop_loader(members[:3], size=SIZE, batch=2, seed=0)) == 1


@pytest.mark.parametrize("start", [0, 2, 3, 4, 7])
@pytest.mark.parametrize("workers", [0, 1])
def test_batches_go_on_wherever_they_are_begun(members: list[Member], start: int, workers: int) -> None:
    whole = list(islice(batches_from(crop_loader(members, size=SIZE, batch=2, seed=0), 0), 10))
    loader = crop_loader(members, size=SIZE, batch=2, seed=0, workers=workers)
    assert same(list(islice(batches_from(loader, start), 10 - start)), whole[start:])


TASKS = ["ivif"] * 11 + ["medical"] * 5 + ["multi-focus"] * 2


@pytest.mark.parametrize("batch", [1, 2, 4])
def test_tasks_take_turns_whatever_the_numbers_of_their_pairs(batch: int) -> None:
    for epoch in range(3):
        batches = epoch_batches(TASKS, batch, seed=0, epoch=epoch)
        assert len(batches) == 3 * -(-11 // batch)
        found = [{TASKS[i] for _, i in keys} for keys in batches]
        assert all(len(tasks) == 1 for tasks in found)
        assert all(len(keys) == batch for keys in batches)
        for start in range(0, len(found), 3):
            assert set().union(*found[start : start + 3]) == {"ivif", "medical", "multi-focus"}
        seen = {i for keys in batches for _, i in keys if TASKS[i] == "ivif"}
        assert epoch or seen == set(range(11)), "the largest task is gone through once"


def test_passes_over_a_task_go_on_from_epoch_to_epoch_and_show_every_pair_alike() -> None:
    keys = [key for epoch in range(6) for keys in epoch_batches(TASKS, 4, seed=3, epoch=epoch) for key in keys]
    assert len(set(keys)) == len(keys), "a crop of the same pair in the same pass would be the same crop"
    for task in dict.fromkeys(TASKS):
        group = [i for i, other in enumerate(TASKS) if other == task]
        own = [key for key in keys if key[1] in group]
        whole = len(own) // len(group)
        assert own == sorted(own, key=lambda key: key[0]), "no pass begins before the one before has ended"
        for number in range(whole):
            assert sorted(i for n, i in own if n == number) == group


def test_the_order_of_tasks_is_drawn_anew_for_every_round_and_seed() -> None:
    def order(seed: int) -> list[int]:
        return [keys[0][1] for keys in epoch_batches(["a", "b", "c"], 1, seed=seed, epoch=0)]

    rounds = {tuple(epoch_batches(["a", "b", "c"], 1, 0, epoch)[0][0][1:]) for epoch in range(20)}
    assert len(rounds) == 3
    assert len({tuple(order(seed)) for seed in range(30)}) == 6


def test_one_task_has_the_batches_it_always_had() -> None:
    """So that a training begun before there were tasks can go on."""
    expected = torch.randperm(5, generator=torch.Generator().manual_seed(derive_seed("fusion order", 7, 2))).tolist()
    assert epoch_batches(["medical"] * 5, 2, seed=7, epoch=2) == [[(2, i) for i in expected[k : k + 2]] for k in (0, 2)]


def test_validation_batches_are_of_one_task_and_hold_every_pair_once() -> None:
    mixed = ["medical", "ivif", "medical", "ivif", "ivif"]
    assert epoch_batches(mixed, 2, seed=None, epoch=0) == [[(0, 0), (0, 2)], [(0, 1), (0, 3)], [(0, 4)]]


@pytest.mark.parametrize("start", [0, 3, 5, 11])
def test_batches_of_several_tasks_go_on_wherever_they_are_begun(members: list[Member], start: int) -> None:
    tasks = ("ivif", "ivif", "medical", "ivif", "multi-focus", "ivif")
    mixed = [Member("x", replace(m.record, task=task)) for m, task in zip(members, tasks, strict=True)]
    whole = list(islice(batches_from(crop_loader(mixed, size=SIZE, batch=2, seed=0), 0), 14))
    assert [set(batch.tasks) for batch in whole[:3]] == [{batch.tasks[0]} for batch in whole[:3]]
    loader = crop_loader(mixed, size=SIZE, batch=2, seed=0)
    assert same(list(islice(batches_from(loader, start), 14 - start)), whole[start:])
