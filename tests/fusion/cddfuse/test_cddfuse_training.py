"""How CDDFuse is trained: its phases against recorded losses, what learns when and at which rate, and a short training."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

pytest.importorskip("lightning", reason="Lightning is not installed")

sys.path.append(str(Path(__file__).parents[1] / "training"))

from training_jobs import job_of, write_pairs

from fusion_det.fusion.methods.cddfuse import CARD, CDDFuse
from fusion_det.fusion.methods.cddfuse.network import CDDFuseNet
from fusion_det.fusion.methods.cddfuse.training import CODING, FUSING, CDDFuseRecipe
from fusion_det.fusion.training.recipe import Moment, Sources
from fusion_det.fusion.training.settings import preset
from fusion_det.fusion.training.trainer import train

pytestmark = pytest.mark.usefixtures("fresh_registry")

Arrays = dict[str, torch.Tensor]


def test_both_phases_are_as_recorded(golden: Arrays, damped_network: CDDFuseNet) -> None:
    recipe = CDDFuseRecipe(CARD.training["paper"], damped_network)
    sources = Sources(golden["ir"], golden["vi"].expand(-1, 3, -1, -1), golden["vi"])
    outputs = [phase.forward(sources) for phase in recipe.phases]
    torch.testing.assert_close(outputs[1].fused, golden["damped_fused"], atol=1e-4, rtol=0)
    for phase, output, name in zip(recipe.phases, outputs, ("phase1", "phase2"), strict=True):
        total = phase.loss(sources, output, 1.0)["total"]
        torch.testing.assert_close(total[None], golden[f"damped_loss_{name}"], atol=1e-3, rtol=0)


def test_crops_without_contrast_teach_nothing() -> None:
    recipe = CDDFuse("tiny").recipe(preset("small", CARD))
    ir, vi = torch.rand(2, 2, 1, 16, 16)
    black = torch.zeros(1, 1, 16, 16)
    for phase in recipe.phases:
        losses = []
        for more_ir, more_vi in ((ir[:0], vi[:0]), (ir[:1], black), (black, vi[:1])):
            pair = torch.cat((ir, more_ir)), torch.cat((vi, more_vi))
            sources = Sources(pair[0], pair[1].expand(-1, 3, -1, -1), pair[1])
            with torch.no_grad():
                losses.append(float(phase.loss(sources, phase.forward(sources), 1.0)["total"]))
        assert losses[1] == losses[2] == pytest.approx(losses[0], rel=1e-5)


def test_rates_are_halved_every_twenty_epochs_those_of_the_fusion_layers_from_the_second_phase_on() -> None:
    """Of 120 epochs of one step."""
    recipe = CDDFuse("tiny").recipe(CARD.training["paper"])
    moments = [Moment(step, 120, int(step > 40), 40 * (step > 40), 120 if step > 40 else 40) for step in range(1, 121)]
    coding = [recipe.rate(CODING[0], moment) for moment in moments]
    fusing = [recipe.rate(FUSING[0], moment) for moment in moments[40:]]
    assert coding == pytest.approx([1e-4 * 0.5 ** (epoch // 20) for epoch in range(120)])
    assert fusing == pytest.approx([1e-4 * 0.5 ** (epoch // 20) for epoch in range(80)])
    low = CDDFuse("tiny").recipe(replace(CARD.training["paper"], final_rate=1e-5))
    assert low.rate(CODING[0], moments[-1]) == 1e-5


def test_published_settings() -> None:
    recipe = CDDFuse("tiny").recipe(CARD.training["paper"])
    assert recipe.clip_each and recipe.settings.clip == 0.01
    assert isinstance(recipe.optimizer([{"params": [torch.zeros(1, requires_grad=True)]}]), torch.optim.Adam)
    assert [(phase.learns, phase.share, phase.fuses) for phase in recipe.phases] == [
        (CODING, 40, False),
        ((*CODING, *FUSING), 80, True),
    ]


def test_a_short_training(tmp_path: Path) -> None:
    job = job_of(write_pairs(tmp_path / "pairs"), tmp_path / "out", "cddfuse", config="tiny")
    settings = preset("small", CARD, crop=24, batch=2, epochs=12, peak_rate=6e-3)
    summary = train(replace(job, settings=replace(settings, final_rate=1e-3, sample_every=1000)))
    rebuilding = [row["total"] for row in summary.rows if "slopes" in row]
    fusing = [row["val_total"] for row in summary.rows if "edges" in row]
    assert (len(rebuilding), len(fusing)) == (4, 8)
    assert rebuilding[-1] < 0.7 * rebuilding[0]
    assert fusing[-1] < 0.8 * fusing[0]
    assert "without contrast" in json.loads((tmp_path / "out" / "best.json").read_text())["deviations"]
