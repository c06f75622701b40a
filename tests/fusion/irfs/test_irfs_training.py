"""How the fusion network of IRFS is trained: the recorded loss, what cannot be had, and a short training."""

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

from fusion_det.errors import ConfigError
from fusion_det.fusion.methods.irfs import CARD, IRFS
from fusion_det.fusion.training.recipe import NETWORK, Moment, Sources
from fusion_det.fusion.training.settings import TrainSettings, preset
from fusion_det.fusion.training.trainer import train

pytestmark = pytest.mark.usefixtures("fresh_registry")

Arrays = dict[str, torch.Tensor]


def test_the_loss_is_as_recorded(golden_loss: Arrays) -> None:
    ir, luma = (golden_loss[name][None, None] / 255 for name in ("ir_uint8", "vi_gray_uint8"))
    (phase,) = IRFS("tiny").recipe(CARD.training["paper"]).phases
    terms = phase.loss(Sources(ir, luma.expand(-1, 3, -1, -1), luma), golden_loss["fused"], 1.0)
    for term in ("total", "l1", "gradient"):
        assert terms[term].item() == pytest.approx(golden_loss[f"fusion_{term}"].item(), abs=1e-5)


def test_the_rate_is_constant() -> None:
    recipe = IRFS("tiny").recipe(CARD.training["paper"])
    assert {recipe.rate(NETWORK, Moment(step, 30)) for step in range(1, 31)} == {1e-3}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            TrainSettings(crop=64, options={"stages": 10}),
            r"options\.stages=10: .* masks of their salient objects .*VT5000",
        ),
        (TrainSettings(crop=15), "--crop 15: .* 16"),
    ],
)
def test_what_cannot_be_had(settings: TrainSettings, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        IRFS("tiny").recipe(settings)


def test_a_short_training(tmp_path: Path) -> None:
    job = job_of(write_pairs(tmp_path / "pairs"), tmp_path / "out", "irfs", config="tiny")
    summary = train(replace(job, settings=preset("small", CARD, crop=24, batch=2, epochs=10)))
    assert summary.rows[-1]["val_total"] < 0.7 * summary.rows[0]["val_total"]
    assert "first stage alone" in json.loads((tmp_path / "out" / "best.json").read_text())["deviations"]
