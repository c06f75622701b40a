"""Batches of random crops of pairs, each a function of (seed, pass over the pairs, pair) and of nothing else.

So one seed gives one sequence of batches for any number of workers, two seeds give two, and a training that was killed goes
on with the batches it would have had. The transforms (Sec. IV-A of S4Fusion: a random square, flipped each way with
probability one half, the same for both images) are a few lines; a library of augmentations would draw from generators whose
state depends on what a worker did before.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from fusion_det.data.images import load_pair
from fusion_det.fusion.filters import extend
from fusion_det.fusion.training.mixture import Member
from fusion_det.seeds import derive_seed

Key = tuple[int, int]
"""Which crop: (pass, index of the pair)."""


class Batch(NamedTuple):
    """Crops: ``ir`` (B,1,S,S) and ``vi`` (B,3,S,S) RGB, float32 in [0,1]; ``ids`` and ``tasks``: of their pairs.

    A single crop has no B. All pairs of a batch are of one task.
    """

    ids: Sequence[str]
    ir: torch.Tensor
    vi: torch.Tensor
    tasks: Sequence[str]


class PairCrops(Dataset[Batch]):
    """Crops of size × size pixels.

    A pair that is smaller than the crop, one way or both, is first mirrored at its right and lower edges until it is large
    enough. (The authors' loader takes another pair in its place, so that small ones are never learnt from.)

    Args:
        seed: of the training: which square of a pair, and how it is flipped. None for the square in the middle, as it is.
    """

    def __init__(self, members: Sequence[Member], size: int, seed: int | None) -> None:
        self.members, self.size, self.seed = tuple(members), size, seed

    def __len__(self) -> int:
        return len(self.members)

    def __getitem__(self, key: Key) -> Batch:
        """The crop of a pair in a pass over the pairs."""
        epoch, index = key
        member = self.members[index]
        pair = load_pair(member.record)
        both = torch.cat((pair.ir, pair.vi))  # (4,H,W)
        height, width = both.shape[-2:]
        missing = max(0, self.size - width), max(0, self.size - height)
        both = extend(both, (0, missing[0], 0, missing[1]), "reflect")
        crop = _middle(both, self.size) if self.seed is None else self._random(both, epoch, index, self.seed)
        return Batch(member.id, crop[:1].contiguous(), crop[1:].contiguous(), member.record.task)

    def _random(self, both: torch.Tensor, epoch: int, index: int, seed: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(derive_seed("crop", seed, epoch, index))
        top, left = (int(torch.randint(extent - self.size + 1, (), generator=generator)) for extent in both.shape[-2:])
        crop = both[:, top : top + self.size, left : left + self.size]
        flips = torch.rand(2, generator=generator) < 0.5
        return crop.flip([dim for dim, flip in zip((-2, -1), flips.tolist(), strict=True) if flip])


def _middle(both: torch.Tensor, size: int) -> torch.Tensor:
    top, left = ((extent - size) // 2 for extent in both.shape[-2:])
    return both[:, top : top + size, left : left + size]


class BatchOrder(Sampler[list[Key]]):
    """The batches of an epoch, as :func:`epoch_batches` lists them."""

    def __init__(self, tasks: Sequence[str], batch: int, seed: int | None) -> None:
        self._tasks, self._batch, self._seed = tuple(tasks), batch, seed
        self._epoch, self._first = 0, 0
        self._length = len(epoch_batches(tasks, batch, seed, 0))

    def set_epoch(self, epoch: int, first: int = 0) -> None:
        """What the next pass is: an epoch, from its batch number ``first`` on."""
        self._epoch, self._first = epoch, first

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[list[Key]]:
        yield from epoch_batches(self._tasks, self._batch, self._seed, self._epoch)[self._first :]


def epoch_batches(tasks: Sequence[str], batch: int, seed: int | None, epoch: int) -> list[list[Key]]:
    """Batches of (pass, index), the pairs of each of one task. tasks: of the pairs.

    Without a seed (validation): every pair once, in the order of the pairs; a task's last batch may be smaller.

    With a seed (training), one task: every pair once, in an order drawn from (seed, epoch), always ``batch`` pairs at once (or
    all, where there are fewer); what is left at the end is dropped. The pass is the epoch.

    With a seed, several tasks: rounds with one batch of each task, in an order drawn from (seed, round), as many as it takes to
    go through the largest task once. The pairs of every task come in passes without end, each in an order drawn from (seed,
    task, pass), which go on where the epoch before stopped. So tasks have equal shares whatever the numbers of their pairs,
    pairs of a task have too, and a pair that comes several times in an epoch is cropped differently each time.
    """
    groups = {task: [i for i, other in enumerate(tasks) if other == task] for task in dict.fromkeys(tasks)}
    if seed is None:
        return [
            [(epoch, i) for i in group[start : start + batch]]
            for group in groups.values()
            for start in range(0, len(group), batch)
        ]
    if len(groups) == 1:
        order = _shuffled(len(tasks), "fusion order", seed, epoch)
        size = min(batch, len(tasks))
        return [[(epoch, i) for i in order[k : k + size]] for k in range(0, len(order) - size + 1, size)]
    rounds = -(-max(map(len, groups.values())) // batch)
    names = list(groups)
    return [
        _stretch(groups[names[t]], names[t], seed, k * batch, batch)
        for k in range(epoch * rounds, (epoch + 1) * rounds)
        for t in _shuffled(len(names), "task order", seed, k)
    ]


def _stretch(group: Sequence[int], task: str, seed: int, start: int, count: int) -> list[Key]:
    """Numbers ``start`` to ``start + count - 1`` of a task's endless row of passes."""
    keys: list[Key] = []
    while len(keys) < count:
        number, position = divmod(start + len(keys), len(group))
        order = _shuffled(len(group), "fusion order", seed, task, number)
        keys += [(number, group[i]) for i in order[position : position + count - len(keys)]]
    return keys


def _shuffled(length: int, *drawn_from: str | int) -> list[int]:
    generator = torch.Generator().manual_seed(derive_seed(*drawn_from))
    return torch.randperm(length, generator=generator).tolist()


def crop_loader(
    members: Sequence[Member], *, size: int, batch: int, seed: int | None, workers: int = 0, pin_memory: bool = False
) -> DataLoader[Batch]:
    """Batches of crops, each of one task: random ones with a seed (training), without (validation) the middles of all pairs."""
    return DataLoader(
        PairCrops(members, size, seed),
        batch_sampler=BatchOrder([member.record.task for member in members], batch, seed),
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=pin_memory,
    )


def batches_from(loader: DataLoader[Batch], start: int) -> Iterator[Batch]:
    """Batch number ``start`` of a training loader, counted over all epochs, and those after it, without end."""
    order = loader.batch_sampler
    if not isinstance(order, BatchOrder):
        raise TypeError("batches are counted for loaders that crop_loader made")
    epoch, first = divmod(start, len(loader))
    while True:
        order.set_epoch(epoch, first)
        yield from loader
        epoch, first = epoch + 1, 0
