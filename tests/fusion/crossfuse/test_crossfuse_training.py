"""How CrossFuse is trained: its losses against recorded values and closed forms, what learns when, and a short training."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage

from fusion_det.errors import ConfigError
from fusion_det.fusion.methods.crossfuse import CARD, CrossFuse
from fusion_det.fusion.methods.crossfuse.losses import fusion_loss, multi_scale_ssim, rebuilding_loss, ridges
from fusion_det.fusion.methods.crossfuse.network import CrossFuseNet, stretched
from fusion_det.fusion.training.settings import preset

sys.path.append(str(Path(__file__).parents[1] / "training"))

Arrays = dict[str, torch.Tensor]


def test_rebuilding_loss_is_as_recorded(golden: Arrays, filled_network: CrossFuseNet) -> None:
    rebuilt = 255 * filled_network.auto_encoder_ir(golden["ir"])
    terms = rebuilding_loss(rebuilt, 255 * golden["ir"])
    torch.testing.assert_close(terms.pixels[None], golden["ae_loss_mse"], atol=0.1, rtol=0)
    torch.testing.assert_close(terms.structure[None], golden["ae_loss_msssim"], atol=1e-4, rtol=0)
    assert float(terms.total) == pytest.approx(float(terms.pixels + 10_000 * terms.structure))


def test_fusion_loss_is_as_recorded(golden: Arrays) -> None:
    terms = fusion_loss(golden["fixed_fused"], 255 * golden["ir"], 255 * golden["vi"])
    torch.testing.assert_close(terms.pixels[None], golden["loss_pix"], atol=0.05, rtol=0)
    torch.testing.assert_close(terms.edges[None], golden["loss_gra"], atol=0.05, rtol=0)
    assert float(terms.total) == pytest.approx(float(terms.pixels + 10 * terms.edges))


def test_ridges_are_scipys() -> None:
    image = np.random.default_rng(0).random((9, 11))
    expected = ndimage.laplace(image, mode="constant").clip(0)
    np.testing.assert_allclose(ridges(torch.from_numpy(image)[None, None])[0, 0].numpy(), expected, atol=1e-12)


def test_equal_images_are_alike() -> None:
    image = 255 * torch.rand(2, 1, 40, 48)
    assert float(multi_scale_ssim(image, image)) == pytest.approx(1)
    assert 0 < float(multi_scale_ssim(image, 255 - image)) < 0.9


def test_phases_and_rates() -> None:
    pytest.importorskip("lightning", reason="Lightning is not installed")
    from fusion_det.fusion.training.recipe import Moment

    recipe = CrossFuse("tiny").recipe(CARD.training["paper"])
    both = "auto_encoder_ir", "auto_encoder_vi"
    assert [(phase.learns, phase.share, phase.fuses) for phase in recipe.phases] == [
        (both, 0.5, False),
        (("attention", "decoder"), 0.5, True),
    ]
    coding = [recipe.rate(both[0], Moment(step, 36, 0, 0, 4)) for step in range(1, 5)]
    fusing = [recipe.rate("attention", Moment(step, 36, 1, 4, 36)) for step in range(5, 37)]
    assert coding == pytest.approx([1e-4, 1e-4, 1e-5, 1e-5])
    assert fusing == pytest.approx([1e-3] * 2 + [1e-4] * 30)
    weight = torch.zeros(1, requires_grad=True)
    optimizer = recipe.optimizer([{"params": [weight], "weight_decay": 0.0}])
    assert isinstance(optimizer, torch.optim.Adam)
    assert optimizer.param_groups[0]["weight_decay"] == 0.9


def test_what_is_trained_is_what_fuses(golden: Arrays) -> None:
    """Of images whose deep features are one whole tile."""
    pytest.importorskip("lightning", reason="Lightning is not installed")
    from fusion_det.fusion.training.recipe import Sources

    torch.manual_seed(0)
    method = CrossFuse("tiny")
    recipe = method.recipe(preset("small", CARD, crop=256))
    method.to("cpu")
    ir, vi = torch.rand(2, 2, 1, 256, 256)
    with torch.no_grad():
        fused = recipe.phases[1].forward(Sources(ir, vi.expand(-1, 3, -1, -1), vi))
        torch.testing.assert_close(fused, method.fuse(ir, vi), atol=1e-3, rtol=0)
    assert torch.equal(fused, stretched(fused)) or float(fused.amax()) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"crop": 136}, r"--crop 136: .* 144"),
        ({"options": {"coding_share": 1.0}}, "coding_share 1"),
        ({"options": {"coding_rate": 0.0}}, "more than 0"),
    ],
)
def test_what_cannot_be(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        CrossFuse("tiny").recipe(preset("small", CARD, **changes))


@pytest.mark.usefixtures("fresh_registry")
def test_a_short_training(tmp_path: Path) -> None:
    pytest.importorskip("lightning", reason="Lightning is not installed")
    from training_jobs import job_of, write_pairs

    from fusion_det.fusion.training.trainer import train

    job = job_of(write_pairs(tmp_path / "pairs", 6), tmp_path / "out", "crossfuse", config="tiny")
    settings = preset("small", CARD, epochs=10)
    summary = train(replace(job, settings=replace(settings, sample_every=1000)))
    rebuilding = [row["total"] for row in summary.rows if "infrared" in row]
    fusing = [row["val_total"] for row in summary.rows if "edges" in row]
    assert rebuilding[-1] < 0.8 * rebuilding[0]
    assert fusing[-1] < 0.8 * fusing[0]
    assert "both auto-encoders learn at once" in json.loads((tmp_path / "out" / "best.json").read_text())["deviations"]
