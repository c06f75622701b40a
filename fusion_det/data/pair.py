"""The few types every reader produces and everything downstream consumes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fusion_det.tasks import IVIF

if TYPE_CHECKING:
    import torch

M3FD_CLASSES = ("People", "Car", "Bus", "Motorcycle", "Lamp", "Truck")
"""Canonical class order of M3FD in this project. Annotations are mapped to it by name, never by number."""


@dataclass(frozen=True, eq=False)
class Boxes:
    """Ground-truth boxes of one image.

    xyxy: (N, 4) float64, pixels, ``x0, y0, x1, y1`` with the origin at the image's top-left corner and
        ``x1``/``y1`` exclusive (so width = x1 - x0); always inside the image.
    labels: (N,) int64, index into the dataset's ``classes``.
    """

    xyxy: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class PairRecord:
    """Where a validated pair lies and what is known of it, without its pixels.

    ``width``/``height`` are those of both images. ``boxes`` is None when the dataset has no boxes at all or
    this image was never annotated (which is not the same as "no objects": that is an empty ``Boxes``).
    ``condition`` is day/night/overcast/challenge or None; ``run`` names the capture run (consecutive frames of
    one camera at one place) or is None when unknown. ``task`` says what the two images are (:mod:`fusion_det.tasks`):
    ``ir`` is the first source of any task, ``vi`` the second.
    """

    stem: str
    ir: Path
    vi: Path
    width: int
    height: int
    boxes: Boxes | None = None
    condition: str | None = None
    run: str | None = None
    content: str = ""
    """Digest of both images' bytes."""
    task: str = IVIF


@dataclass(frozen=True, eq=False)
class Pair:
    """A pair with its pixels. ``ir`` (1,H,W) and ``vi`` (3,H,W, RGB), float32 in [0, 1], same H and W.

    ``ir_rgb`` (3,H,W, RGB) is the first source in colour, where by the task both sources give the colour, and one has some.
    """

    stem: str
    ir: torch.Tensor
    vi: torch.Tensor
    boxes: Boxes | None
    condition: str | None
    ir_rgb: torch.Tensor | None = None

    @property
    def is_grey(self) -> bool:
        """Whether no source has a colour to give to the fused image."""
        red, green, blue = self.vi
        return self.ir_rgb is None and bool((red == green).all() and (green == blue).all())


@dataclass(frozen=True, eq=False)
class PairDataset:
    """A validated dataset: an ordered (by stem) tuple of records.

    name: dataset id ("m3fd", "roadscene", "demo", …). root: its folder.
    classes: class names in canonical order; empty for datasets without boxes.
    official_splits: split name ("train", "val", "test") → stems, where the dataset comes with a split of its own.
    content_digest: sha256 over every image's bytes and every annotation; two datasets with the same digest
        give the same fused images and the same ground truth.
    synthetic: True for the demo; everything made from it is stamped "demo".
    family: id of the dataset the images come from ("m3fd" for "m3fd_partial", "m3fd_sample"), for telling whether a
        network was trained on them; the name itself for anything else.
    limit: set when only the first N pairs are used (``--limit N``); stamped into every result.
    task: what its pairs are.
    """

    name: str
    root: Path
    classes: tuple[str, ...]
    records: tuple[PairRecord, ...]
    content_digest: str
    official_splits: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    synthetic: bool = False
    limit: int | None = None
    family: str = ""
    task: str = IVIF

    def __len__(self) -> int:
        return len(self.records)

    def __iter__(self) -> Iterator[PairRecord]:
        return iter(self.records)

    def by_stem(self) -> dict[str, PairRecord]:
        return {record.stem: record for record in self.records}

    def select(self, stems: Sequence[str]) -> list[PairRecord]:
        """Records of these stems, in this order. KeyError for an unknown one."""
        table = self.by_stem()
        return [table[stem] for stem in stems]

    def labelled(self) -> list[PairRecord]:
        """Records whose boxes are known (an empty image counts, an unannotated one does not)."""
        return [record for record in self.records if record.boxes is not None]

    def class_counts(self, stems: Sequence[str] | None = None) -> dict[str, int]:
        """Boxes per class name, over ``stems`` or everything."""
        records = self.records if stems is None else self.select(stems)
        counts = Counter(int(i) for r in records if r.boxes is not None for i in r.boxes.labels)
        return {name: counts.get(i, 0) for i, name in enumerate(self.classes)}
