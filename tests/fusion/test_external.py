"""NAME=FOLDER: checked before anything is written, then taken as they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fusion_det.data.pair import PairRecord
from fusion_det.errors import ConfigError, MethodError
from fusion_det.fusion import FusionRunner, MethodSpec, build_method


@pytest.fixture
def folder(records: list[PairRecord], tmp_path: Path) -> Path:
    """Somebody's colour images for every pair."""
    made = tmp_path / "theirs"
    made.mkdir()
    rng = np.random.default_rng(7)
    for r in records:
        Image.fromarray(rng.integers(0, 256, (r.height, r.width, 3), dtype=np.uint8)).save(made / f"{r.stem}.png")
    return made


def run(folder: Path, records: list[PairRecord], out: Path, color: str = "ycbcr") -> int:
    method = build_method(MethodSpec("theirs", folder))
    return FusionRunner(method, color=color).run(records, out).written  # type: ignore[arg-type]


def pixels(file: Path) -> np.ndarray:
    return np.asarray(Image.open(file))


def test_colour_pixels_are_kept(records: list[PairRecord], folder: Path, tmp_path: Path) -> None:
    assert run(folder, records, tmp_path / "out") == len(records)
    for file in folder.iterdir():
        np.testing.assert_array_equal(pixels(tmp_path / "out" / file.name), pixels(file))
    assert run(folder, records, tmp_path / "out") == 0


def test_gray_output_is_luma(records: list[PairRecord], folder: Path, tmp_path: Path) -> None:
    run(folder, records, tmp_path / "out", "gray")
    for file in folder.iterdir():
        exact = pixels(file).astype(float) @ [0.299, 0.587, 0.114]
        assert np.abs(pixels(tmp_path / "out" / file.name) - exact).max() <= 0.5 + 1e-4


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "tif"])
def test_grey_images_of_any_format_stay_grey(records: list[PairRecord], tmp_path: Path, suffix: str) -> None:
    folder = tmp_path / "grey"
    folder.mkdir()
    for r in records:
        Image.fromarray(np.full((r.height, r.width), 77, np.uint8)).save(folder / f"{r.stem}.{suffix}")
    run(folder, records, tmp_path / "out")
    run(folder, records, tmp_path / "out_gray", "gray")
    for r in records:
        assert (pixels(tmp_path / "out" / f"{r.stem}.png") == 77).all()
        assert pixels(tmp_path / "out" / f"{r.stem}.png").shape == (r.height, r.width, 3)
        assert pixels(tmp_path / "out_gray" / f"{r.stem}.png").shape == (r.height, r.width)


def test_sixteen_bits_are_scaled(records: list[PairRecord], tmp_path: Path) -> None:
    folder = tmp_path / "deep"
    folder.mkdir()
    for r in records:
        Image.fromarray(np.full((r.height, r.width), 128 * 257, np.uint16)).save(folder / f"{r.stem}.png")
    run(folder, records, tmp_path / "out", "gray")
    assert (pixels(tmp_path / "out" / "00000.png") == 128).all()


def test_every_problem_is_listed_and_nothing_written(records: list[PairRecord], folder: Path, tmp_path: Path) -> None:
    (folder / "00000.png").unlink()
    (folder / "00001.png").unlink()
    Image.new("RGB", (20, 15)).save(folder / "00002.png")
    whole = (folder / "00003.png").read_bytes()
    (folder / "00003.png").write_bytes(whole[: len(whole) // 2])
    Image.new("RGB", (1, 1)).save(folder / "00004.jpg")
    Image.new("RGB", (1, 1)).save(folder / "unrelated.jpg")
    Image.new("RGB", (1, 1)).save(folder / "unrelated.png")
    with pytest.raises(MethodError) as caught:
        run(folder, records, tmp_path / "out")
    message = str(caught.value)
    for part in (
        f"theirs={folder} cannot be used",
        "no image for 2 of 6 pairs: 00000, 00001",
        "00002.png: is 20×15, but its pair is 9×31",
        "00003.png: is not a readable image",
        "00004.png: has the same stem as 00004.jpg",
    ):
        assert part in message
    assert "unrelated" not in message
    assert not list((tmp_path / "out").iterdir())


def test_images_are_not_copied_over_themselves(records: list[PairRecord], folder: Path) -> None:
    with pytest.raises(ConfigError, match="holds the source images"):
        run(folder, records, folder)
