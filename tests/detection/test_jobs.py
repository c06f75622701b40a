"""Detector processes: reproducible, exactly resumable after SIGKILL, never executing what they load."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fusion_det.detection.jobs import DetectJob, JobFile, TrainJob
from fusion_det.detection.launch import run_job
from fusion_det.detection.pretrained import load_matching, read_state_dict, resolve_weights
from fusion_det.errors import ConfigError, StageError
from fusion_det.progress import NoProgress

torch = pytest.importorskip("torch")


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A YOLO tree of ten images with a bright square each; returns its data.yaml."""
    root = tmp_path_factory.mktemp("yolo")
    rng = np.random.default_rng(0)
    for part, count in {"train": 6, "val": 2, "test": 2}.items():
        (root / "images" / part).mkdir(parents=True)
        (root / "labels" / part).mkdir(parents=True)
        for i in range(count):
            picture = rng.integers(0, 60, (64, 96, 3), np.uint8)
            x, y = int(rng.integers(0, 60)), int(rng.integers(0, 30))
            picture[y : y + 30, x : x + 30] = 220
            stem = f"{part}{i}"
            Image.fromarray(picture).save(root / "images" / part / f"{stem}.png")
            label = f"0 {(x + 15) / 96:.6f} {(y + 15) / 64:.6f} {30 / 96:.6f} {30 / 64:.6f}\n"
            (root / "labels" / part / f"{stem}.txt").write_text(label)
    (root / "data.yaml").write_text(
        "train: images/train\nval: images/val\ntest: images/test\nnames:\n  0: square\n  1: other\n"
    )
    return root / "data.yaml"


def train_job(tree: Path, out: Path, **changes: Any) -> TrainJob:
    settings: dict[str, Any] = {
        "data": tree,
        "out": out,
        "model": "yolov5n",
        "imgsz": 64,
        "batch": 2,
        "epochs": 3,
        "seed": 0,
        "threads": 1,
        # nbs 4: gradients are accumulated over two batches, which must not reach across an epoch's end
        "hyperparameters": {"optimizer": "AdamW", "lr0": 0.001, "nbs": 4, "close_mosaic": 1},
    }
    return TrainJob(**(settings | changes))


class KillAfterEpoch(NoProgress):
    """Kills the detector process (the only child) with SIGKILL when it reports its n-th epoch."""

    def __init__(self, epoch: int) -> None:
        self._left = epoch

    def advance(self, steps: int = 1, note: str = "") -> None:
        if steps and note.startswith("mAP50"):
            self._left -= 1
            if self._left == 0:
                children = Path(f"/proc/{os.getpid()}/task").glob("*/children")
                for pid in {int(p) for file in children for p in file.read_text().split()}:
                    if b"detection.worker" in Path(f"/proc/{pid}/cmdline").read_bytes():
                        os.kill(pid, signal.SIGKILL)


def curve(out: Path) -> list[list[str]]:
    """The training curve without its column of seconds."""
    rows = [line.split(",") for line in (out / "curve.csv").read_text().splitlines()]
    return [[v for i, v in enumerate(row) if i != 1] for row in rows]


