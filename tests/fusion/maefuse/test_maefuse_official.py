"""MAEFuse's published procedure to its bytes."""

from __future__ import annotations

import numpy as np
import pytest

from fusion_det.fusion.methods.maefuse import MAEFuse, official
from fusion_det.fusion.methods.maefuse.network import MAEFuseNet

Arrays = dict[str, np.ndarray]


def test_from_bytes_to_bytes(golden: Arrays, filled_network: MAEFuseNet) -> None:
    """But for rounding: a luma that lies just beside a whole number may be cut off to another one."""
    ir, vi = golden["ir"][..., ::-1], golden["vi"][..., ::-1]
    found = official.fuse_officially(filled_network, ir, vi)[..., ::-1].astype(int)
    assert np.abs(found - golden["fused_bgr"]).max() <= 1
    assert (found != golden["fused_bgr"]).mean() < 1e-3


def test_luma_is_cut_off() -> None:
    """Channels are cut off, and their luma, which is as theirs where they are equal, is a whole number already."""
    levels = np.array([-0.2, 0.0, 99.9 / 255, 100.4 / 255, 1.3])
    fused = (np.broadcast_to(levels, (3, 1, 5)) - np.array(official.MEAN)[:, None, None]) / np.array(official.STD)[
        :, None, None
    ]
    assert official.stored_luma(fused.astype(np.float32)).tolist() == [[0, 0, 99, 100, 255]]


@pytest.mark.parametrize("shape", [(5, 9), (40, 33, 3)], ids=str)
def test_any_size_in_grey_and_in_colour(shape: tuple[int, ...]) -> None:
    image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    fused = MAEFuse("tiny").fuse_officially(image, image)
    assert fused.shape == (*shape[:2], 3)
    assert fused.dtype == np.uint8
