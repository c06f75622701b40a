"""The runner: exact pixels, exact sizes, resuming, and what it refuses."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fusion_det.data.pair import PairRecord
from fusion_det.errors import ConfigError, DatasetError, MethodError, StageError
from fusion_det.fusion import FusionMethod, FusionRunner, MethodCard, build_method, runner
from fusion_det.fusion.frame import fuse_frames, to_eight_bit
from fusion_det.fusion.method import padded_size
from fusion_det.fusion.png import is_whole_png, sweep, write_png
from fusion_det.fusion.runner import group_by_size


def card(**changes: object) -> MethodCard:
    settings = {
        "name": "probe",
        "label": "Probe",
        "abbreviation": "Pro",
        "title": "Probe",
        "family": "cnn",
        "fuses": "luma",
    }
    return MethodCard(**(settings | changes))  # type: ignore[arg-type]


class Probe(FusionMethod):
    """Averages, and remembers the shapes it was given."""

    def __init__(self, **changes: object) -> None:
        self.card = card(**changes)
        self.shapes: list[tuple[int, ...]] = []

    def fuse(self, ir: torch.Tensor, vi: torch.Tensor) -> torch.Tensor:
        self.shapes.append(tuple(vi.shape))
        return (ir + vi) / 2


class CountingProgress:
    def __init__(self) -> None:
        self.total: int | None = None
        self.done = 0

    def start(self, description: str, total: int | None, done: int = 0) -> None:
        self.total, self.done = total, done

    def advance(self, steps: int = 1, note: str = "") -> None:
        self.done += steps

    def tell(self, message: str) -> None: ...

    def finish(self, note: str = "") -> None: ...


def pixels(file: Path) -> np.ndarray:
    return np.asarray(Image.open(file))


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


@pytest.mark.parametrize("batch_size", [1, 2, 16])
def test_visible_control_is_the_visible_image(records: list[PairRecord], tmp_path: Path, batch_size: int) -> None:
    out = tmp_path / "out"
    progress = CountingProgress()
    summary = FusionRunner(build_method("vi"), batch_size=batch_size).run(records, out, progress)
    assert (summary.written, summary.skipped) == (len(records), 0)
    assert (progress.total, progress.done) == (len(records), len(records))
    assert names(out) == [f"{record.stem}.png" for record in records]
    for record in records:
        np.testing.assert_array_equal(pixels(out / f"{record.stem}.png"), pixels(record.vi))


def test_infrared_control_is_the_infrared_image(records: list[PairRecord], tmp_path: Path) -> None:
    FusionRunner(build_method("ir")).run(records, tmp_path / "rgb")
    FusionRunner(build_method("ir"), color="gray").run(records, tmp_path / "gray")
    for record in records:
        expected = pixels(record.ir)
        np.testing.assert_array_equal(pixels(tmp_path / "gray" / f"{record.stem}.png"), expected)
        colour = pixels(tmp_path / "rgb" / f"{record.stem}.png")
        np.testing.assert_array_equal(colour, np.repeat(expected[..., None], 3, axis=2))


def test_gray_of_a_colour_method_is_bt601_luma(records: list[PairRecord], tmp_path: Path) -> None:
    FusionRunner(build_method("vi"), color="gray").run(records, tmp_path / "out")
    for record in records:
        exact = pixels(record.vi).astype(float) @ [0.299, 0.587, 0.114]
        # A luma that lies exactly between two integers may go either way in float32.
        assert np.abs(pixels(tmp_path / "out" / f"{record.stem}.png") - exact).max() <= 0.5 + 1e-4


def test_mean_in_gray_is_the_rounded_mean(records: list[PairRecord], tmp_path: Path) -> None:
    FusionRunner(build_method("mean"), color="gray").run(records, tmp_path / "out")
    for record in records:
        luma = pixels(record.vi).astype(float) @ [0.299, 0.587, 0.114]
        exact = (luma + pixels(record.ir)) / 2
        assert np.abs(pixels(tmp_path / "out" / f"{record.stem}.png") - exact).max() <= 0.5 + 1e-4


def test_colour_is_the_visible_images(records: list[PairRecord], tmp_path: Path) -> None:
    """Where nothing is clipped, the fused image has the visible chroma (against Pillow's own YCbCr)."""
    FusionRunner(build_method("mean")).run(records, tmp_path / "out")
    for record in records:
        fused, visible = Image.open(tmp_path / "out" / f"{record.stem}.png"), Image.open(record.vi)
        inside = ((np.asarray(fused) > 0) & (np.asarray(fused) < 255)).all(-1)
        difference = np.asarray(fused.convert("YCbCr")).astype(int) - np.asarray(visible.convert("YCbCr"))
        assert np.abs(difference[inside][:, 1:]).max(initial=0) <= 2


def test_batches_hold_one_size_and_change_nothing(records: list[PairRecord], tmp_path: Path) -> None:
    batched = Probe()
    FusionRunner(batched, batch_size=2).run(records, tmp_path / "a")
    FusionRunner(build_method("mean")).run(records, tmp_path / "b")
    assert sorted(shape[0] for shape in batched.shapes) == [1, 1, 1, 1, 2]
    for name in names(tmp_path / "b"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 3)), max_size=30), st.integers(1, 5))
