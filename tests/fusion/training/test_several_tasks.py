"""One network learns several tasks: in equal shares, judged by all of them alike, and every loss is told the task."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image, ImageOps

pytest.importorskip("lightning", reason="Lightning is not installed")

from training_jobs import LEARNERS, SETTINGS, write_pairs

from fusion_det.data import open_dataset
from fusion_det.errors import ConfigError
from fusion_det.fusion import load_method_modules
from fusion_det.fusion.training.launch import TrainOrder, order_as_plain, order_from_plain
from fusion_det.fusion.training.mixture import Mixture, Source, mix
from fusion_det.fusion.training.recipe import Phase, Recipe
from fusion_det.fusion.training.trainer import TrainJob, train

pytestmark = pytest.mark.usefixtures("fresh_registry")


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> list[Source]:
    """Seven infrared-visible pairs, three of two exposures."""
    root = tmp_path_factory.mktemp("made")
    roads = write_pairs(root / "roads", 7)
    lights = write_pairs(root / "lights", 3)
    for file in lights.rglob("*.png"):  # other images: the same ones are not learnt from twice
        ImageOps.invert(Image.open(file)).save(file)
    (lights / "ir").rename(lights / "over")
    (lights / "vi").rename(lights / "under")
    return [Source(open_dataset(roads)), Source(open_dataset(lights, task="multi-exposure"))]


def recorded(mixture: Mixture, out: Path, monkeypatch: pytest.MonkeyPatch, **changes: object) -> list[tuple[str, str]]:
    """(kind of step, task) of every batch that a loss saw; the loss of an exposure is a hundred, of anything else one."""
    load_method_modules([LEARNERS])
    from fusion_det.fusion.registry import default_registry

    seen: list[tuple[str, str]] = []

    def recipe(self, settings, classifier_weights=None):
        def loss(sources, fused, done):
            seen.append(("step" if torch.is_grad_enabled() else "validation", sources.task))
            return {"total": fused.square().mean() * 0 + (100 if sources.task == "multi-exposure" else 1)}

        phase = Phase("fuse", lambda s: self.network(s.ir, s.luma), loss)
        return Recipe(settings, {"network": self.network}, [phase])

    monkeypatch.setattr(type(default_registry().get("learner").factory()), "recipe", recipe)
    train(TrainJob("learner", mixture, replace(SETTINGS, batch=1, epochs=2, **changes), out, workers=0))
    return seen


def test_every_loss_is_told_its_task_and_tasks_have_equal_shares(
    sources: list[Source], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mixture = mix(sources, validation=0)
    seen = recorded(mixture, tmp_path / "out", monkeypatch)
    steps = [task for _, task in seen]
    assert len(steps) == 2 * 2 * 7  # two epochs of seven rounds, two tasks a round
    assert steps.count("ivif") == steps.count("multi-exposure")
    assert all(set(steps[i : i + 2]) == {"ivif", "multi-exposure"} for i in range(0, len(steps), 2))
    card = json.loads((tmp_path / "out" / "last.json").read_text())
    assert [origin.get("task", "ivif") for origin in card["data"]] == ["ivif", "multi-exposure"]
    assert [len(origin["train"]) for origin in card["data"]] == [7, 3]


def test_weights_are_judged_by_all_tasks_alike(
    sources: list[Source], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mixture = mix(sources, validation=4)
    assert {member.record.task for member in mixture.validation} == {"ivif", "multi-exposure"}
    assert mixture.tasks == ("ivif", "multi-exposure")
    recorded(mixture, tmp_path / "out", monkeypatch, accumulate=1)
    with (tmp_path / "out" / "curve.csv").open() as file:
        row = list(csv.DictReader(file))[-1]
    assert float(row["val_total"]) == pytest.approx(50.5)
    assert float(row["val_total_multi-exposure"]) == pytest.approx(100)


def test_every_task_is_held_out_and_learnt_from(sources: list[Source]) -> None:
    for seed in range(20):
        held_out = mix(sources, validation=2, seed=seed).validation
        assert {member.record.task for member in held_out} == {"ivif", "multi-exposure"}
    with pytest.raises(ConfigError, match=r"--validation 1: of 2 tasks hold out at least one pair each, or none"):
        mix(sources, validation=1)
    with pytest.raises(ConfigError, match=r"leaves no pair of .* to train on"):
        mix(sources, validation=9)


def test_one_task_holds_out_what_it_always_did(sources: list[Source]) -> None:
    infrared = [sources[0]]
    as_other = [replace(sources[0], dataset=replace(sources[0].dataset, task="medical"))]
    for count in (0, 1, 3):
        assert mix(infrared, validation=count).validation == mix(as_other, validation=count).validation
    assert "task" not in mix(infrared, validation=1).origins[0]
    assert mix(as_other, validation=1).origins[0]["task"] == "medical"


def test_a_training_process_is_told_the_tasks(sources: list[Source], tmp_path: Path) -> None:
    order = TrainOrder("learner", mix(sources, validation=2), SETTINGS, tmp_path)
    again = order_from_plain(json.loads(json.dumps({**order_as_plain(order), "module": None})))
    assert again.mixture.tasks == order.mixture.tasks == ("ivif", "multi-exposure")
