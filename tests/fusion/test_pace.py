"""What is said of methods that take many steps for an image: beforehand, and while they take them."""

from __future__ import annotations

import re
import threading
from pathlib import Path

import pytest
import torch

from fusion_det.data.pair import PairRecord
from fusion_det.errors import StageError
from fusion_det.fusion import FusionMethod, FusionRunner, MethodCard, pace
from fusion_det.fusion.pace import FusionEstimate, estimate_fusion, in_words, tell_time
from fusion_det.pipeline.stages import Cancellable
from fusion_det.progress import NoProgress

STEPS = 4


class Sampler(FusionMethod):
    """Averages, slowly, and remembers the sizes that it was given. ``stop_at``: the step that fails."""

    card = MethodCard("sampler", "Sampler", "Sam", "Sampler", "cnn", "luma", size_multiple=32)

    def __init__(self, steps: int = STEPS) -> None:
        self.steps = steps
        self.sizes: list[tuple[int, ...]] = []

    def fuse(self, ir: torch.Tensor, vi: torch.Tensor) -> torch.Tensor:
        self.sizes.append(tuple(ir.shape[-2:]))
        for _ in range(self.steps):
            if self.after_step is not None:
                self.after_step()
        return (ir + vi) / 2


class Notes(NoProgress):
    def __init__(self) -> None:
        self.told: list[str] = []
        self.notes: list[str] = []
        self.images = 0

    def tell(self, message: str) -> None:
        self.told.append(message)

    def advance(self, steps: int = 1, note: str = "") -> None:
        self.images += steps
        if note:
            self.notes.append(note)


def record(width: int, height: int) -> PairRecord:
    return PairRecord("a", Path("a"), Path("b"), width, height)


def test_runner_says_how_long_it_will_take_and_how_far_it_is(records: list[PairRecord], tmp_path: Path) -> None:
    progress = Notes()
    FusionRunner(Sampler(), batch_size=2).run(records, tmp_path / "out", progress)
    assert len(progress.told) == 1
    assert re.match(
        rf"{len(records)} pairs in {STEPS} steps each will take about \d+ s, going by a step", progress.told[0]
    )
    assert len(progress.notes) % STEPS == 0
    assert [note.partition(",")[0] for note in progress.notes[:STEPS]] == [f"step {i}/{STEPS}" for i in (1, 2, 3, 4)]
    assert progress.notes[-1] == f"step {STEPS}/{STEPS}, 0 s to the next image"
    assert progress.images == len(records)


def test_nothing_is_said_of_other_methods_nor_of_what_is_there(records: list[PairRecord], tmp_path: Path) -> None:
    progress = Notes()
    FusionRunner(Sampler(steps=1)).run(records, tmp_path / "out", progress)
    FusionRunner(Sampler()).run(records, tmp_path / "out", progress)
    assert not progress.told


def test_estimate_is_of_the_time_of_a_step_and_of_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "_time_step", lambda method, size, device: 3.0)
    found = estimate_fusion(Sampler(), [record(1000, 750), record(20, 14)], "cpu")
    pixels = 1024 * 768 + 32 * 32
    assert found == FusionEstimate(2, STEPS, (128, 128), 3.0, pytest.approx(STEPS * 3.0 * pixels / 128**2))


def test_fast_methods_are_timed_on_larger_images_up_to_the_real_size() -> None:
    method = Sampler()
    assert estimate_fusion(method, [record(300, 200)], "cpu").timed == (224, 320)
    assert method.sizes == [(128, 128), (224, 256), (224, 320)]
    assert method.after_step is None


def test_a_trial_takes_two_steps() -> None:
    method, steps = Sampler(), 0

    class Counting(Sampler):
        def fuse(self, ir: torch.Tensor, vi: torch.Tensor) -> torch.Tensor:
            nonlocal steps
            for _ in range(self.steps):
                steps += 1
                assert self.after_step is not None
                self.after_step()
            return ir

    method = Counting(steps=100)
    tell_time(method, [[record(32, 32)]], "cpu", NoProgress())
    assert steps == 2


def test_a_run_that_is_stopped_ends_after_the_step_and_continues(records: list[PairRecord], tmp_path: Path) -> None:
    cancelled, out = threading.Event(), tmp_path / "out"

    class Stopping(Notes):
        def advance(self, steps: int = 1, note: str = "") -> None:
            super().advance(steps, note)
            if len(self.notes) == 2 * STEPS + 1:  # in the third image
                cancelled.set()

    progress = Stopping()
    with pytest.raises(StageError, match="stopped on request"):
        FusionRunner(Sampler()).run(records, out, Cancellable(progress, cancelled))
    assert len(progress.notes) == 2 * STEPS + 1
    there = {file.name: file.stat().st_mtime_ns for file in out.glob("*.png")}
    assert 0 < len(there) <= 2
    method = Sampler()
    summary = FusionRunner(method).run(records, out)
    assert (summary.written, summary.skipped) == (len(records) - len(there), len(there))
    assert all((out / name).stat().st_mtime_ns == time for name, time in there.items())


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.4, "0 s"), (89, "89 s"), (600, "10 min"), (7200, "2.0 h"), (40 * 3600, "40.0 h"), (20 * 86400, "20 days")],
)
def test_times_in_words(seconds: float, words: str) -> None:
    assert in_words(seconds) == words


def test_terminal_keeps_the_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from rich.console import Console

    from fusion_det.cli import console

    monkeypatch.setattr(console, "console", lambda *, stderr=False: Console(stderr=stderr, width=200))
    with console.RichProgress() as progress:
        progress.start("fusing sampler", 3)
        progress.tell("3 pairs in 4 steps each [will] take about 2.0 h")
    assert "fusing sampler: 3 pairs in 4 steps each [will] take about 2.0 h\n" in capsys.readouterr().err
