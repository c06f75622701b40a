"""U2Fusion's recipe: TensorFlow's optimiser against timm's, the published loss, VGG-16 from a file, a short training."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from training_jobs import job_of, write_pairs

from fusion_det.errors import ConfigError
from fusion_det.fusion.methods.u2fusion import PAPER_TRAINING, SMALL_TRAINING, U2Fusion
from fusion_det.fusion.methods.u2fusion.losses import content_loss, source_weights
from fusion_det.fusion.methods.u2fusion.rmsprop import RMSProp
from fusion_det.fusion.methods.u2fusion.training import U2FusionRecipe
from fusion_det.fusion.methods.u2fusion.vgg import build_vgg16
from fusion_det.fusion.training.recipe import Moment, Sources
from fusion_det.fusion.training.trainer import train

Arrays = dict[str, torch.Tensor]

OFFLINE = replace(SMALL_TRAINING, classifier="none")


@pytest.fixture(scope="module")
def vgg_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state dict in torchvision's layout: narrow noise, and no classifier worth the name."""
    from torchvision.models.vgg import cfgs, make_layers

    torch.manual_seed(0)
    state = {f"features.{name}": value for name, value in make_layers(cfgs["D"]).state_dict().items()}
    file = tmp_path_factory.mktemp("weights") / "vgg16.pth"
    torch.save({**state, "classifier.0.weight": torch.full((2, 2), float("nan"))}, file)
    return file


def recipe_of(**changes: object) -> U2FusionRecipe:
    torch.manual_seed(0)
    recipe = U2Fusion("tiny").recipe(replace(OFFLINE, **changes))
    assert isinstance(recipe, U2FusionRecipe)
    return recipe


def sources_of(golden_loss: Arrays) -> Sources:
    vi = golden_loss["source1"]
    return Sources(golden_loss["source2"], vi.expand(-1, 3, -1, -1), vi)


def test_optimiser_is_tensorflows() -> None:
    timm = pytest.importorskip("timm.optim.rmsprop_tf", reason="timm is not installed")
    torch.manual_seed(0)
    ours, theirs = (nn.Parameter(value) for value in torch.randn(7, 5).expand(2, 7, 5).clone())
    groups = [{"params": [ours], "weight_decay": 0.0}]
    optimisers = (
        RMSProp(groups, lr=1e-2),
        timm.RMSpropTF([theirs], lr=1e-2, alpha=0.6, momentum=0.15, eps=1e-10),
    )
    for _ in range(20):
        gradient = torch.randn(7, 5)
        ours.grad, theirs.grad = gradient, gradient.clone()
        for optimiser in optimisers:
            optimiser.step()
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_first_step_of_the_optimiser() -> None:
    """The mean square begins at 1: 0.6 · 1 + 0.4 · g²."""
    parameter = nn.Parameter(torch.tensor([1.0, -2.0]))
    parameter.grad = torch.tensor([0.5, -3.0])
    RMSProp([{"params": [parameter]}], lr=0.1).step()
    expected = np.array([1.0, -2.0]) - 0.1 * np.array([0.5, -3.0]) / np.sqrt(0.6 + 0.4 * np.array([0.25, 9.0]))
    np.testing.assert_allclose(parameter.detach().numpy(), expected, rtol=1e-6)


def test_loss_is_the_published_one(golden_loss: Arrays) -> None:
    """The recipe's order of the sources is not the recorded one, and the loss does not mind."""
    recipe, sources, fused = recipe_of(options={"scale": 0.01}), sources_of(golden_loss), golden_loss["fused"]
    found = recipe.phases[0].loss(sources, fused, 0.0)
    first, second = recipe.information(sources.luma), recipe.information(sources.ir)
    weights = source_weights(first, second, 0.01)
    expected = content_loss(golden_loss["source1"], golden_loss["source2"], fused, weights)
    assert found.keys() == {"total", "ssim", "mse"}
    torch.testing.assert_close(found["total"], expected.total)


def test_weights_of_the_sources(golden_loss: Arrays) -> None:
    """A source that holds more information draws the fused image to it; c is found from the pairs, and kept."""
    recipe, noise = recipe_of(), torch.rand(4, 1, 32, 32)
    even = torch.full((4, 1, 32, 32), 0.5) + 0.01 * noise
    sources = Sources(noise, even.expand(-1, 3, -1, -1), even)
    recipe.prepare([sources])
    difference = recipe.information(noise) - recipe.information(even)
    assert recipe.state()["scale"] == pytest.approx(float(difference.median()))
    like_ir, like_vi = (float(recipe.phases[0].loss(sources, fused, 0.0)["total"]) for fused in (noise, even))
    assert like_ir < like_vi
    again = recipe_of()
    again.restore(json.loads(json.dumps(recipe.state())))
    assert again.scale == recipe.scale


