"""The published procedure: when there is colour, and how far the result is stretched."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from fusion_det.fusion.methods.u2fusion import U2Fusion

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (13, 17), dtype=np.uint8)
COLOUR = RNG.integers(60, 190, (13, 17, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("ir", "vi", "colour"),
    [
        (GREY, COLOUR, True),
        (COLOUR, GREY, True),
        (GREY, GREY, False),
        (np.repeat(GREY[..., None], 3, axis=2), COLOUR, False),
    ],
    ids=["visible in colour", "infrared in colour", "neither", "both"],
)
def test_colour_only_if_one_file_has_it(ir: np.ndarray, vi: np.ndarray, colour: bool) -> None:
    fused = U2Fusion().fuse_officially(ir, vi)
    assert fused.dtype == np.uint8
    assert fused.shape == ((13, 17, 3) if colour else (13, 17))
    assert fused.max() == 255


def test_chroma_is_the_visible_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a network that gives back the visible luma, the visible image is left, stretched (Pillow's luma for comparison)."""
    method = U2Fusion()
    monkeypatch.setattr(method.network, "forward", lambda ir, vi: vi)
    fused = method.fuse_officially(GREY, COLOUR).astype(float)
    np.testing.assert_allclose(fused, COLOUR * (255 / COLOUR.max()), atol=1)
    both = method.fuse_officially(np.repeat(GREY[..., None], 3, axis=2), COLOUR).astype(float)
    luma = np.asarray(Image.fromarray(COLOUR).convert("L")).astype(float)
    np.testing.assert_allclose(both, luma * (255 / luma.max()), atol=2)


def test_a_black_result_stays_black(monkeypatch: pytest.MonkeyPatch) -> None:
    method = U2Fusion()
    monkeypatch.setattr(method.network, "forward", lambda ir, vi: vi * 0)
    assert not method.fuse_officially(GREY, GREY).any()
