"""Bootstrap draws of test images: which images are drawn together, and how often each counts in each replicate.

The draws depend on nothing but the groups' names and the seed, so figures of different kinds (mAP of every method, quality
of every method) taken on the same images with the same seed are paired replicate by replicate.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np


def bootstrap_groups(images: Sequence[Mapping[str, Any]]) -> tuple[list[str], str]:
    """What is drawn together: a capture run, or an image whose run is unknown; and what to call that unit.

    Args:
        images: COCO images with ``id`` and perhaps ``run``.

    Returns:
        (I,) group name of each image; "image", "run", or "run or image".
    """
    runs = [image.get("run") for image in images]
    groups = [f"image {i['id']}" if r is None else f"run {r}" for i, r in zip(images, runs, strict=True)]
    known = len({r for r in runs if r is not None})
    if known < 2:  # one run for everything known says nothing about other runs
        return [f"image {i['id']}" for i in images], "image"
    return groups, "run or image" if None in runs else "run"


def bootstrap_weights(groups: Sequence[str], replicates: int, seed: int = 0) -> Iterator[np.ndarray]:
    """How often each image counts, (I,) float64, for each of ``replicates`` drawings of whole groups with replacement."""
    names = sorted(set(groups))
    index = {name: i for i, name in enumerate(names)}
    member = np.array([index[g] for g in groups], np.int64)
    # Not numpy's own sampling methods: their streams may change between versions, PCG64's raw output does not.
    bits = np.random.PCG64(seed)
    for _ in range(replicates):
        drawn = (bits.random_raw(len(names)) % np.uint64(len(names))).astype(np.int64)
        yield np.bincount(drawn, minlength=len(names)).astype(np.float64)[member]
