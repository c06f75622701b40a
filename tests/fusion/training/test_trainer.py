"""Whole trainings: they learn, they resume exactly, they say what they learnt from and what went wrong."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file

pytest.importorskip("lightning", reason="Lightning is not installed")

from training_jobs import SETTINGS, job_of, write_pairs

from fusion_det.errors import ConfigError, MethodError, StageError
from fusion_det.fusion import build_method
from fusion_det.fusion.training.loop import TrainingLoop, WeightAverage
from fusion_det.fusion.training.trainer import train, trainable

pytestmark = pytest.mark.usefixtures("fresh_registry")


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pairs(tmp_path_factory.mktemp("made") / "pairs")  # the name decides what is held out


def rows(out: Path) -> list[dict[str, str]]:
    """The curve, without the times."""
    with (out / "curve.csv").open() as file:
        return [{name: value for name, value in row.items() if name != "seconds"} for row in csv.DictReader(file)]


def same_result(a: Path, b: Path) -> bool:
    for name in ("last.safetensors", "best.safetensors"):
        first, second = load_file(a / name), load_file(b / name)
        if first.keys() != second.keys() or not all(torch.equal(first[key], second[key]) for key in first):
            return False
    return rows(a) == rows(b)


@pytest.fixture(scope="module")
def whole(pairs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of a training that nobody interrupted: nine pairs, 2 × 2 of them a step, two steps an epoch."""
    out = tmp_path_factory.mktemp("whole") / "out"
    train(job_of(pairs, out))
    return out


def test_it_learns(pairs: Path, tmp_path: Path) -> None:
    summary = train(job_of(pairs, tmp_path / "out", epochs=80, sample_every=1000))
    assert summary.steps == summary.total == 160
    assert summary.rows[-1]["total"] < 0.5 * summary.rows[0]["total"]
    assert summary.rows[-1]["val_total"] < 0.7 * summary.rows[0]["val_total"]


@pytest.mark.parametrize(("at", "workers"), [(3, 1), (4, 0)])
def test_killed_and_resumed_it_is_the_training_that_was_not(
    pairs: Path, whole: Path, tmp_path: Path, at: int, workers: int
) -> None:
    out = tmp_path / "out"
    command = [
        sys.executable,
        str(Path(__file__).with_name("killed_run.py")),
        str(pairs),
        str(out),
        str(at),
        str(workers),
    ]
    killed = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    summary = train(job_of(pairs, out, workers=workers))
    assert (summary.resumed_at, summary.steps) == (at, 6)
    assert same_result(out, whole)


def test_a_finished_training_is_left_as_it_is(pairs: Path, whole: Path) -> None:
    before = (whole / "last.safetensors").read_bytes()
    summary = train(job_of(pairs, whole))
    assert (summary.resumed_at, summary.pairs_per_second) == (6, None)
    assert (whole / "last.safetensors").read_bytes() == before


def test_one_seed_repeats_and_two_differ(pairs: Path, whole: Path, tmp_path: Path) -> None:
    train(job_of(pairs, tmp_path / "again"))
    train(job_of(pairs, tmp_path / "other", seed=1))
    assert same_result(tmp_path / "again", whole)
    assert rows(tmp_path / "other") != rows(whole)


def test_another_training_is_not_continued(pairs: Path, whole: Path) -> None:
    for changed in (
        job_of(pairs, whole, seed=1),
        job_of(pairs, whole, validation=3),
        job_of(pairs, whole, "colourlearner"),
    ):
        with pytest.raises(ConfigError, match="another network, other pairs or other settings"):
            train(changed)


def test_checkpoints_without_a_state_are_not_overwritten(pairs: Path, tmp_path: Path) -> None:
    (tmp_path / "last.safetensors").write_bytes(b"somebody's")
    with pytest.raises(ConfigError, match="checkpoints of another training"):
        train(job_of(pairs, tmp_path))


