"""How TC-MoA is trained: losses as recorded, what learns when, weights of MAE, a short training."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage
from skimage.metrics import structural_similarity

pytest.importorskip("lightning", reason="Lightning is not installed")

sys.path.append(str(Path(__file__).parents[1] / "training"))

from training_jobs import job_of, write_pairs

from fusion_det.errors import ConfigError
from fusion_det.fusion.mae import restored
from fusion_det.fusion.methods.tcmoa import CARD, TCMoA
from fusion_det.fusion.methods.tcmoa.losses import fusion_loss, slopes, ssim
from fusion_det.fusion.methods.tcmoa.network import TCMoANet
from fusion_det.fusion.methods.tcmoa.training import ADAPTERS, DECODER, ENCODER, TCMoARecipe
from fusion_det.fusion.training.recipe import Moment, Sources
from fusion_det.fusion.training.settings import TrainSettings, preset
from fusion_det.fusion.training.trainer import train

pytestmark = pytest.mark.usefixtures("fresh_registry")

Arrays = dict[str, np.ndarray]
Inputs = Callable[[Arrays, str], tuple[torch.Tensor, torch.Tensor]]


def small(**options: bool | float | str) -> TrainSettings:
    settings = preset("small", CARD, batch=2)
    return replace(settings, options={**settings.options, **options})


def recipe_of(**options: bool | float | str) -> TCMoARecipe:
    recipe = TCMoA("tiny").recipe(small(**options))
    assert isinstance(recipe, TCMoARecipe)
    return recipe


def made_up() -> Sources:
    torch.manual_seed(0)
    return Sources(torch.rand(1, 1, 112, 112), torch.rand(1, 3, 112, 112), torch.rand(1, 1, 112, 112))


@pytest.mark.parametrize("prefix", ["", "wide_"])
@torch.no_grad()
def test_losses_are_as_recorded(prefix: str, golden: Arrays, filled_network: TCMoANet, network_inputs: Inputs) -> None:
    ir, vi = network_inputs(golden, prefix)
    image, record = filled_network.fuse(ir, vi)
    fused = restored(image).clamp(0, 1)
    for epoch in (0, 2):
        terms = fusion_loss(fused, restored(ir), restored(vi), record, epoch)
        found = {"loss": terms.total, "aux_loss": terms.balance, "prompt_loss": terms.prompts}
        if epoch == 0:
            found["pixel_loss"] = terms.pixels
        else:
            found |= {"max_pixel_loss": terms.pixels / 1.5, "max_grad_loss": terms.gradient / 1.5}
            found["ssim_loss"] = terms.ssim / 2
        # Where both sources' slopes are as strong as each other, rounding decides whose sign counts: one pixel makes 1e-4.
        tolerance = 1e-5 if epoch == 0 else 2e-4
        for name, value in found.items():
            expected = float(golden[f"{prefix}loss_epoch{epoch}_{name}"])
            assert float(value) == pytest.approx(expected, abs=tolerance), name


def test_slopes_are_correlations() -> None:
    image = torch.rand(1, 3, 9, 12, dtype=torch.float64)
    kernel = np.array([[-0.2, 0, 0.2], [-1, 0, 1], [-0.2, 0, 0.2]]) + np.array(
        [[0.2, 1, 0.2], [0, 0, 0], [-0.2, -1, -0.2]]
    )
    expected = sum(ndimage.correlate(channel.numpy(), kernel, mode="constant") for channel in image[0])
    np.testing.assert_allclose(slopes(image)[0, 0].numpy(), expected, atol=1e-12)


def test_ssim_is_scikit_images_away_from_borders() -> None:
    torch.manual_seed(0)
    x, y = torch.rand(2, 1, 1, 60, 60, dtype=torch.float64)
    y = 0.7 * x + 0.3 * y
    settings = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0, "full": True}
    _, maps = structural_similarity(x[0, 0].numpy(), y[0, 0].numpy(), **settings)
    assert float(ssim(x, x)) == pytest.approx(1)
    # Zeros all around are alike, which makes no difference inside.
    assert float(ssim(x, y)) == pytest.approx(maps[5:-5, 5:-5].mean(), abs=0.02)


@pytest.mark.parametrize("has_mae", [False, True])
def test_each_phase_teaches_its_own_parts(has_mae: bool, tmp_path: Path) -> None:
    options: dict[str, str] = {}
    if has_mae:
        torch.save({"model": TCMoA("tiny").network.state_dict()}, tmp_path / "mae.pth")
        options = {"mae": str(tmp_path / "mae.pth")}
    recipe, sources = recipe_of(**options), made_up()
    for phase in recipe.phases:
        recipe.networks.zero_grad()
        phase.loss(sources, phase.forward(sources), 0.0)["total"].backward()
        taught = {name for name, part in recipe.networks.items() if any(p.grad is not None for p in part.parameters())}
        assert set(phase.learns) <= taught
    assert [phase.name for phase in recipe.phases] == ["rebuild", "fuse"][has_mae:]
    assert ("mae" in recipe.phases[-1].learns) != has_mae
    assert ("not MAE's" in recipe.deviations) != has_mae


def test_all_but_positions_belong_to_a_part() -> None:
    network = TCMoA("tiny").network
    parts = (*ENCODER, *DECODER, *ADAPTERS)
    others = {name for name in network.state_dict() if not name.startswith(tuple(f"{part}." for part in parts))}
    assert others == {"cls_token", "pos_embed", "decoder_pos_embed", "Alpha_encoder", "Alpha_decoder"}
    frozen = {name for name, parameter in network.named_parameters() if not parameter.requires_grad}
    assert frozen == {"cls_token", "pos_embed", "decoder_pos_embed"}


def test_published_beginning() -> None:
    network = TCMoA("tiny").network
    assert set(network.Alpha_encoder.tolist() + network.Alpha_decoder.tolist()) == {0.5}
    mixture = network.blocks_MoA[0].MoA
    assert not mixture.w_gate.any()
    assert not mixture.w_noise.any()
    assert network.en_relative_position[0].relative_position_bias_table.std().item() == pytest.approx(0.02, rel=0.1)
    limit = np.sqrt(6 / (24 + 3))
    assert mixture.experts[0].fc1.weight.abs().max().item() == pytest.approx(limit, rel=0.1)


def test_published_rates() -> None:
    recipe = TCMoA("tiny").recipe(replace(CARD.training["paper"], crop=112))
    rates = [recipe.rate("adapters", Moment(step, 2000)) for step in (1, 100, 200, 1100, 2000)]
    assert rates == pytest.approx([1.5e-6, 1.5e-4, 3e-4, 1.55e-4, 1e-5], rel=0.01)


def test_loss_of_a_published_epoch() -> None:
    recipe, sources = recipe_of(), made_up()
    phase = recipe.phases[-1]
    fused = phase.forward(sources)
    early, late = (phase.loss(sources, fused, done) for done in (0.09, 0.1))
    assert early["gradient"] == 0
    assert late["gradient"] > 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (replace(small(), crop=100), "--crop 100: .* such as 112"),
        (small(rebuild=1.0), r"options\.rebuild=1"),
        (small(mae="/nowhere/mae.pth"), r"options\.mae=/nowhere/mae\.pth: there is no such file"),
    ],
)
def test_settings_that_do_not_go(settings: TrainSettings, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TCMoA("tiny").recipe(settings)


def test_an_encoder_alone_is_not_enough(tmp_path: Path) -> None:
    state = TCMoA("tiny").network.state_dict()
    torch.save({name: value for name, value in state.items() if not name.startswith("decoder")}, tmp_path / "mae.pth")
    with pytest.raises(ConfigError, match="mae_visualize"):
        recipe_of(mae=str(tmp_path / "mae.pth"))


def test_fitted_beginning() -> None:
    torch.manual_seed(0)
    coarse = torch.rand(4, 3, 10, 10)
    images = torch.nn.functional.interpolate(coarse, (112, 112), mode="bicubic", antialias=True).clamp(0, 1)
    sources = Sources(images[:2, :1], images[2:], images[2:, :1])
    recipe = recipe_of()
    distance = recipe.phases[0].forward
    before = float(distance(sources))
    recipe.prepare([sources])
    assert float(distance(sources)) < 0.3 * before


def test_a_short_training(tmp_path: Path) -> None:
    job = job_of(write_pairs(tmp_path / "pairs", 4), tmp_path / "out", "tcmoa", config="tiny", validation=1)
    settings = replace(small(rebuild=0.25), steps=8, batch=1, sample_every=1000)
    rows = [row for row in train(replace(job, settings=settings)).rows if "pixels" in row]
    assert np.isfinite([row["val_total"] for row in rows]).all()
    assert rows[-1]["total"] < 20
    card = json.loads((tmp_path / "out" / "last.json").read_text())
    for part in ("first of the three tasks", "for 25% of the steps", "principal components"):
        assert part in card["deviations"]
