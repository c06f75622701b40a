"""Pixels of every kind of file, against arrays written by hand and decoded by OpenCV."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from fusion_det.data import PairRecord, load_pair
from fusion_det.data.images import UnusableImageError, image_size, inspect_image, read_grey, read_rgb
from fusion_det.errors import DatasetError

COLOUR = np.array([[[255, 0, 10], [1, 128, 254]], [[0, 0, 0], [7, 77, 177]]], dtype=np.uint8)
GREY = np.array([[0, 1, 128], [200, 254, 255]], dtype=np.uint8)


def save(path: Path, array: np.ndarray, **options: object) -> Path:
    Image.fromarray(array).save(path, **options)  # type: ignore[arg-type]
    return path


def test_rgb_order_and_scale(tmp_path: Path) -> None:
    file = save(tmp_path / "a.png", COLOUR)
    np.testing.assert_array_equal(read_rgb(file), COLOUR.astype(np.float32) / np.float32(255))
    opencv = cv2.imread(str(file), cv2.IMREAD_COLOR)[..., ::-1]
    np.testing.assert_array_equal((read_rgb(file) * 255).round().astype(np.uint8), opencv)


def test_grey_visible_gives_three_equal_channels(tmp_path: Path) -> None:
    rgb = read_rgb(save(tmp_path / "a.png", GREY))
    np.testing.assert_array_equal(rgb, np.stack([GREY] * 3, axis=-1).astype(np.float32) / np.float32(255))


def test_three_channel_infrared_that_is_grey_keeps_its_exact_levels(tmp_path: Path) -> None:
    grey = read_grey(save(tmp_path / "a.png", np.stack([GREY] * 3, axis=-1)))
    np.testing.assert_array_equal(grey, GREY.astype(np.float32) / np.float32(255))


def test_false_colour_infrared_becomes_luma(tmp_path: Path) -> None:
    grey = read_grey(save(tmp_path / "a.png", COLOUR))
    expected = (COLOUR / 255.0) @ np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(grey, expected, atol=1e-6)


def test_sixteen_bit_infrared_uses_the_whole_range(tmp_path: Path) -> None:
    deep = np.array([[0, 1, 256], [32768, 65534, 65535]], dtype=np.uint16)
    for name in ("a.png", "a.tif"):
        grey = read_grey(save(tmp_path / name, deep))
        np.testing.assert_allclose(grey, deep / 65535.0, rtol=1e-6)
        assert inspect_image(tmp_path / name).width == 3


def test_palette_alpha_and_bilevel(tmp_path: Path) -> None:
    palette = Image.fromarray(COLOUR).quantize(4)
    palette.save(tmp_path / "palette.png")
    np.testing.assert_array_equal(
        read_rgb(tmp_path / "palette.png"), np.asarray(palette.convert("RGB")) / np.float32(255)
    )
    transparent = np.dstack([COLOUR, np.zeros((2, 2), np.uint8)])
    np.testing.assert_array_equal(
        read_rgb(save(tmp_path / "alpha.png", transparent)), COLOUR.astype(np.float32) / np.float32(255)
    )
    grey_alpha = Image.merge("LA", [Image.fromarray(GREY), Image.new("L", (3, 2), 0)])
    grey_alpha.save(tmp_path / "la.png")
    np.testing.assert_array_equal(read_grey(tmp_path / "la.png"), GREY.astype(np.float32) / np.float32(255))
    Image.fromarray(GREY > 100).save(tmp_path / "bilevel.png")
    np.testing.assert_array_equal(read_grey(tmp_path / "bilevel.png"), (GREY > 100).astype(np.float32))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int) -> None:
    upright = np.zeros((8, 16, 3), np.uint8)
    upright[:4, :8] = 255  # top left is white
    undo = {1: None, 2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}[orientation]
    stored = Image.fromarray(upright)
    if undo is not None:
        stored = stored.transpose(Image.Transpose(undo))
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "a.png", exif=exif)
    assert inspect_image(tmp_path / "a.png").width == 16
    assert image_size(tmp_path / "a.png") == (16, 8)
    np.testing.assert_array_equal(read_rgb(tmp_path / "a.png"), upright.astype(np.float32) / 255)


def test_jpeg_agrees_with_opencv(tmp_path: Path) -> None:
    smooth = cv2.resize(COLOUR, (64, 48), interpolation=cv2.INTER_LINEAR)
    file = save(tmp_path / "a.jpg", smooth, quality=95)
    opencv = cv2.imread(str(file), cv2.IMREAD_COLOR)[..., ::-1].astype(int)
    assert np.abs(read_rgb(file) * 255 - opencv).max() <= 3  # two decoders' rounding
    assert read_grey(file).shape == (48, 64)


def test_load_pair_shapes_types_and_ranges(tmp_path: Path) -> None:
    record = PairRecord("s", save(tmp_path / "i.png", GREY), save(tmp_path / "v.png", np.dstack([GREY] * 3)), 3, 2)
    pair = load_pair(record)
    assert pair.ir.shape == (1, 2, 3) and pair.vi.shape == (3, 2, 3)
    assert pair.ir.dtype == pair.vi.dtype == torch.float32
    assert pair.ir.is_contiguous() and pair.vi.is_contiguous()
    assert pair.vi.min() == 0 and pair.vi.max() == 1
    assert pair.stem == "s" and pair.boxes is None and pair.condition is None


def test_load_pair_notices_a_changed_file(tmp_path: Path) -> None:
    ir, vi = save(tmp_path / "i.png", GREY), save(tmp_path / "v.png", COLOUR)
    with pytest.raises(DatasetError, match=r"v\.png: is 2×2 now, was 3×2"):
        load_pair(PairRecord("s", ir, vi, 3, 2))
    vi.unlink()
    with pytest.raises(DatasetError, match=r"v\.png"):
        load_pair(PairRecord("s", ir, vi, 3, 2))


def test_truncated_and_bit_flipped_files_are_found(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    for name in ("a.png", "a.jpg", "a.bmp"):
        content = save(tmp_path / name, noise).read_bytes()
        (tmp_path / name).write_bytes(content[: len(content) * 2 // 3])
        with pytest.raises(UnusableImageError, match="corrupt or truncated"):
            inspect_image(tmp_path / name)
    for level in (0, 6):  # uncompressed pixel data decodes whatever it holds: only the checksum tells
        png = bytearray(save(tmp_path / "flip.png", noise, compress_level=level).read_bytes())
        png[len(png) // 2] ^= 0x10  # inside the pixel data
        (tmp_path / "flip.png").write_bytes(png)
        with pytest.raises(UnusableImageError):
            inspect_image(tmp_path / "flip.png")


def test_pixels_without_a_scale_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnusableImageError, match="floating-point"):
        inspect_image(save(tmp_path / "f.tif", np.ones((2, 2), np.float32)))
    with pytest.raises(UnusableImageError, match="beyond 16 bit"):
        inspect_image(save(tmp_path / "i.tif", np.full((2, 2), 70000, np.int32)))