def test_grouping_loses_and_mixes_nothing(sizes: list[tuple[int, int]], batch_size: int) -> None:
    made = [PairRecord(str(i), Path("i"), Path("v"), w, h) for i, (w, h) in enumerate(sizes)]
    batches = group_by_size(made, batch_size)
    assert sorted(int(r.stem) for batch in batches for r in batch) == list(range(len(made)))
    assert all(1 <= len(batch) <= batch_size for batch in batches)
    assert all(len({(r.width, r.height) for r in batch}) == 1 for batch in batches)


@pytest.mark.parametrize("padding", ["reflect", "replicate", "zero"])
@pytest.mark.parametrize("fuses", ["luma", "rgb"])
def test_padding_is_added_and_taken_off(padding: str, fuses: str) -> None:
    class First(Probe):
        def fuse(self, ir: torch.Tensor, vi: torch.Tensor) -> torch.Tensor:
            super().fuse(ir, vi)
            return vi

    method = First(size_multiple=8, min_size=20, padding=padding, fuses=fuses)
    ir, vi = torch.rand(1, 1, 9, 26), torch.randint(0, 256, (1, 3, 9, 26)) / 255
    fused = fuse_frames(method, ir, vi, "ycbcr")
    assert method.shapes == [(1, 1 if fuses == "luma" else 3, 24, 32)]
    np.testing.assert_array_equal(fused.permute(0, 3, 1, 2).numpy(), (vi * 255).round().to(torch.uint8).numpy())


@given(st.integers(1, 2000), st.integers(1, 64), st.integers(1, 300))
def test_padded_size(size: int, multiple: int, minimum: int) -> None:
    padded = padded_size(size, card(size_multiple=multiple, min_size=minimum))
    assert padded % multiple == 0
    assert padded >= max(size, minimum)
    assert padded - multiple < max(size, minimum)


def test_rounding_is_half_up_and_clipped() -> None:
    levels = torch.tensor([-3.0, 0.0, 0.4999, 0.5, 1.5, 2.5, 254.4, 254.5, 255.0, 900.0], dtype=torch.float64)
    assert to_eight_bit(levels / 255).tolist() == [0, 0, 0, 1, 2, 3, 254, 255, 255, 255]
    every = torch.arange(256, dtype=torch.float32)
    assert to_eight_bit(every / 255).tolist() == list(range(256))