@pytest.fixture(scope="module")
def trained(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("trained")
    run_job(train_job(tree, out))
    return out


def test_training_leaves_what_the_next_stages_read(trained: Path) -> None:
    summary = json.loads((trained / "summary.json").read_text())
    assert summary["built"] == "yolov5nu"
    assert 1 <= summary["best_epoch"] <= 3
    assert [row[0] for row in curve(trained)] == ["epoch", "1", "2", "3"]
    assert sorted(p.name for p in trained.iterdir()) == [
        "best.safetensors",
        "curve.csv",
        "job.json",
        "log.txt",
        "state.pt",  # the stage removes it last, so that a kill before that costs nothing
        "summary.json",
    ]


def test_a_finished_training_is_not_trained_again(trained: Path, tree: Path) -> None:
    """As after a kill between the end of the process and the end of the stage."""
    before = curve(trained)
    events = run_job(train_job(tree, trained))
    assert not [e for e in events if e["event"] in ("epoch", "batch")]
    assert curve(trained) == before


def test_killed_and_resumed_training_is_the_training_that_was_not(trained: Path, tree: Path, tmp_path: Path) -> None:
    job = train_job(tree, tmp_path / "killed")
    with pytest.raises(StageError, match="signal 9"):
        run_job(job, progress=KillAfterEpoch(2))
    assert (job.out / "state.pt").is_file()
    events = run_job(job)
    # the first epoch's state is always written, the second's only if fifteen seconds have passed
    assert [e["epoch"] for e in events if e["event"] == "resume"] in ([1], [2])
    assert curve(job.out) == curve(trained)
    ours, theirs = read_state_dict(job.out / "best.safetensors"), read_state_dict(trained / "best.safetensors")
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_another_seed_is_another_training(trained: Path, tree: Path, tmp_path: Path) -> None:
    run_job(train_job(tree, tmp_path / "seed1", seed=1, epochs=1))
    assert curve(tmp_path / "seed1")[1] != curve(trained)[1]


def test_two_seeds_give_two_data_orders_and_one_seed_gives_one() -> None:
    from fusion_det.detection.sampling import EpochSampler

    def orders(seed: int, first_epoch: int = 0) -> list[list[tuple[int, int]]]:
        sampler = EpochSampler(50, seed, first_epoch)
        return [list(sampler), list(sampler)]

    assert orders(0) == orders(0)
    assert orders(0) != orders(1)
    assert [i for _, i in orders(0)[0]] != [i for _, i in orders(0)[1]], "epochs differ too"
    assert orders(0)[1] == orders(0, first_epoch=1)[0], "resuming at epoch 1 draws what epoch 1 would have drawn"
    for order in orders(3):
        assert sorted(i for _, i in order) == list(range(50))


def test_samples_do_not_depend_on_what_was_loaded_before(tree: Path) -> None:
    """One (seed, epoch, image) gives one picture, whatever was drawn in between; another epoch or seed gives another."""
    from ultralytics.cfg import get_cfg
    from ultralytics.data import build_yolo_dataset
    from ultralytics.data.utils import check_det_dataset

    from fusion_det.detection.sampling import SeededSamples

    config = get_cfg(overrides={"imgsz": 64, "augmentations": [], "cache": False})
    data = check_det_dataset(str(tree))

    def samples(seed: int) -> SeededSamples:
        return SeededSamples(build_yolo_dataset(config, data["train"], 2, data), seed)

    straight = samples(0)
    first = straight[(0, 3)]["img"]
    wandering = samples(0)
    for key in [(0, 1), (5, 2), (0, 0)]:
        wandering[key]
    assert torch.equal(wandering[(0, 3)]["img"], first)
    assert not torch.equal(straight[(1, 3)]["img"], first)
    assert not torch.equal(samples(1)[(0, 3)]["img"], first)


def test_batches_do_not_depend_on_the_number_of_loading_processes(tree: Path, tmp_path: Path) -> None:
    """Two epochs of batches, loaded in-process and by two workers that run ahead into the second epoch."""
    from fusion_det.detection.trainer import build_trainer

    trainer = build_trainer(train_job(tree, tmp_path), lambda *_, **__: None)
    trainer.setup_model()

    def batches(workers: int) -> list[Any]:
        trainer.args.workers = workers
        loader = trainer.get_dataloader(trainer.data["train"], batch_size=2)
        assert loader.num_workers == workers
        drawn = [(b["im_file"], b["img"].clone()) for _ in range(2) for b in loader]
        loader.close()
        return drawn

    for (files, images), (others, pictures) in zip(batches(0), batches(2), strict=True):
        assert files == others
        assert torch.equal(images, pictures)


def test_detections_are_coco_results_and_agree_with_ultralytics(trained: Path, tree: Path, tmp_path: Path) -> None:
    job = DetectJob(
        data=tree,
        out=tmp_path / "detect",
        model="yolov5n",
        imgsz=64,
        batch=2,
        threads=1,
        weights=trained / "best.safetensors",
    )
    run_job(job)
    found = json.loads((job.out / "test.json").read_text())
    assert {d["image_id"] for d in found} <= {"test0", "test1"}
    for d in found:
        x, y, w, h = d["bbox"]
        assert x >= 0 and y >= 0 and x + w <= 96.01 and y + h <= 64.01
        assert 0.001 <= d["score"] <= 1
        assert d["category_id"] in (1, 2)
    assert set(json.loads((job.out / "summary.json").read_text())["ultralytics"]) == {"val", "test"}


def test_a_failing_process_is_reported_with_its_log(tree: Path, tmp_path: Path) -> None:
    missing = tree.with_name("gone.yaml")
    with pytest.raises(StageError, match=r"gone\.yaml.*Log: .*log\.txt"):
        run_job(train_job(missing, tmp_path / "out"))


def test_cancelling_stops_the_process(tree: Path, tmp_path: Path) -> None:
    cancelled = threading.Event()
    threading.Timer(1.0, cancelled.set).start()
    with pytest.raises(StageError, match="stopped on request"):
        run_job(train_job(tree, tmp_path / "out", epochs=1000), cancelled=cancelled)


def test_the_process_ends_when_its_parent_is_gone(tree: Path, tmp_path: Path) -> None:
    out = tmp_path / "orphan"
    out.mkdir()
    (out / "job.json").write_text(JobFile(job=train_job(tree, out, epochs=1000)).model_dump_json())
    read_end, write_end = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-m", "fusion_det.detection.worker", str(out / "job.json")],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=(write_end,),
        env={**os.environ, "FUSION_DET_EVENTS": str(write_end)},
    )
    os.close(write_end)
    with os.fdopen(read_end) as events:
        json.loads(events.readline())  # it is under way
        assert process.stdin is not None
        process.stdin.close()  # what the death of a parent does
        deadline = time.monotonic() + 20
        while process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
    assert process.poll() == 143


