"""Training samples that depend on (seed, epoch, image) and on nothing else.

ultralytics draws augmentations from process-wide generators whose state depends on everything that ran before: on how many
workers load images, and on whether a run was interrupted. Here every sample seeds them from (seed, epoch, index), and the order
of an epoch from (seed, epoch). So two seeds give two orders, one seed gives one, for any number of workers, and a training
that was killed and resumed is the training that was not.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler

from fusion_det.seeds import derive_seed


class EpochSampler(Sampler[tuple[int, int]]):
    """Yields (epoch, index): each pass over it is the next epoch, shuffled by (seed, epoch)."""

    def __init__(self, length: int, seed: int, first_epoch: int = 0) -> None:
        self._length, self._seed, self.next_epoch = length, seed, first_epoch

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[tuple[int, int]]:
        epoch, self.next_epoch = self.next_epoch, self.next_epoch + 1
        generator = torch.Generator().manual_seed(derive_seed("order", self._seed, epoch))
        for index in torch.randperm(self._length, generator=generator).tolist():
            yield epoch, index


class SeededSamples(Dataset[Any]):
    """An ultralytics dataset whose augmentation of image ``index`` in ``epoch`` is drawn from (seed, epoch, index)."""

    def __init__(self, dataset: Any, seed: int) -> None:
        self._dataset, self._seed = dataset, seed
        self.collate_fn = dataset.collate_fn
        self.free_mosaic()

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, key: tuple[int, int]) -> Any:
        epoch, index = key
        seed = derive_seed("sample", self._seed, epoch, index)
        random.seed(seed)
        np.random.seed(seed % 2**32)
        torch.manual_seed(seed)
        return self._dataset[index]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._dataset, name)

    def close_mosaic(self, hyp: Any) -> None:
        """No mosaic from now on (ultralytics does so for the last epochs)."""
        self._dataset.close_mosaic(hyp)

    def free_mosaic(self) -> None:
        """Let mosaics draw their partners from the whole set, not from the images that happened to be loaded last."""
        pending = list(self._dataset.transforms.transforms)
        while pending:
            transform = pending.pop()
            pending += getattr(transform, "transforms", None) or []
            if hasattr(transform, "buffer_enabled"):
                transform.buffer_enabled = False
