"""MambaDFuse's loss against recorded values, its rates, and a short training."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

pytest.importorskip("lightning", reason="Lightning is not installed")

from training_jobs import job_of, write_pairs

from fusion_det.fusion.methods.mambadfuse import CARD, MambaDFuse
from fusion_det.fusion.methods.mambadfuse.losses import fusion_loss, mean_ssim
from fusion_det.fusion.training.recipe import NETWORK, Moment, Sources
from fusion_det.fusion.training.settings import preset
from fusion_det.fusion.training.trainer import train

pytestmark = pytest.mark.usefixtures("fresh_registry")

Arrays = dict[str, torch.Tensor]


def test_recorded_loss_and_gradient(golden_loss: Arrays) -> None:
    g = golden_loss
    fused = g["fused"].clone().requires_grad_()
    recipe = MambaDFuse("tiny").recipe(CARD.training["paper"])
    sources = Sources(g["ir"], g["vi"].expand(-1, 3, -1, -1), g["vi"])
    terms = recipe.phases[0].loss(sources, fused, 0.5)
    for term, name in (("total", "total"), ("intensity", "intensity"), ("edges", "gradient"), ("structure", "ssim")):
        torch.testing.assert_close(terms[term], g[f"loss_{name}"], atol=5e-5, rtol=0)
    terms["total"].backward()
    torch.testing.assert_close(fused.grad, g["grad_total_wrt_fused"], atol=1e-5, rtol=0)


def test_equal_images() -> None:
    image = torch.rand(2, 1, 20, 20)
    terms = fusion_loss(image, image, image)
    assert mean_ssim(image, image) == pytest.approx(1)
    assert terms.total == pytest.approx(0, abs=1e-4)


def test_rates() -> None:
    moments = [Moment(step, 10_000) for step in (1, 5_000, 10_000)]
    published, small = (MambaDFuse("tiny").recipe(CARD.training[name]) for name in ("paper", "small"))
    assert [published.rate(NETWORK, moment) for moment in moments] == [2e-5] * 3
    rates = [small.rate(NETWORK, moment) for moment in moments]
    assert rates == pytest.approx([1e-3, 5.5e-4, 1e-4], rel=1e-3)


def test_a_short_training(tmp_path: Path) -> None:
    job = job_of(write_pairs(tmp_path / "pairs"), tmp_path / "out", "mambadfuse", config="tiny")
    settings = preset("small", CARD, crop=24, batch=2, epochs=8, peak_rate=5e-3, sample_every=1000)
    rows = train(replace(job, settings=settings)).rows
    assert rows[-1]["val_total"] < 0.7 * rows[0]["val_total"]
    assert "flipped" in json.loads((tmp_path / "out" / "last.json").read_text())["deviations"]