def test_resume_makes_only_what_is_missing(records: list[PairRecord], tmp_path: Path) -> None:
    out = tmp_path / "out"
    fuse = FusionRunner(build_method("mean"))
    fuse.run(records, out)
    whole = {name: (out / name).read_bytes() for name in names(out)}
    assert fuse.run(records, out).written == 0
    (out / "00000.png").unlink()
    (out / "00001.png").write_bytes(whole["00001.png"][:-5])
    (out / "00002.png").write_bytes(b"")
    (out / "00003.png").write_bytes(whole["00004.png"])  # whole, but of another size
    os.utime(records[4].ir, (2**31, 2**31))  # newer than what was made from it
    progress = CountingProgress()
    summary = fuse.run(records, out, progress)
    assert (summary.written, summary.skipped) == (5, 1)
    assert progress.done == len(records)
    assert {name: (out / name).read_bytes() for name in names(out)} == whole


def test_changing_the_colour_remakes_the_images(records: list[PairRecord], tmp_path: Path) -> None:
    FusionRunner(build_method("mean")).run(records, tmp_path / "out")
    assert FusionRunner(build_method("mean"), color="gray").run(records, tmp_path / "out").skipped == 0
    assert all(Image.open(file).mode == "L" for file in (tmp_path / "out").iterdir())


def test_interrupt_leaves_whole_images_only(records: list[PairRecord], tmp_path: Path) -> None:
    class Interrupted(Probe):
        def fuse(self, ir: torch.Tensor, vi: torch.Tensor) -> torch.Tensor:
            if len(self.shapes) == 3:
                raise KeyboardInterrupt
            return super().fuse(ir, vi)

    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        FusionRunner(Interrupted()).run(records, out)
    sizes = {f"{r.stem}.png": (r.width, r.height) for r in records}
    assert set(names(out)) < set(sizes)
    assert all(is_whole_png(out / name, *sizes[name], gray=False) for name in names(out))
    assert threading.active_count() < 5
    kept = len(names(out))
    assert FusionRunner(Probe()).run(records, out).written == len(records) - kept
    assert names(out) == sorted(sizes)


def test_untrained_network_is_refused() -> None:
    method = Probe()
    method.trained = False
    with pytest.raises(MethodError, match="probe has no trained weights"):
        FusionRunner(method)


def test_nan_names_the_pair_and_the_method(records: list[PairRecord], tmp_path: Path) -> None:
    class Broken(Probe):
        def fuse(self, ir: torch.Tensor, vi: torch.Tensor) -> torch.Tensor:
            fused = super().fuse(ir, vi).clone()
            fused[-1, 0, 0, 0] = float("nan")
            return fused

    with pytest.raises(MethodError, match=r"probe returned NaN or infinite values for 00001;"):
        FusionRunner(Broken(), batch_size=2).run(records, tmp_path / "out")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda x: x[..., 1:], r"returned torch.float32 \(1, 1, 14, 19\) for 00000; .* \(1, 1, 14, 20\)"),
        (lambda x: x.expand(-1, 3, -1, -1), "promises floating point"),
        (lambda x: (x * 255).to(torch.uint8), "returned torch.uint8"),
        (lambda x: x.numpy(), "returned ndarray"),
    ],
    ids=["cropped", "colour", "bytes", "numpy"],
)
def test_what_is_not_an_image_is_refused(
    records: list[PairRecord], tmp_path: Path, wrong: object, message: str
) -> None:
    class Wrong(Probe):
        def fuse(self, ir: torch.Tensor, vi: torch.Tensor) -> torch.Tensor:
            return wrong(super().fuse(ir, vi))  # type: ignore[operator, no-any-return]

    with pytest.raises(MethodError, match=message):
        FusionRunner(Wrong()).run(records, tmp_path / "out")


def test_a_defect_of_a_method_tells_the_pair(records: list[PairRecord], tmp_path: Path) -> None:
    class Defective(Probe):
        def fuse(self, ir: torch.Tensor, vi: torch.Tensor) -> torch.Tensor:
            raise ZeroDivisionError("oops")

    with pytest.raises(ZeroDivisionError) as caught:
        FusionRunner(Defective()).run(records, tmp_path / "out")
    assert caught.value.__notes__ == ["while fusing 00000 with probe"]