def test_sources_are_exchanged_while_it_learns() -> None:
    recipe = recipe_of()
    sources = Sources(torch.rand(1, 1, 16, 16), torch.rand(1, 3, 16, 16), torch.rand(1, 1, 16, 16))
    forward, network = recipe.phases[0].forward, recipe.networks["network"]
    as_it_is, exchanged = network(sources.ir, sources.luma), network(sources.luma, sources.ir)
    found = torch.stack([forward(sources) for _ in range(60)])
    straight = (found == as_it_is).flatten(1).all(1)
    assert (straight | (found == exchanged).flatten(1).all(1)).all()
    assert 15 < int(straight.sum()) < 45
    network.eval()
    assert all(torch.equal(forward(sources), network(sources.ir, sources.luma)) for _ in range(8))


def test_parameters_stay_in_bounds() -> None:
    recipe = recipe_of()
    weight = next(recipe.networks.parameters())
    with torch.no_grad():
        weight.view(-1)[:3] = torch.tensor([70.0, -1e9, 3.0])
    recipe.after_step()
    assert weight.view(-1)[:3].tolist() == [50, -50, 3]


def test_published_rate_is_constant() -> None:
    recipe = U2FusionRecipe(replace(PAPER_TRAINING, classifier="none"), U2Fusion("tiny").network)
    assert [recipe.rate("network", Moment(step, 100)) for step in (1, 50, 100)] == pytest.approx([1e-4] * 3)


def test_vgg16_sees_what_torchvisions_sees(vgg_file: Path) -> None:
    from torchvision.models.feature_extraction import create_feature_extractor
    from torchvision.models.vgg import cfgs, make_layers

    layers = make_layers(cfgs["D"]).eval()
    state = torch.load(vgg_file, weights_only=True)
    layers.load_state_dict({name[9:]: value for name, value in state.items() if name.startswith("features.")})
    whole = create_feature_extractor(layers, ["3", "8", "15", "22", "29"])  # conv1_2 … conv5_3 after their ReLU
    image = torch.rand(1, 1, 32, 32)
    shown = 255 * image.repeat_interleave(7, 2).repeat_interleave(7, 3).expand(-1, 3, -1, -1)
    with torch.no_grad():
        expected = whole(shown - torch.tensor([123.68, 116.779, 103.939]).view(3, 1, 1))
        found = build_vgg16(vgg_file).features(image)
    for maps, theirs in zip(found, expected.values(), strict=True):
        torch.testing.assert_close(maps, theirs, rtol=1e-4, atol=1e-3)


def test_vgg16_and_the_published_scale(vgg_file: Path) -> None:
    recipe = U2Fusion("tiny").recipe(replace(OFFLINE, classifier="vgg16"), vgg_file)
    recipe.prepare([])
    assert recipe.state() == {"scale": 3200}
    assert "VGG-16" not in recipe.deviations
    assert "VGG-16" in recipe_of().deviations


def test_vgg16_that_cannot_be_had(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import urllib.error

    def refuse(*_: object, **__: object) -> None:
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr("torch.hub.download_url_to_file", refuse)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(ConfigError, match=r"no route to host.*--classifier-weights FILE.*--preset small"):
        U2Fusion("tiny").recipe(PAPER_TRAINING)
    with pytest.raises(ConfigError, match="no such file"):
        build_vgg16(tmp_path / "absent.pth")
    torch.save({"features.0.weight": torch.zeros(4, 3, 3, 3)}, tmp_path / "other.pth")
    with pytest.raises(ConfigError, match="not torchvision's vgg16"):
        build_vgg16(tmp_path / "other.pth")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"crop": 10}, "from 11 pixels"),
        ({"options": {"scale": -1.0}}, "more than 0"),
        ({"options": {"ewc": 1.0}}, "no option"),
    ],
)
def test_settings_that_make_no_sense(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        recipe_of(**changes)


def test_a_short_training(tmp_path: Path) -> None:
    rates = {"start_rate": 3e-3, "peak_rate": 3e-3, "final_rate": 1e-3, "warmup": 0.0, "weight_decay": 0.0}
    job = job_of(
        write_pairs(tmp_path / "pairs"), tmp_path / "out", "u2fusion", config="tiny", steps=60, accumulate=1, **rates
    )
    rows = train(job).rows
    assert rows[-1]["val_total"] < 0.7 * rows[0]["val_total"]
    card = json.loads((tmp_path / "out" / "best.json").read_text())
    assert card["scale"] > 0
    assert card["deviations"].startswith("Infrared and visible images alone")
