"""Networks trained within an experiment: on which pairs, when again, and what is said of them."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("lightning", reason="Lightning is not installed")

sys.path.append(str(Path(__file__).parents[1] / "fusion" / "training"))

from training_jobs import LEARNERS, write_pairs

from fusion_det.config import Experiment, FusionTrainingConfig, load_experiment
from fusion_det.data import Boxes, PairDataset, Split, open_dataset
from fusion_det.errors import ConfigError, MethodError
from fusion_det.fusion import MethodSpec, get_card, load_method_modules, registry
from fusion_det.fusion.training.mixture import Mixture
from fusion_det.pipeline.engine import run_plan
from fusion_det.pipeline.fusion_training import is_trained_here, train_fusion_stage, training_mixture
from fusion_det.pipeline.plan import Plan, _method_info, build_plan, rows_of
from fusion_det.pipeline.stage import Outcome, Slot, Stage
from fusion_det.pipeline.store import Store

CPU = (Slot("cpu", 1),)
TINY: dict[str, Any] = {"steps": 2, "crop": 24, "batch": 2, "classifier": "none", "workers": 0}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> PairDataset:
    """Eleven pairs with a box each."""
    opened = open_dataset(write_pairs(tmp_path_factory.mktemp("made") / "pairs"))
    boxes = Boxes(np.array([[1.0, 1.0, 9.0, 9.0]]), np.array([0]))
    return replace(opened, classes=("Car",), records=tuple(replace(record, boxes=boxes) for record in opened))


@pytest.fixture
def split(dataset: PairDataset) -> Split:
    stems = [record.stem for record in dataset]
    return Split("s", 0, {"train": tuple(stems[:6]), "val": tuple(stems[6:8]), "test": tuple(stems[8:])}, dataset.name)


@pytest.fixture(autouse=True)
def _learners(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    registry.default_registry.cache_clear()
    load_method_modules([LEARNERS])
    monkeypatch.chdir(tmp_path)
    yield
    registry.default_registry.cache_clear()


def experiment(**changes: Any) -> Experiment:
    return load_experiment("table_vi").with_changes(changes)


def mixture_of(dataset: PairDataset, split: Split, config: FusionTrainingConfig) -> Mixture:
    return training_mixture(config, dataset, split, lambda name, task: open_dataset(name, task=task))


def plan_of(dataset: PairDataset, split: Split, **changes: Any) -> Plan:
    chosen = experiment(**{"quality.images": "none", **changes})
    mixture = mixture_of(dataset, split, chosen.fusion_training)
    return build_plan(chosen, dataset, split, None, mixture)


def test_what_is_trained() -> None:
    never, missing = FusionTrainingConfig(), FusionTrainingConfig(when="missing")
    trained = MethodSpec("learner-trained", method="learner", weights="trained")
    assert is_trained_here(trained, never)
    assert is_trained_here(MethodSpec("learner"), missing)
    for spec in (
        MethodSpec("learner-official", method="learner", weights="official"),
        MethodSpec("mean"),
        MethodSpec("x", Path("x")),
    ):
        assert not is_trained_here(spec, missing)
    assert not is_trained_here(MethodSpec("learner"), never)


def test_what_is_tested_on_is_not_learnt_from(dataset: PairDataset, split: Split, tmp_path: Path) -> None:
    tested = {f"{dataset.name}/{stem}" for part in ("val", "test") for stem in split.ids[part]}
    mixture = mixture_of(dataset, split, FusionTrainingConfig())
    assert {m.id for m in mixture.train} == {f"{dataset.name}/{stem}" for stem in split.ids["train"]}
    copy = tmp_path / "copy"
    shutil.copytree(dataset.root, copy)
    for folder in ("ir", "vi"):
        for file in (copy / folder).iterdir():
            file.rename(file.with_stem(f"renamed{file.stem}"))
    mixture = mixture_of(dataset, split, FusionTrainingConfig(data=(str(copy),)))
    assert {m.id.replace("copy/renamed", f"{dataset.name}/") for m in mixture.train}.isdisjoint(tested)
    assert len(mixture.train) == 6
    with pytest.raises(ConfigError, match="leaves none to train on"):
        mixture_of(dataset, split, FusionTrainingConfig(validation=6))


def test_rows_of_one_network_and_what_they_say(dataset: PairDataset, split: Split, tmp_path: Path) -> None:
    """Three rows: two share a training; nothing is shipped. The weights go into the images, and into what results say."""
    methods = ("learner", "learner@trained", "learner@shipped")
    plan = plan_of(dataset, split, methods=methods, fusion_training={**TINY, "when": "missing"})
    assert set(plan.training) == {"learner", "learner-trained"}
    assert list(plan.unready) == ["learner-shipped"]
    assert "learner@trained" in plan.unready["learner-shipped"]
    assert sum(stage.kind == "train-fusion" for stage in plan.stages) == 1
    fused = [row.fuse for row in plan.rows]
    store = Store(tmp_path / "store")
    outcomes = run_plan([*plan.training.values(), *fused], store, CPU)
    assert {outcome.state for outcome in outcomes.values()} == {"done"}
    nothing = {stage.digest: Outcome("skipped") for stage in plan.stages}
    infos = {spec.name: _method_info(plan, spec, {**nothing, **outcomes}) for spec in plan.methods}
    info = infos["learner"]
    assert (info.weights_source, info.label, info.method) == ("trained", "learner (trained)", "learner")
    assert info.weights == f"trained 2 steps on {dataset.name}, in this experiment"
    assert (info.trained_on, info.contaminated, info.images_trained_on) == ((dataset.name,), False, 0)
    assert infos["learner-shipped"].label == "learner (shipped)"
    assert len({info.label for info in infos.values()}) == 2


def test_it_runs_once_and_again_only_for_other_trainings(dataset: PairDataset, split: Split, tmp_path: Path) -> None:
    config = FusionTrainingConfig(**TINY)
    store = Store(tmp_path / "store")
    stage = train_fusion_stage("learner", config, mixture_of(dataset, split, config))
    assert ends(store, stage).state == "done"
    again = train_fusion_stage("learner", config, mixture_of(dataset, split, config))
    assert ends(store, again).state == "cached"
    folder = store.folder(stage)
    assert sorted(file.name for file in folder.iterdir()) == [
        "curve.csv", "curve.png", "log.txt", "manifest.json", "samples", "weights.json", "weights.safetensors",
    ]  # fmt: skip
    card = json.loads((folder / "weights.json").read_text())
    assert (card["step"], card["file"]) == (2, "weights.safetensors")
    held_out = FusionTrainingConfig(**TINY, validation=1)
    others = [
        train_fusion_stage("learner", FusionTrainingConfig(**{**TINY, "steps": 3}), mixture_of(dataset, split, config)),
        train_fusion_stage("learner", FusionTrainingConfig(**TINY, seed=1), mixture_of(dataset, split, config)),
        train_fusion_stage("learner", config, mixture_of(dataset, split, held_out)),
        train_fusion_stage("colourlearner", config, mixture_of(dataset, split, config)),
    ]
    assert len({stage.digest, *(other.digest for other in others)}) == 5


def ends(store: Store, stage: Stage) -> Outcome:
    return run_plan([stage], store, CPU)[stage.digest]


def test_a_killed_stage_continues_wherever_it_was(
    dataset: PairDataset, split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after its training, while keeping the results, and while removing what it no longer needs."""
    from fusion_det.pipeline import fusion_training as module

    config = FusionTrainingConfig(**TINY)
    store = Store(tmp_path / "store")
    stage = train_fusion_stage("learner", config, mixture_of(dataset, split, config))

    class PowerIsGoneError(BaseException):
        pass

    def fails(*_: object, **__: object) -> None:
        raise PowerIsGoneError

    trainings = []
    train = module.run_training
    monkeypatch.setattr(module, "run_training", lambda *a: trainings.append(train(*a)))
    for name in ("write_json", "shutil.rmtree"):
        with monkeypatch.context() as patch:
            patch.setattr(f"{module.__name__}.{name}", fails)
            with pytest.raises(PowerIsGoneError):
                ends(store, stage)
        assert store.why_stale(stage) == "interrupted, continues"
    assert ends(store, stage).state == "done"
    assert len(trainings) == 2  # the second found that there was nothing left to learn
    assert not list(store.folder(stage).glob(".*"))


def test_networks_without_weights_wait_unless_asked_to_learn(dataset: PairDataset, split: Split) -> None:
    plan = build_plan(experiment(methods=("learner", "mean")), dataset, split, None)
    assert list(plan.unready) == ["learner"]
    assert "fusion-det train-fusion learner" in plan.unready["learner"]
    assert not plan.training


def test_the_settings_are_checked(tmp_path: Path) -> None:
    for wrong in (
        {"steps": 0},
        {"steps": 1, "epochs": 1},
        {"preset": "huge"},
        {"settings": {"clip": "x"}},
        {"settings": {"seed": 1}},
    ):
        with pytest.raises(ConfigError, match="fusion_training"):
            experiment(fusion_training=wrong)
    config = experiment(
        fusion_training={"settings": {"clip": 2}, "methods": {"learner": {"clip": 3, "weights": {"l1": 4}}}}
    )
    assert config.fusion_training.resolved().clip == 2
    learner = config.fusion_training.resolved(get_card("learner"))
    assert (learner.clip, learner.weights.l1, learner.weights.ssim) == (3, 4, 15)
    with pytest.raises(MethodError, match="did you mean learner"):
        rows_of(experiment(fusion_training={"methods": {"lerner": {}}}))
