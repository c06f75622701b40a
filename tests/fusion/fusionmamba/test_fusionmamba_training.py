"""FusionMamba's loss against recorded values, its rates, and a short training."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

pytest.importorskip("lightning", reason="Lightning is not installed")

from training_jobs import job_of, write_pairs

from fusion_det.errors import ConfigError
from fusion_det.fusion.methods.fusionmamba import CARD, FusionMamba
from fusion_det.fusion.methods.fusionmamba.losses import fusion_loss, similarity
from fusion_det.fusion.training.recipe import NETWORK, Moment, Sources
from fusion_det.fusion.training.settings import preset
from fusion_det.fusion.training.trainer import train

pytestmark = pytest.mark.usefixtures("fresh_registry")

Arrays = dict[str, torch.Tensor]


def test_recorded_loss_and_gradient(golden_loss: Arrays) -> None:
    g = golden_loss
    fused = g["fused"].clone().requires_grad_()
    recipe = FusionMamba("tiny").recipe(CARD.training["paper"])
    sources = Sources(g["ir"], g["vi"].expand(-1, 3, -1, -1), g["vi"])
    terms = recipe.phases[0].loss(sources, fused, 0.5)
    names = {"total": "total", "structure": "ssim", "intensity": "intensity_mse", "edges": "gradient"}
    for term, name in names.items():
        torch.testing.assert_close(terms[term], g[f"loss_{name}"], atol=2e-5, rtol=0)
    terms["total"].backward()
    torch.testing.assert_close(fused.grad, g["grad_total_wrt_fused"], atol=5e-6, rtol=0)


def test_equal_images() -> None:
    image = torch.rand(2, 1, 32, 40)
    assert similarity(image, image) == pytest.approx(1, abs=1e-5)
    assert fusion_loss(image, image, image).total == pytest.approx(0, abs=1e-4)


def test_smallest_crop() -> None:
    x, y = torch.rand(2, 2, 1, 16, 16)
    assert torch.isfinite(similarity(x, y))
    with pytest.raises(ConfigError, match="from 16 pixels"):
        FusionMamba("tiny").recipe(replace(CARD.training["paper"], crop=15))


def test_images_are_clamped_before_they_are_judged_as_published() -> None:
    torch.manual_seed(0)
    method, bright = FusionMamba("tiny"), torch.full((1, 1, 32, 32), 0.9)
    sources = Sources(bright, bright.expand(-1, 3, -1, -1), bright)
    published, small = (method.recipe(CARD.training[name]) for name in ("paper", "small"))
    assert published.phases[0].forward(sources).max() == 1
    assert (
        small.phases[0].forward(sources).max() > 3
    )  # four times as bright: the published network adds its inputs twice
    assert small.deviations.startswith(published.deviations)
    assert "beyond 0 and 1" in small.deviations


def test_rates() -> None:
    moments = [Moment(step, 30_000) for step in (1, 15_000, 15_001, 30_000)]
    published, small = (FusionMamba("tiny").recipe(CARD.training[name]) for name in ("paper", "small"))
    assert [published.rate(NETWORK, moment) for moment in moments] == pytest.approx([4e-4 / 3] * 2 + [1e-4] * 2)
    rates = [small.rate(NETWORK, moment) for moment in moments]
    assert rates == pytest.approx([1e-3, 5.5e-4, 5.5e-4, 1e-4], rel=1e-3)


def test_a_short_training(tmp_path: Path) -> None:
    job = job_of(write_pairs(tmp_path / "pairs"), tmp_path / "out", "fusionmamba", config="tiny")
    settings = preset("small", CARD, crop=32, batch=2, epochs=8, peak_rate=4e-3, sample_every=1000)
    rows = train(replace(job, settings=settings)).rows
    assert rows[-1]["val_total"] < 0.7 * rows[0]["val_total"]
    card = json.loads((tmp_path / "out" / "last.json").read_text())
    assert "KAIST" in card["deviations"]
