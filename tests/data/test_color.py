"""The colour conversion against Pillow's JPEG conversion, the primaries by hand, and against itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from fusion_det.data.color import luma, rgb_to_ycbcr, ycbcr_to_rgb


def every_nth_colour(step: int = 15) -> np.ndarray:
    """(N, 1, 3) uint8 grid over the whole RGB cube, both ends included."""
    levels = np.arange(0, 256, step, dtype=np.uint8)
    return np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(-1, 1, 3)


def as_batch(image: np.ndarray, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.from_numpy(image.copy()).permute(2, 0, 1)[None].to(dtype) / 255


def test_agrees_with_pillow_to_one_level() -> None:
    colours = every_nth_colour()
    pillow = np.asarray(Image.fromarray(colours, "RGB").convert("YCbCr"), dtype=float)
    ours = rgb_to_ycbcr(as_batch(colours, torch.float64))[0].permute(1, 2, 0).numpy() * 255
    # JFIF puts neutral chroma at 128 of 255, this project at exactly one half (127.5).
    ours[..., 1:] += 0.5
    assert np.abs(pillow - ours).max() <= 1.0 + 1e-9  # Pillow truncates
    assert np.abs(pillow - ours).mean() < 0.6


@pytest.mark.parametrize(
    ("rgb", "ycbcr"),
    [
        ((0, 0, 0), (0, 0.5, 0.5)),
        ((1, 1, 1), (1, 0.5, 0.5)),
        ((1, 0, 0), (0.299, 0.5 - 0.299 / 1.772, 1.0)),
        ((0, 0, 1), (0.114, 1.0, 0.5 - 0.114 / 1.402)),
        ((0, 1, 0), (0.587, 0.5 - 0.587 / 1.772, 0.5 - 0.587 / 1.402)),
    ],
)
def test_primaries(rgb: tuple[float, ...], ycbcr: tuple[float, ...]) -> None:
    image = torch.tensor(rgb, dtype=torch.float64).reshape(1, 3, 1, 1)
    expected = torch.tensor(ycbcr, dtype=torch.float64).reshape(1, 3, 1, 1)
    torch.testing.assert_close(rgb_to_ycbcr(image), expected)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 5e-7), (torch.float64, 1e-15)])
def test_round_trip_is_exact_up_to_rounding(dtype: torch.dtype, tolerance: float) -> None:
    colours = as_batch(every_nth_colour(), dtype)
    there = rgb_to_ycbcr(colours)
    assert there.dtype == dtype
    assert there.min() >= -tolerance and there.max() <= 1 + tolerance
    assert (ycbcr_to_rgb(there) - colours).abs().max() <= tolerance


def test_every_eight_bit_colour_survives_the_round_trip() -> None:
    colours = every_nth_colour(5)
    back = ycbcr_to_rgb(rgb_to_ycbcr(as_batch(colours)))[0].permute(1, 2, 0)
    np.testing.assert_array_equal((back * 255).round().numpy().astype(np.uint8), colours)


def test_nothing_is_clipped() -> None:
    over = ycbcr_to_rgb(torch.tensor([1.0, 1.0, 1.0]).reshape(1, 3, 1, 1))
    assert over.max() > 1.5


def test_luma_is_the_first_channel_and_keeps_grey() -> None:
    image = torch.rand(2, 3, 4, 5)
    torch.testing.assert_close(luma(image), rgb_to_ycbcr(image)[:, :1])
    grey = torch.rand(1, 1, 4, 4).expand(1, 3, 4, 4)
    torch.testing.assert_close(luma(grey), grey[:, :1])


@pytest.mark.parametrize("bad", [torch.rand(3, 4, 4), torch.rand(1, 1, 4, 4), torch.zeros(1, 3, 4, 4).byte()])
def test_wrong_tensors_are_refused(bad: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"\(B,3,H,W\)"):
        rgb_to_ycbcr(bad)