def test_out_of_memory_names_the_option(records: list[PairRecord], tmp_path: Path) -> None:
    class Greedy(Probe):
        def fuse(self, ir: torch.Tensor, vi: torch.Tensor) -> torch.Tensor:
            return torch.empty(1 << 58)

    with pytest.raises(MethodError, match=r"out of cpu memory on 1 pair\(s\) of 20×14; use a machine with more memory"):
        FusionRunner(Greedy()).run(records, tmp_path / "out")
    with pytest.raises(MethodError, match=r"on 2 pair\(s\) of 20×14; use a smaller --batch-size or a machine"):
        FusionRunner(Greedy(), batch_size=2).run(records, tmp_path / "out")


def test_source_that_disappeared(records: list[PairRecord], tmp_path: Path) -> None:
    records[2].ir.unlink()
    with pytest.raises(DatasetError, match="00002"):
        FusionRunner(build_method("mean")).run(records, tmp_path / "out")


def test_full_disk(records: list[PairRecord], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[Path] = []

    def fill_up(image: np.ndarray, file: Path) -> int:
        if len(written) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(file))
        written.append(file)
        return write_png(image, file)

    monkeypatch.setattr(runner, "write_png", fill_up)
    with pytest.raises(StageError, match=r"disk of .*out is full: 4 more images need about .* continues after the 2"):
        FusionRunner(build_method("mean"), workers=1).run(records, tmp_path / "out")
    assert len(names(tmp_path / "out")) == 2


def test_output_folder_that_is_a_file(records: list[PairRecord], tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(ConfigError, match=r"cannot be written to .*out"):
        FusionRunner(build_method("mean")).run(records, tmp_path / "out")


def test_sources_are_never_written_over(records: list[PairRecord]) -> None:
    with pytest.raises(ConfigError, match="holds the source images"):
        FusionRunner(build_method("mean")).run(records, records[0].vi.parent)


@pytest.mark.parametrize("options", [{"color": "rgb"}, {"batch_size": 0}, {"workers": 0}], ids=str)
def test_options_out_of_range(options: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        FusionRunner(build_method("mean"), **options)  # type: ignore[arg-type]


def test_left_over_halves_are_swept(tmp_path: Path) -> None:
    old, new = tmp_path / ".00001.png.abc123.tmp.png", tmp_path / ".00002.png.abc123.tmp.png"
    for file in (old, new, tmp_path / "00003.png"):
        file.write_bytes(b"half")
    os.utime(old, (0, 0))
    os.utime(tmp_path / "00003.png", (0, 0))
    sweep(tmp_path)
    assert names(tmp_path) == [new.name, "00003.png"]


def test_whole_png_is_recognised(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    write_png(np.zeros((4, 6, 3), np.uint8), file)
    assert is_whole_png(file, 6, 4, gray=False)
    assert not is_whole_png(file, 4, 6, gray=False)
    assert not is_whole_png(file, 6, 4, gray=True)
    assert not is_whole_png(file, 6, 4, gray=False, newer_than=file.stat().st_mtime_ns + 1)
    assert not is_whole_png(tmp_path / "b.png", 6, 4, gray=False)
    assert not is_whole_png(tmp_path, 6, 4, gray=False)


def test_real_pairs(shared_data: Path, tmp_path: Path) -> None:
    """Every visible pixel of real M3FD pairs comes back; sizes are the sources'."""
    from fusion_det.data import open_dataset

    dataset = open_dataset(shared_data / "m3fd_sample", limit=2)
    FusionRunner(build_method("vi"), batch_size=2).run(dataset.records, tmp_path / "vi")
    FusionRunner(build_method("laplacian")).run(dataset.records, tmp_path / "laplacian")
    for record in dataset:
        source = np.asarray(Image.open(record.vi).convert("RGB"))
        np.testing.assert_array_equal(pixels(tmp_path / "vi" / f"{record.stem}.png"), source)
        assert pixels(tmp_path / "laplacian" / f"{record.stem}.png").shape == (record.height, record.width, 3)
