"""How MAEFuse is trained: losses in closed form, what learns when, weights of MAE, a short training."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage

pytest.importorskip("lightning", reason="Lightning is not installed")

sys.path.append(str(Path(__file__).parents[1] / "training"))

from training_jobs import job_of, write_pairs

from fusion_det.errors import ConfigError
from fusion_det.fusion.mae import fit_embedding, fit_linear, normalised, restored
from fusion_det.fusion.methods.maefuse import CARD, MAEFuse
from fusion_det.fusion.methods.maefuse.losses import fusion_loss, grey, laplacian, mean_loss
from fusion_det.fusion.methods.maefuse.network import MAE
from fusion_det.fusion.methods.maefuse.training import MAEFuseRecipe
from fusion_det.fusion.training.recipe import Moment, Sources
from fusion_det.fusion.training.settings import TrainSettings, preset
from fusion_det.fusion.training.trainer import train

pytestmark = pytest.mark.usefixtures("fresh_registry")


def small(**options: bool | str) -> TrainSettings:
    settings = preset("small", CARD, crop=32, batch=2)
    return replace(settings, options={**settings.options, **options})


def recipe_of(**options: bool | str) -> MAEFuseRecipe:
    recipe = MAEFuse("tiny").recipe(small(**options))
    assert isinstance(recipe, MAEFuseRecipe)
    return recipe


def made_up(size: int = 32) -> Sources:
    torch.manual_seed(0)
    ir, vi = torch.rand(2, 2, 1, size, size)
    return Sources(ir, vi.expand(-1, 3, -1, -1), vi)


def test_losses_are_those_of_scipy() -> None:
    torch.manual_seed(1)
    fused, ir, vi = torch.rand(3, 1, 1, 9, 12, dtype=torch.float64)

    def edges(image: torch.Tensor) -> np.ndarray:
        x = 255 * image[0, 0].numpy()
        return sum(np.abs(ndimage.sobel(x, axis, mode="constant")) for axis in (0, 1))  # type: ignore[return-value]

    def finer(image: torch.Tensor) -> np.ndarray:
        kernel = np.ones((3, 3))
        kernel[1, 1] = -8
        return ndimage.correlate(255 * image[0, 0].numpy(), kernel, mode="constant")

    terms = fusion_loss(fused, ir, vi)
    for term, of in ((terms.gradient, edges), (terms.laplacian, finer)):
        expected = np.abs(np.maximum(of(vi), of(ir)) - of(fused)).mean()
        assert float(term) == pytest.approx(expected, rel=1e-9)
    assert float(terms.total) == pytest.approx(float(terms.gradient + 2 * terms.laplacian))


def test_laplacian_of_a_plane_is_zero_inside() -> None:
    ramp = torch.arange(6.0)[:, None] * 2 + torch.arange(7.0)
    assert torch.equal(laplacian(ramp[None, None])[..., 1:-1, 1:-1], torch.zeros(1, 1, 4, 5))


def test_mean_loss() -> None:
    ir, vi = torch.rand(2, 1, 4, 8)
    assert float(mean_loss((ir + vi) / 2, ir, vi)) == 0
    assert float(mean_loss((ir + vi) / 2 + 0.5, ir, vi)) == pytest.approx(0.25)


def test_grey_of_a_grey_image() -> None:
    image = torch.rand(1, 1, 4, 4)
    torch.testing.assert_close(grey(image.expand(-1, 3, -1, -1)), 0.9999 * image)


@pytest.mark.parametrize("mixed", [False, True])
def test_each_phase_teaches_its_own_parts(mixed: bool) -> None:
    recipe, sources = recipe_of(mixed=mixed), made_up()
    for phase in recipe.phases:
        recipe.networks.zero_grad()
        phase.loss(sources, phase.forward(sources), 0.0)["total"].backward()
        taught = {name for name, part in recipe.networks.items() if any(p.grad is not None for p in part.parameters())}
        assert set(phase.learns) <= taught
    names = [phase.name for phase in recipe.phases]
    assert names[-3:] == ["merge, mean", "merge", "fuse"]
    assert ("compare" in names) == mixed
    assert [phase.fuses for phase in recipe.phases][-4:] == [False, True, True, True]


def test_tables_of_positions_stay() -> None:
    recipe = recipe_of()
    learnt = {id(parameter) for parameter in recipe.networks.parameters()}
    tables = [p for name, p in recipe.network.named_parameters() if "pos_embed" in name]
    assert len(tables) == 3
    assert not any(id(table) in learnt or table.requires_grad for table in tables)
    assert list(recipe.helpers()) == [recipe.network]


def test_weights_are_decayed_and_biases_are_not() -> None:
    spared = {p.ndim for p in recipe_of().network.parameters() if getattr(p, "_no_weight_decay", False)}
    assert spared == {1}


def test_published_rate_is_constant() -> None:
    recipe = MAEFuse("tiny").recipe(replace(CARD.training["paper"], crop=64))
    assert {recipe.rate("merging", Moment(step, 100)) for step in (1, 50, 100)} == {1e-4}


@pytest.mark.parametrize("crop", [30, 264])
def test_crops_that_do_not_go_through(crop: int) -> None:
    with pytest.raises(ConfigError, match=f"--crop {crop}: maefuse takes multiples of 8, at most 256, such as"):
        MAEFuse("tiny").recipe(replace(small(), crop=crop))


def test_weights_of_an_encoder(tmp_path: Path) -> None:
    """As timm and Meta publish them: with a class token, another table, and perhaps a decoder of another depth."""
    other = MAE(MAEFuse("tiny").network.config).state_dict()
    file = tmp_path / "mae.pth"
    decoder = {f"decoder_blocks.5.{name}": torch.zeros(3) for name in ("norm1.weight", "norm1.bias")}
    extra = {"cls_token": torch.zeros(1, 1, 64), "pos_embed": torch.zeros(1, 197, 64)}
    torch.save({"model": {**other, **decoder, **extra}}, file)
    recipe = recipe_of(mae=str(file))
    for name, value in recipe.network.model1.state_dict().items():
        is_encoder = name.startswith(("patch_embed.", "blocks.", "norm."))
        assert torch.equal(value, other[name]) or not is_encoder
    assert torch.equal(recipe.network.model1.blocks[0].attn.qkv.weight, other["blocks.0.attn.qkv.weight"])
    assert (recipe.phases[0].name, recipe.phases[0].learns) == ("rebuild", ("decoder",))
    assert all("encoder" not in phase.learns for phase in recipe.phases)
    assert "not MAE's" not in recipe.deviations
    torch.save({"model": other}, file)
    assert recipe_of(mae=str(file)).phases[0].name == "merge, mean"


def test_weights_that_cannot_be_had(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"options\.mae=.*nothing\.pth: there is no such file.*leave the option out"):
        recipe_of(mae=str(tmp_path / "nothing.pth"))
    torch.save({"blocks.0.norm1.weight": torch.ones(3)}, tmp_path / "other.pth")
    with pytest.raises(ConfigError, match="does not fit this configuration's encoder"):
        recipe_of(mae=str(tmp_path / "other.pth"))
    (tmp_path / "text.pth").write_text("weights")
    with pytest.raises(ConfigError, match=r"options\.mae: .*text\.pth"):
        recipe_of(mae=str(tmp_path / "text.pth"))


def test_fitted_beginning() -> None:
    """Smooth pictures come through the untrained network nearly as they are."""
    torch.manual_seed(0)
    coarse = torch.rand(6, 1, 6, 6)
    images = torch.nn.functional.interpolate(coarse, (64, 64), mode="bicubic", antialias=True).clamp(0, 1)
    sources = Sources(images[:3], images[3:].expand(-1, 3, -1, -1), images[3:])
    recipe = recipe_of(fit=True)
    recipe.prepare([sources])
    mae, inputs = recipe.network.model1, normalised(images)
    with torch.no_grad():
        window = recipe.network.window(inputs)
        rebuilt = restored(mae.decode(mae.encode(inputs, window), window))
    assert (rebuilt.mean(1, keepdim=True) - images).square().mean() < 0.1 * images.var()


def test_principal_components() -> None:
    """Of patches that vary in two ways, two components tell all, in directions in which positions do not vary."""
    torch.manual_seed(0)
    ways, amounts = torch.randn(2, 3 * 4 * 4), torch.randn(50, 2)
    images = (amounts @ ways + 1).view(50, 3, 4, 4)
    embedding, positions = torch.nn.Conv2d(3, 5, 4, 4), torch.zeros(9, 5)
    positions[:, 1:4] = torch.randn(9, 3)
    fit_embedding(embedding, images, positions)
    tokens = embedding(images).flatten(1)
    assert tokens.mean(0).abs().max() < 1e-4
    assert tokens[:, 1:4].std(0).max() < 0.05 * tokens[:, ::4].std(0).min()
    prediction = torch.nn.Linear(5, 48)
    fit_linear(prediction, tokens, images.flatten(1))
    torch.testing.assert_close(prediction(tokens), images.flatten(1), atol=1e-2, rtol=0)


def test_a_short_training(tmp_path: Path) -> None:
    job = job_of(write_pairs(tmp_path / "pairs"), tmp_path / "out", "maefuse", config="tiny", validation=2)
    settings = replace(small(), epochs=8, crop=32, peak_rate=2e-3, sample_every=1000)
    rows = train(replace(job, settings=settings)).rows
    fusing = [row for row in rows if "gradient" in row]
    assert fusing[-1]["val_total"] < fusing[0]["val_total"]
    card = json.loads((tmp_path / "out" / "last.json").read_text())
    for part in ("squeeze whole images", "not MAE's", "do not mix", "principal components"):
        assert part in card["deviations"]
