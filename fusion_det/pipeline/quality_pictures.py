"""Pairs as every method fuses them, for the report of ``fusion-det quality``.

Methods are measured on grey images, since metrics look at nothing else; what a person looks at has the colour that
``fusion-det fuse`` would have given it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fusion_det.data.images import load_pair, read_samples
from fusion_det.data.layout import list_images
from fusion_det.data.pair import PairRecord

if TYPE_CHECKING:
    import numpy as np


def spread(records: Sequence[PairRecord], count: int) -> list[PairRecord]:
    """``count`` of the records (all, where there are fewer), evenly spaced from the first to the last."""
    count = min(count, len(records))
    return [records[round(i * (len(records) - 1) / max(1, count - 1))] for i in range(count)]


def side_by_side(record: PairRecord, images: Mapping[str, Path], out: Path) -> dict[str, Path]:
    """Method → picture of a pair; those in colour are written to ``OUT/METHOD/STEM.png``.

    Args:
        images: method → folder of its fused images; methods without an image of this pair are left out.
    """
    from fusion_det.fusion.png import write_png

    found: dict[str, Path] = {}
    for method, folder in images.items():
        file = list_images(folder, []).get(record.stem)
        if file is None:
            continue
        samples = read_samples(file)
        picture = in_color(samples, record) if samples.ndim == 2 else None
        if picture is not None:
            file = out / method / f"{record.stem}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            write_png(picture, file)
        found[method] = file
    return found


def in_color(fused: np.ndarray, record: PairRecord) -> np.ndarray | None:
    """uint8 (H,W,3) RGB of a fused grey image, (H,W) float32 in [0,1], with its sources' chroma; None where they have none."""
    import torch

    from fusion_det.fusion.frame import colored, to_eight_bit

    pair = load_pair(record)
    if pair.is_grey:
        return None
    ir_rgb = None if pair.ir_rgb is None else pair.ir_rgb[None]
    image = colored(torch.from_numpy(fused)[None, None], pair.vi[None], ir_rgb)
    return to_eight_bit(image)[0].permute(1, 2, 0).numpy()
