"""The main job as a user runs it, on a few demo scenes with a detector of one epoch: figures are not the point here."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

TINY = [
    *(
        "--experiment",
        "demo",
        "--name",
        "demo",
        "--set",
        "data.demo_scenes=24",
        "--detector-weights",
        "scratch",
        "--epochs",
        "1",
    ),
    *("--set", "detector.imgsz=64", "--set", "report.disagreement_rows=1", "--set", "fusion_training.when=never"),
    *("--set", 'report.overlay_ids=["00000", "00006", "00012", "00018"]'),
]
BROKEN_METHOD = """
from fusion_det.fusion import FusionMethod, MethodCard, register_method

CARD = MethodCard(
    name="broken", label="Broken", abbreviation="BRO", title="Raises on the third image", family="arithmetic", fuses="luma"
)


@register_method(CARD)
class Broken(FusionMethod):
    card = CARD
    calls = 0

    def fuse(self, ir, vi):
        self.calls += 1
        if self.calls > 2:
            raise RuntimeError("the third image was too much")
        return (ir + vi) / 2
"""


@dataclass
class Place:
    """A working folder and what ran in it."""

    folder: Path

    def run(self, *arguments: str, timeout: float = 300) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, *arguments]
        environment = {**os.environ, "FUSION_DET_DATA": "", "COLUMNS": "200"}
        return subprocess.run(
            command, cwd=self.folder, capture_output=True, text=True, timeout=timeout, env=environment, check=False
        )

    def results(self, name: str = "demo") -> dict[str, Any]:
        return json.loads((self.folder / "runs" / "experiments" / name / "results.json").read_text())


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    place = Place(tmp_path_factory.mktemp("main"))
    (place.folder / "broken_fusion.py").write_text(BROKEN_METHOD)
    return place


@pytest.fixture(scope="module")
def first(place: Place) -> subprocess.CompletedProcess[str]:
    """Two methods, one of which fails."""
    return place.run(
        *(
            "-m",
            "fusion_det.run",
            *TINY,
            "--methods",
            "vi,broken",
            "--method-module",
            str(place.folder / "broken_fusion.py"),
        )
    )


def test_a_failing_method_is_a_row_with_its_reason_and_the_others_go_on(
    place: Place, first: subprocess.CompletedProcess[str]
) -> None:
    assert first.returncode == 1, first.stderr
    assert "the third image was too much" in first.stderr
    runs = {r["method"]: r for r in place.results()["runs"]}
    assert runs["vi"]["status"] == "ok"
    assert runs["broken"]["status"] == "failed"
    assert "the third image was too much" in runs["broken"]["reason"]
    page = (place.folder / "reports" / "demo" / "index.html").read_text()
    assert "the third image was too much" in page


def test_a_method_without_weights_is_a_row_and_no_failure_unless_it_was_named(
    place: Place, first: subprocess.CompletedProcess[str]
) -> None:
    by_pattern = place.run("-m", "fusion_det.run", *TINY, "--methods", "vi,em*")
    assert by_pattern.returncode == 0, by_pattern.stderr
    by_name = place.run("-m", "fusion_det.run", *TINY, "--methods", "vi,emma")
    assert by_name.returncode == 1, by_name.stderr
    for ended in (by_pattern, by_name):
        assert "weights/emma/EMMA.pth" in ended.stderr
    row = next(run for run in place.results()["runs"] if run["method"] == "emma")
    assert row["status"] == "no weights"
    assert "EMMA.pth" in row["reason"]


def test_a_network_that_learns_within_the_experiment_says_so_everywhere(
    place: Place, first: subprocess.CompletedProcess[str]
) -> None:
    pytest.importorskip("lightning", reason="Lightning is not installed")
    tiny = ("--set", "fusion_training.steps=2", "--set", "fusion_training.crop=32")
    ended = place.run("-m", "fusion_det.run", *TINY, *tiny, "--methods", "vi,irfs@trained")
    assert ended.returncode == 0, ended.stderr
    results = place.results()
    (method,) = (m for m in results["methods"] if m["name"] == "irfs-trained")
    assert method["label"] == "IRFS (trained)"
    assert method["weights"] == "trained 2 steps on demo scenes (configuration tiny), in this experiment"
    assert (method["contaminated"], method["images_trained_on"]) == (False, 0)
    (weights,) = (place.folder / "runs" / "store" / "train-fusion").glob("irfs-*/weights.json")
    learnt = set(json.loads(weights.read_text())["data"][0]["train"])
    test = {i["id"] for i in json.loads(Path(results["ground_truth"]["test"]).read_text())["images"]}
    assert learnt and not learnt & test
    report = place.folder / "reports" / "demo"
    for name in ("table_vi.md", "table_vi.json", "table_vi.csv", "index.html"):
        assert "trained 2 steps on demo scenes" in (report / name).read_text(), name


def test_the_demo_says_so_everywhere(place: Place, first: subprocess.CompletedProcess[str]) -> None:
    assert "DRAWN BY CODE" in first.stderr
    assert place.results()["dataset"]["synthetic"] is True
    for name in ("table_vi.md", "table_vi.tex", "table_vi.json", "table_vi.csv", "index.html"):
        assert "demo" in (place.folder / "reports" / "demo" / name).read_text().lower(), name


def test_every_row_carries_the_splits_digest(place: Place, first: subprocess.CompletedProcess[str]) -> None:
    results = place.results()
    metrics = next(r["metrics"] for r in results["runs"] if r["status"] == "ok")
    assert metrics["split_digest"] == results["split"]["digest"]
    assert sum(results["split"]["counts"].values()) == 24


def test_our_map_agrees_with_ultralytics_for_the_same_detections(
    place: Place, first: subprocess.CompletedProcess[str]
) -> None:
    detect = next((place.folder / "runs" / "store" / "detect").glob("vi-*/summary.json"))
    theirs = json.loads(detect.read_text())["ultralytics"]["test"]
    ours = next(r["metrics"] for r in place.results()["runs"] if r["status"] == "ok")
    # ours are clipped to the image and rounded to 1/1000 pixel
    assert ours["mAP50"] == pytest.approx(theirs["mAP50"], abs=0.005)


def test_pictures_asked_for_outside_the_test_part_are_shown_and_not_counted(
    place: Place, first: subprocess.CompletedProcess[str]
) -> None:
    results = place.results()
    run = next(r for r in results["runs"] if r["status"] == "ok")
    test = {i["id"] for i in json.loads(Path(results["ground_truth"]["test"]).read_text())["images"]}
    outside = {"00000", "00006", "00012", "00018"} - test
    assert outside, "the split has changed: choose ids of which one is in train"
    assert set(results["report"]["overlay_parts"]) == outside
    assert {i["id"] for i in json.loads(Path(results["ground_truth"]["extra"]).read_text())["images"]} == outside
    assert {d["image_id"] for d in json.loads(Path(run["detections"]["extra"]).read_text())} <= outside
    assert not {d["image_id"] for d in json.loads(Path(run["detections"]["test"]).read_text())} & outside
    assert run["metrics"]["images"] == len(test)


def test_a_second_run_does_what_is_missing_and_a_third_does_nothing(
    place: Place, first: subprocess.CompletedProcess[str]
) -> None:
    second = place.run("-m", "fusion_det.run", *TINY, "--methods", "vi")
    assert second.returncode == 0, second.stderr
    assert "nothing to do" in second.stdout
    before = {p: p.stat().st_mtime_ns for p in (place.folder / "reports" / "demo").rglob("*") if p.is_file()}
    third = place.run("-m", "fusion_det.run", *TINY, "--methods", "vi")
    assert third.returncode == 0
    after = {p: p.stat().st_mtime_ns for p in (place.folder / "reports" / "demo").rglob("*") if p.is_file()}
    assert before == after


def test_dry_run_says_what_is_cached_and_why_the_rest_is_not(
    place: Place, first: subprocess.CompletedProcess[str]
) -> None:
    shown = place.run("-m", "fusion_det.run", *TINY, "--methods", "vi", "--epochs", "2", "--dry-run")
    assert shown.returncode == 0, shown.stderr
    assert "detector.epochs: 1 → 2" in shown.stdout
    assert "cached" in shown.stdout
    assert "roughly" in shown.stdout


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ([], "demo"),
        (["--methods", "vi", "--seeds", "0,1"], "demo"),
        (["--epochs", "1", "--limit", "20"], "demo-limit_20-epochs_1"),
        (["--set", "split.seed=3", "--split", "random-712"], "demo-name_random_712-seed_3"),
        (["--name", "mine", "--epochs", "1"], "mine"),
    ],
)
def test_results_of_other_settings_take_another_name(arguments: list[str], name: str) -> None:
    """A trial with one epoch must not overwrite the table."""
    from typer.testing import CliRunner

    from fusion_det import run as module
    from fusion_det.pipeline import experiment

    seen = []

    class StopError(Exception):
        pass

    def prepare(chosen: Any, *_: Any, **__: Any) -> Any:
        seen.append(chosen.name)
        raise StopError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(experiment, "prepare", prepare)
        CliRunner().invoke(module._app(), ["--experiment", "demo", *arguments])
    assert seen == [name]


def test_status_and_report_read_the_store(place: Place, first: subprocess.CompletedProcess[str]) -> None:
    status = place.run("-m", "fusion_det.cli", "status", "--json")
    assert status.returncode == 0, status.stderr
    document = json.loads(status.stdout)
    assert document["experiments"][0]["experiment"] == "demo"
    assert document["store_bytes"]["fuse"] > 10_000
    out = place.folder / "again"
    rebuilt = place.run("-m", "fusion_det.cli", "report", "demo", "--out", str(out))
    assert rebuilt.returncode == 0, rebuilt.stderr
    assert list(out.rglob("index.html"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--methods", "laplacain"], "laplacian"),
        (["--methods", "ours=/nowhere"], "/nowhere"),
        (["--data", "/nowhere"], "/nowhere"),
        (["--experiment", "table_six"], "table_six"),
        (["--seeds", "0,x"], "--seeds"),
        (["--set", "detector.imgsz=333"], "detector.imgsz"),
        (["--device", "gpu", *TINY[:2], "--name", "other", "--detector-weights", "scratch"], "--device"),
        (["--device", "cuda:x", "--dry-run"], "--device"),
        (["--jobs", "0", "--dry-run"], "--jobs"),
        (["--set", 'title="a: b'], "--set"),
        (["--runs", "/proc/nowhere", *TINY[:2]], "/proc/nowhere"),
        (["--split-file", "/nowhere.json", *TINY[:2]], "/nowhere.json"),
        (["--detector-weights", "nothing.pt"], "nothing.pt"),
    ],
)
def test_wrong_options_end_with_code_2_and_a_cure(place: Place, arguments: list[str], words: str) -> None:
    ended = place.run("-m", "fusion_det.run", *arguments)
    assert ended.returncode == 2, ended.stderr
    assert words in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["train-fusion", "fuse", "train", "detect", "evaluate"])
def test_sigkill_during_a_stage_then_rerun_gives_the_uninterrupted_result(tmp_path: Path, kind: str) -> None:
    """The whole process group is killed while a stage of this kind works; the rerun's figures equal a clean run's."""
    learning = ("--methods", "irfs@trained", "--set", "fusion_training.steps=30", "--set", "fusion_training.crop=32")
    methods = learning if kind == "train-fusion" else ("--methods", "gff")
    arguments = ["-m", "fusion_det.run", *TINY, *methods, "--epochs", "3"]
    clean, killed = Place(tmp_path / "clean"), Place(tmp_path / "killed")
    for place in (clean, killed):
        place.folder.mkdir()
    assert clean.run(*arguments).returncode == 0
    process = subprocess.Popen([sys.executable, *arguments], cwd=killed.folder, stderr=subprocess.DEVNULL)
    store = killed.folder / "runs" / "store" / kind
    needed = {
        "train-fusion": "training/last.json",
        "fuse": "images/*.png",
        "train": "state.pt",
        "detect": "val.json",
        "evaluate": "",
    }[kind]
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline and process.poll() is None:
        if list(store.glob(f"*.partial/{needed}" if needed else "*.partial")):
            break
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert list(store.glob("*.partial")), "was killed too late"
    assert killed.run(*arguments).returncode == 0
    ours, theirs = killed.results()["runs"], clean.results()["runs"]
    for run in (*ours, *theirs):
        for key in ("detections", "training_curve", "seconds"):
            run.pop(key)
    assert ours == theirs
