"""Batches of random crops of pairs, each a function of (seed, epoch, pair) and of nothing else.

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


class Batch(NamedTuple):
    """Crops: ``ir`` (B,1,S,S) and ``vi`` (B,3,S,S) RGB, float32 in [0,1]; ``ids``: of their pairs. A single crop has no B."""

    ids: Sequence[str]
    ir: torch.Tensor
    vi: torch.Tensor


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

    def __getitem__(self, key: tuple[int, int]) -> Batch:
        """The crop of pair ``index`` in ``epoch``; key = (epoch, index)."""
        epoch, index = key
        member = self.members[index]
        pair = load_pair(member.record)
        both = torch.cat((pair.ir, pair.vi))  # (4,H,W)
        height, width = both.shape[-2:]
        missing = max(0, self.size - width), max(0, self.size - height)
        both = extend(both, (0, missing[0], 0, missing[1]), "reflect")
        crop = _middle(both, self.size) if self.seed is None else self._random(both, epoch, index, self.seed)
        return Batch(member.id, crop[:1].contiguous(), crop[1:].contiguous())

    def _random(self, both: torch.Tensor, epoch: int, index: int, seed: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(derive_seed("crop", seed, epoch, index))
        top, left = (int(torch.randint(extent - self.size + 1, (), generator=generator)) for extent in both.shape[-2:])
        crop = both[:, top : top + self.size, left : left + self.size]
        flips = torch.rand(2, generator=generator) < 0.5
        return crop.flip([dim for dim, flip in zip((-2, -1), flips.tolist(), strict=True) if flip])


def _middle(both: torch.Tensor, size: int) -> torch.Tensor:
    top, left = ((extent - size) // 2 for extent in both.shape[-2:])
    return both[:, top : top + size, left : left + size]


class EpochOrder(Sampler[tuple[int, int]]):
    """(epoch, index) of every pair once, in an order drawn from (seed, epoch); in their own order without a seed."""

    def __init__(self, length: int, seed: int | None) -> None:
        self._length, self._seed, self._epoch, self._first = length, seed, 0, 0

    def set_epoch(self, epoch: int, first: int = 0) -> None:
        """What the next pass is: an epoch, from its pair number ``first`` on."""
        self._epoch, self._first = epoch, first

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[tuple[int, int]]:
        order = list(range(self._length))
        if self._seed is not None:
            generator = torch.Generator().manual_seed(derive_seed("fusion order", self._seed, self._epoch))
            order = torch.randperm(self._length, generator=generator).tolist()
        for index in order[self._first :]:
            yield self._epoch, index


def crop_loader(
    members: Sequence[Member], *, size: int, batch: int, seed: int | None, workers: int = 0, pin_memory: bool = False
) -> DataLoader[Batch]:
    """Batches of crops.

    With a seed (training): random ones, always ``batch`` pairs (or all pairs, where there are fewer); what is left at the end
    of an epoch is dropped, and another order begins. Without (validation): middles, all of them.
    """
    crops = PairCrops(members, size, seed)
    return DataLoader(
        crops,
        batch_size=min(batch, len(crops)),
        sampler=EpochOrder(len(crops), seed),
        drop_last=seed is not None,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=pin_memory,
    )


def batches_from(loader: DataLoader[Batch], start: int) -> Iterator[Batch]:
    """Batch number ``start`` of a training loader, counted over all epochs, and those after it, without end."""
    order, size = loader.sampler, loader.batch_size
    if not isinstance(order, EpochOrder) or size is None:
        raise TypeError("batches are counted for loaders that crop_loader made")
    epoch, position = divmod(start, len(loader))
    while True:
        order.set_epoch(epoch, first=position * size)
        yield from loader
        epoch, position = epoch + 1, 0