def test_a_pickle_that_would_run_code_is_refused(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (os.mkdir, (str(tmp_path / "executed"),))

    for name, write in {
        "pickle.pt": lambda f: pickle.dump({"model": Evil()}, f),
        "torch.pt": lambda f: torch.save({"model": Evil()}, f),
    }.items():
        with (tmp_path / name).open("wb") as file:
            write(file)
        with pytest.raises(ConfigError, match=name):
            read_state_dict(tmp_path / name)
    assert not (tmp_path / "executed").exists()


def test_ultralytics_own_checkpoint_is_read_without_executing_it(tmp_path: Path) -> None:
    from ultralytics.nn.tasks import DetectionModel

    model = DetectionModel("yolov5n.yaml", nc=80, verbose=False)
    torch.save({"epoch": 3, "model": model.half(), "ema": None, "train_args": {}}, tmp_path / "yolov5nu.pt")
    state = read_state_dict(tmp_path / "yolov5nu.pt")
    fresh = DetectionModel("yolov5n.yaml", nc=6, verbose=False)
    transfer = load_matching(fresh, state)
    # Only the class branch depends on the number of classes: its last convolution, weight and bias, at three strides, and
    # the layers before it whose width follows from that number.
    assert transfer.left
    assert all(".cv3." in name for name in transfer.left)
    assert transfer.taken + len(transfer.left) == transfer.total


def test_published_coco_weights_fit_as_recorded(shared_data: Path) -> None:
    """342 of the 349 tensors match, says the README beside the file."""
    from ultralytics.nn.tasks import DetectionModel

    file = resolve_weights(str(shared_data / "weights" / "yolov5n_coco"), "yolov5n")
    assert file is not None
    state = read_state_dict(file)
    assert len(state) == 349
    assert load_matching(DetectionModel("yolov5n.yaml", nc=3, verbose=False), state).taken == 342


def test_weights_that_cannot_be_had_name_the_alternatives(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FUSION_DET_WEIGHTS", raising=False)

    def offline(*_: Any, **__: Any) -> Any:
        raise OSError("no network")

    monkeypatch.setattr("urllib.request.urlopen", offline)
    with pytest.raises(ConfigError, match=r"weights/yolov5su\.pt.*--detector-weights FILE.*scratch"):
        resolve_weights("auto", "yolov5s")
    assert resolve_weights("scratch", "yolov5s") is None
    with pytest.raises(ConfigError, match="no such file"):
        resolve_weights("nothing.safetensors", "yolov5s")


def test_weights_of_another_architecture_are_refused() -> None:
    """A YOLOv5n file has tensors of a YOLOv5s' names, and a few of its shapes; that is no pretraining."""
    from ultralytics.nn.tasks import DetectionModel

    small = DetectionModel("yolov5n.yaml", nc=3, verbose=False).state_dict()
    with pytest.raises(ConfigError, match=r"another architecture.*detector\.model"):
        load_matching(DetectionModel("yolov5s.yaml", nc=3, verbose=False), small)
    with pytest.raises(ConfigError, match="another architecture"):
        load_matching(torch.nn.Linear(2, 2), {"elsewhere": torch.zeros(3)})


def test_running_out_of_memory_does_not_change_the_protocol(tree: Path, tmp_path: Path) -> None:
    """ultralytics would halve the batch and go on."""
    from fusion_det.detection.trainer import build_trainer

    trainer = build_trainer(train_job(tree, tmp_path / "oom"), lambda *_, **__: None)
    trainer._oom_retries = 1
    with pytest.raises(StageError, match=r"detector\.batch"):
        trainer._build_train_pipeline()
