"""Experiments as files: the shipped ones are valid, wrong ones are refused with the setting's name."""

from __future__ import annotations

from pathlib import Path

import pytest

from fusion_det.config import experiment_names, experiments_dir, load_experiment
from fusion_det.errors import ConfigError


@pytest.mark.parametrize("name", experiment_names())
def test_every_shipped_experiment_is_valid(name: str) -> None:
    file = experiments_dir() / f"{name}.yaml"
    assert load_experiment(file).name == name
    assert load_experiment(name) == load_experiment(file)


def test_settings_of_another_command_are_no_experiment() -> None:
    assert "efficiency" not in experiment_names()
    with pytest.raises(ConfigError, match="use fusion-det efficiency -e"):
        load_experiment("efficiency")


def test_table_vi_is_the_papers_protocol() -> None:
    """S4Fusion paper, Sec. IV-A3: YOLOv5s, pretrained, 40 epochs, 7:1:2; Fig. 11 shows image 00215."""
    e = load_experiment("table_vi")
    assert (e.data.source, e.split.name) == ("m3fd", "random-712")
    assert (e.detector.model, e.detector.weights, e.detector.epochs, e.detector.imgsz) == ("yolov5s", "auto", 40, 640)
    assert e.report.overlay_ids == ("00215",)
    assert e.detector.hyperparameters["lr0"] == 0.01


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("detector: {epochs: 0}", "detector.epochs"),
        ("detector: {imgsz: 300}", "detector.imgsz"),
        ("detector: {epoch: 3}", "detector.epoch"),
        ("detector: {hyperparameters: {seed: 3}}", "seed"),
        ("detector: {model: yolov8s}", "detector.model"),
        ("seeds: [1, 1]", "seeds"),
        ("seeds: [-1]", "seeds"),
        ("detector: {hyperparameters: {lr_0: 0.1}}", "lr0"),
        ("report: {overlay_ids: [00215]}", "quote"),
        ("methods: []", "methods"),
        ("name: ../escape", "name"),
        ("split: {name: random}", "split.name"),
        ("- just a list", "mapping"),
        ("a: [", "not valid YAML"),
    ],
)
def test_wrong_settings_are_named(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=words) as caught:
        load_experiment(file)
    assert "mine.yaml" in str(caught.value)


def test_unknown_experiment_names_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"demo.*table_vi"):
        load_experiment("table_six")


def test_changes_are_checked_like_files() -> None:
    e = load_experiment("demo")
    assert e.with_changes({"detector.epochs": 3}).detector.epochs == 3
    assert e.with_changes({"detector.hyperparameters": {"lr0": 0.5}}).detector.hyperparameters["momentum"] == 0.937
    for changes in ({"detector.epochs": "many"}, {"detector.nothing": 1}, {"nowhere.at": 1}, {"data.limit": 0}):
        with pytest.raises(ConfigError):
            e.with_changes(changes)