def test_what_it_leaves(pairs: Path, whole: Path) -> None:
    assert [(row["epoch"], row["step"]) for row in rows(whole)] == [("1", "2"), ("2", "4"), ("3", "6")]
    assert all(float(row["val_total"]) > 0 for row in rows(whole))
    card = json.loads((whole / "best.json").read_text())
    (origin,) = card["data"]
    assert len(origin["train"]) == 9 and len(origin["validation"]) == 2
    assert not set(origin["train"]) & set(origin["validation"])
    assert card["settings"]["seed"] == 0 and card["method"] == "learner"
    with safe_open(whole / "best.safetensors", "pt") as file:
        assert json.loads(file.metadata()["card"])["data"] == card["data"]
    sheets = sorted((whole / "samples").iterdir())
    assert [sheet.name for sheet in sheets] == ["epoch_0001.png", "epoch_0002.png", "epoch_0003.png"]
    with Image.open(sheets[0]) as sheet:
        assert sheet.size == (3 * 40 + 2 * 4, 2 * 32 + 4)  # two pairs are held out
    with Image.open(whole / "curve.png") as plot:
        plot.verify()


def test_the_weights_fuse(pairs: Path, whole: Path) -> None:
    job_of(pairs, whole)
    method = build_method("learner", weights=whole / "best.safetensors")
    assert method.trained
    assert method.fuse(torch.rand(1, 1, 8, 8), torch.rand(1, 1, 8, 8)).shape == (1, 1, 8, 8)


def test_a_network_of_colour(pairs: Path, tmp_path: Path) -> None:
    summary = train(job_of(pairs, tmp_path / "out", "colourlearner", validation=0, epochs=40, sample_every=1000))
    assert "val_total" not in summary.rows[0]
    assert summary.rows[-1]["total"] < summary.rows[0]["total"]


def test_not_a_number_names_the_pairs_and_changes_nothing(pairs: Path, tmp_path: Path) -> None:
    with pytest.raises(StageError, match=r"loss became (nan|inf) in step 1 .*pairs/\d\d"):
        train(job_of(pairs, tmp_path / "out", "breaking"))
    state = torch.load(tmp_path / "out" / "state.pt", weights_only=True)
    assert state["progress"]["step"] == 0
    assert all(torch.isfinite(value).all() for value in state["network"].values())


