"""``fusion-det ablation`` as a person types it, on a network that takes a second to train."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

pytest.importorskip("lightning", reason="Lightning is not installed")

from training_jobs import write_pairs

from fusion_det.ablation.plan import plan_ablation
from fusion_det.ablation.results import AblationResults
from fusion_det.ablation.settings import AblationSettings
from fusion_det.cli import main
from fusion_det.config import load_command_settings
from fusion_det.errors import FusionDetError
from fusion_det.fusion import load_method_modules
from fusion_det.fusion.training.classifiers import Classifier
from fusion_det.pipeline.experiment import Places

VARIANTS = str(Path(__file__).with_name("variants.py"))
EXPERIMENT = """
command: ablation
title: Without its parts
method: ablated
training: {{data: [{data}], validation: 3, steps: 3, crop: 24, batch: 2, classifier: none, workers: 0}}
variants:
  - {{name: half, config: half, label: "half, w/o SSIM", settings: {{weights: {{ssim: 0}}}}, paper_row: Exp.1}}
  - {{name: breaking, config: breaking}}
  - {{name: whole, label: Ours, paper_row: Exp.8}}
metrics: [SF, Qabf]
entropy: {{variants: [whole, half], classifier: made_up}}
pictures: 2
"""


class TwoClasses(nn.Module):
    def forward(self, x):
        return x.mean((2, 3))[:, :2] * torch.tensor([1.0, -1.0])


def made_up(name: str, weights: Path | None = None) -> Classifier:
    assert name == "made_up"
    return Classifier([nn.Identity()], TwoClasses())


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(["ablation", *map(str, arguments)])
    captured = capsys.readouterr()
    return int(ended.value.code or 0), captured.out, captured.err


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pairs(tmp_path_factory.mktemp("made") / "pairs", count=9)


@pytest.fixture
def file(pairs: Path, tmp_path: Path) -> Path:
    written = tmp_path / "mine.yaml"
    written.write_text(EXPERIMENT.format(data=pairs))
    return written


def planned(file: Path, tmp_path: Path, **changes: object):
    load_method_modules([VARIANTS])
    settings = load_command_settings(AblationSettings, "ablation", file).with_changes(changes)
    return plan_ablation(settings, Places(tmp_path / "runs", tmp_path / "reports"))


def test_from_the_file_to_the_page(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three variants, of which one breaks: that is a row that says so, and the exit code. Again: only that one is tried."""
    monkeypatch.setattr("fusion_det.fusion.training.classifiers.build_classifier", made_up)
    monkeypatch.setenv("COLUMNS", "200")
    places = (
        "--runs",
        tmp_path / "runs",
        "--reports",
        tmp_path / "reports",
        "--device",
        "cpu",
        "--method-module",
        VARIANTS,
    )
    code, out, err = run(capsys, "-e", file, *places)
    assert code == 1
    assert "no figures for breaking seed 0: training ablated process failed" in err
    assert "w/o SSIM" in out and "SHORT TRAINING" in out
    results = AblationResults.load(tmp_path / "runs" / "experiments" / "mine" / "ablation.json")
    ends = {t.variant: (t.steps, bool(t.reason)) for t in results.trials}
    assert ends == {"half": (3, False), "breaking": (None, True), "whole": (3, False)}
    counts = {v.name: (v.parameters, v.parameters_used) for v in results.variants}
    assert counts["whole"] == (19 + 16, 19) and counts["half"] == (10 + 16, 10)
    assert (results.budget.epochs, results.learnt_from) == (1.0, "6 pairs of pairs")
    cards = {t.variant: json.loads(t.weights.with_suffix(".json").read_text()) for t in results.trials if t.weights}
    for card in cards.values():
        assert not set(card["data"][0]["train"]) & set(results.sources)
        assert (len(card["data"][0]["train"]), card["data"][0]["validation"]) == (6, [])
    assert {name: card["config"] for name, card in cards.items()} == {"half": "half", "whole": "whole"}
    assert [cards[name]["settings"]["weights"]["ssim"] for name in ("half", "whole")] == [0, 15]
    assert results.control is not None
    assert set(results.source_entropies) == {"infrared", "visible"}
    page = (tmp_path / "reports" / "mine" / "index.html").read_text()
    assert "How sure the classifier is" in page and "breaking" in page
    code, out, err = run(capsys, "-e", file, *places, "--dry-run")
    assert code == 0
    assert (out.count("cached"), out.count("runs: ")) == (12, 3)
    capsys.readouterr()
    code, out, err = run(capsys, "-e", file, *places, "--variants", "half,whole", "--name", "two")
    assert (code, "nothing to do" in out) == (0, True)


def test_what_is_measured_elsewhere_is_not_learnt_from(file: Path, pairs: Path, tmp_path: Path) -> None:
    measured = {"data": {"source": str(pairs)}, "ids": ("01", "05", "nowhere")}
    plan = planned(file, tmp_path, measured=measured, training={"validation": 0}, picture_ids=())
    assert [record.stem for record in plan.pairs.records] == ["01", "05"]
    assert plan.pairs.absent == ("nowhere",)
    assert {m.record.stem for m in plan.pairs.mixture.train} == {f"{i:02d}" for i in range(9)} - {"01", "05"}


def test_every_seed_is_a_training(file: Path, tmp_path: Path) -> None:
    plan = planned(file, tmp_path, seeds=(0, 7))
    assert [(t.variant.name, t.seed) for t in plan.trials][:3] == [("half", 0), ("half", 7), ("breaking", 0)]
    trainings = [t.train for t in plan.trials]
    assert len({stage.digest for stage in trainings}) == len({stage.label for stage in trainings}) == 6
    assert {t.entropy is not None for t in plan.trials if t.variant.name in ("whole", "half")} == {True}
    held_out = [record.stem for record in plan.pairs.records]
    assert held_out == [record.stem for record in planned(file, tmp_path).pairs.records]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"method": "mean", "variants": ({"name": "a"},), "reference": "", "entropy": None}, "learns nothing"),
        ({"method": "nothing"}, "nothing"),
        ({"variants": ({"name": "whole", "config": "wholly"}, {"name": "half"})}, "no configuration 'wholly'"),
        ({"training": {"validation": 9}}, "leaves none to train on"),
        ({"picture_ids": ("77",)}, "77"),
    ],
)
def test_what_cannot_be_done_is_said_before_any_work(
    file: Path, tmp_path: Path, changes: dict[str, object], words: str
) -> None:
    with pytest.raises(FusionDetError, match=words):
        planned(file, tmp_path, **changes)


def test_other_figures_have_another_name(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("-e", file, "--method-module", VARIANTS, "--runs", tmp_path / "runs", "--dry-run")
    _, out, _ = run(capsys, *options, "--minutes", 2, "--seeds", "0,1", "--crop", 30)
    assert "mine-minutes_2-crop_30-seeds_0_1" in out.replace("\n", "").replace(" ", "")
    assert "trained 2.0 minutes with batch 2 on 6 pairs, crops of 32 pixels" in out
    code, _, err = run(capsys, *options, "--variants", "half,quarter")
    assert code == 2 and "quarter" in err
    code, _, err = run(capsys, *options, "--seeds", "one")
    assert code == 2 and "whole numbers" in err