def test_too_little_memory_says_which_option_helps(
    pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(TrainingLoop, "losses", refuse)
    with pytest.raises(StageError, match=r"2 crops of 24 pixels: use a smaller --batch"):
        train(job_of(pairs, tmp_path / "out"))


def test_a_slower_machine_stops_when_the_time_is_over_and_stays_stopped(
    pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TrainingLoop, "measure", lambda self: 1e-6)
    job = job_of(pairs, tmp_path / "out", minutes=0.005)
    summary = train(job)
    assert 0 < summary.steps < summary.total
    assert train(job).steps == summary.steps


def test_minutes_fit_the_schedule_to_the_time(pairs: Path, tmp_path: Path) -> None:
    summary = train(job_of(pairs, tmp_path / "out", minutes=0.01))
    assert summary.steps <= summary.total
    card = json.loads((tmp_path / "out" / "last.json").read_text())
    assert card["steps_planned"] == summary.total
    assert rows(tmp_path / "out")[-1]["step"] == str(summary.steps)


def test_steps_in_the_place_of_epochs(pairs: Path, tmp_path: Path) -> None:
    summary = train(job_of(pairs, tmp_path / "out", steps=3))
    assert (summary.steps, summary.total) == (3, 3)
    assert [row["epoch"] for row in rows(tmp_path / "out")] == ["1", "1.5"]
    assert "steps" not in SETTINGS.as_json()  # trainings begun before there were steps go on


def test_phases_come_one_after_the_other(pairs: Path, tmp_path: Path) -> None:
    """Nine pairs, four a step: two steps an epoch, three epochs, of which the first third does not fuse."""
    summary = train(job_of(pairs, tmp_path, "twophased"))
    assert [(row["step"], "done" in row) for row in summary.rows] == [(2, False), (4, True), (6, True)]
    assert [row["done"] for row in summary.rows[1:]] == pytest.approx([(2 / 6 + 3 / 6) / 2, (4 / 6 + 5 / 6) / 2])
    assert [row["val_done"] for row in summary.rows[1:]] == [1, 1]
    assert summary.best_step > 2 and sorted(file.name for file in (tmp_path / "samples").iterdir()) == [
        "epoch_0002.png",
        "epoch_0003.png",
    ]
    assert rows(tmp_path)[0]["done"] == ""
    assert json.loads((tmp_path / "best.json").read_text())["deviations"] == "made up"


@pytest.mark.parametrize("at", [1, 2, 5])
def test_phases_and_averages_resume_exactly(
    pairs: Path, tmp_path: Path, at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(job_of(pairs, tmp_path / "whole", "twophased", ema=0.9))
    with monkeypatch.context() as patch:
        patch.setattr(TrainingLoop, "run", stopping_after(at))
        train(job_of(pairs, tmp_path / "cut", "twophased", ema=0.9))
    summary = train(job_of(pairs, tmp_path / "cut", "twophased", ema=0.9))
    assert (summary.resumed_at, summary.steps) == (at, 6)
    last = [load_file(tmp_path / name / "last.safetensors") for name in ("whole", "cut")]
    assert all(torch.equal(last[0][key], last[1][key]) for key in last[0])


def test_it_goes_on_from_other_weights(pairs: Path, whole: Path, tmp_path: Path) -> None:
    start = whole / "best.safetensors"
    job = job_of(pairs, tmp_path, start_from=start, epochs=1, peak_rate=1e-12, start_rate=1e-12, final_rate=1e-12)
    train(job)
    first, second = load_file(start), load_file(tmp_path / "best.safetensors")
    learnt = [key for key in first if "running" not in key and "num_batches" not in key]
    assert all(torch.allclose(first[key], second[key], atol=1e-6) for key in learnt)
    card = json.loads((tmp_path / "best.json").read_text())
    assert card["started_from"]["card"]["settings"]["epochs"] == 3
    with pytest.raises(ConfigError, match="another network, other pairs or other settings"):
        train(replace(job, start_from=None))


def stopping_after(steps: int) -> Callable[[TrainingLoop, Callable[[], bool]], None]:
    """``TrainingLoop.run`` that ends, as if killed, before the step is written down."""
    run = TrainingLoop.run

    def shortened(loop: TrainingLoop, after_step: Callable[[], bool]) -> None:
        run(loop, lambda: after_step() and loop.progress.step < steps)

    return shortened


def test_only_what_learns_in_a_phase_changes(pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(TrainingLoop, "run", stopping_after(0))
        train(job_of(pairs, tmp_path, "twophased"))
    fresh = torch.load(tmp_path / "state.pt", weights_only=True)["network"]
    with monkeypatch.context() as patch:
        patch.setattr(TrainingLoop, "run", stopping_after(2))
        train(job_of(pairs, tmp_path, "twophased"))
    after = torch.load(tmp_path / "state.pt", weights_only=True)["network"]
    assert {name for name in fresh if not torch.equal(fresh[name], after[name])} == {"first.weight", "first.bias"}


def test_the_average_of_the_weights() -> None:
    """Against the recursion written out: decays (1+n)/(10+n), at most what is asked for."""
    parameter = torch.nn.Parameter(torch.tensor([1.0]))
    average = WeightAverage([parameter], decay=0.25)
    expected = 1.0
    for step, (value, decay) in enumerate([(2.0, 2 / 11), (5.0, 0.25), (-1.0, 0.25)], start=1):
        parameter.data.fill_(value)
        average.update(step)
        expected = decay * expected + (1 - decay) * value
    assert average.values[0].item() == pytest.approx(expected)
    average.swap()
    assert (parameter.item(), average.values[0].item()) == (pytest.approx(expected), -1)


def test_what_cannot_be_trained(pairs: Path, tmp_path: Path) -> None:
    with pytest.raises(MethodError, match="learns nothing"):
        trainable("mean", None, 24)
    with pytest.raises(ConfigError, match="--crop 230: s4fusion takes squares of 241"):
        trainable("s4fusion", None, 230)
    assert trainable("s4fusion", None, 229)[1] == "released"


def test_settings_that_make_no_sense() -> None:
    for wrong in (
        {"batch": 0},
        {"minutes": 0.0},
        {"steps": 0},
        {"steps": 9, "minutes": 1.0},
        {"precision": "float8"},
        {"epochs": -1},
    ):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            replace(SETTINGS, **wrong)
