"""DeFusion's recipe: what it draws, the published schedule, a gentle beginning, a short training."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from training_jobs import job_of, write_pairs

from fusion_det.errors import ConfigError
from fusion_det.fusion.methods.defusion import PAPER_TRAINING, SMALL_TRAINING, DeFusion
from fusion_det.fusion.methods.defusion.network import Parts
from fusion_det.fusion.methods.defusion.samples import Sample, damaged, dimmed, draw_masks, draw_sample
from fusion_det.fusion.methods.defusion.training import (
    STEPS,
    DeFusionRecipe,
    Mended,
    match_brightness,
    one_of_each,
)
from fusion_det.fusion.training.recipe import Moment, Sources
from fusion_det.fusion.training.trainer import train

Arrays = dict[str, torch.Tensor]


def recipe_of(**options: bool) -> DeFusionRecipe:
    torch.manual_seed(0)
    recipe = DeFusion("tiny").recipe(replace(PAPER_TRAINING, options=options))
    assert isinstance(recipe, DeFusionRecipe)
    return recipe


def some_sources(count: int = 4, size: int = 32) -> Sources:
    return Sources(torch.rand(count, 1, size, size), torch.rand(count, 3, size, size), torch.rand(count, 1, size, size))


@pytest.mark.parametrize("size", [256, 64, 40])
def test_masks(size: int) -> None:
    torch.manual_seed(0)
    shown = []
    for _ in range(40):
        masks = draw_masks(size)
        for mask in masks:
            assert mask.shape == (1, size, size)
            assert set(mask.unique().tolist()) <= {0.0, 1.0}
        assert torch.maximum(*masks).min() == 1
        shown.append([float(mask.mean()) for mask in masks])
    first, second = np.mean(shown, axis=0)
    assert first == pytest.approx(second, abs=0.1)  # neither copy is the favoured one
    assert 0.5 < (first + second) / 2 < 0.9


def test_cells_of_published_masks() -> None:
    """256 pixels in 13 and in 26 or 27 parts: nothing changes except where a part ends."""
    ends = {256 * i // n for n in (13, 26, 27) for i in range(n + 1)}
    ends |= {-(-256 * i // n) for n in (13, 26, 27) for i in range(n + 1)}
    torch.manual_seed(1)
    for _ in range(5):
        for mask in draw_masks(256):
            changes = mask[0].diff(dim=1).abs().sum(0).nonzero().flatten() + 1
            assert set(changes.tolist()) <= ends
            assert len(changes) > 5


def test_damage() -> None:
    torch.manual_seed(0)
    clean, mask = torch.rand(2, 3, 64, 64), (torch.rand(2, 1, 64, 64) < 0.5).float()
    copy = damaged(clean, mask)
    where = mask.bool().expand_as(clean)
    torch.testing.assert_close(copy[where], clean[where])
    noise = copy[~where].double().numpy()
    assert noise.min() >= 0
    assert noise.max() == 1
    # Of a normal number, 31.73 % lies beyond 1; E min(|n|, 1) = √(2/π) (1 - e^(-1/2)) + P(|n| > 1).
    assert (noise == 1).mean() == pytest.approx(0.3173, abs=0.02)
    assert noise.mean() == pytest.approx(np.sqrt(2 / np.pi) * (1 - np.exp(-0.5)) + 0.3173, abs=0.01)


def test_images_are_only_dimmed() -> None:
    torch.manual_seed(0)
    image = torch.rand(3, 16, 16)
    several = torch.stack([dimmed(image) for _ in range(50)])
    assert several.min() >= 0
    assert several.mean((1, 2, 3)).max() <= image.mean() * 1.01  # greys are weighted, so not to the last digit
    assert several.mean((1, 2, 3)).min() < 0.4 * image.mean()


def test_a_sample_is_of_one_image_of_each_pair() -> None:
    sources = some_sources(40, 8)
    images = one_of_each(sources)
    infrared = (images == sources.ir).flatten(1).all(1)
    assert (infrared | (images == sources.vi).flatten(1).all(1)).all()
    assert 8 < int(infrared.sum()) < 32
    sample = draw_sample(images)
    assert [maps.shape[1] for maps in sample] == [3, 3, 3, 1, 1]
    torch.testing.assert_close(sample.first * sample.mask_1, sample.clean * sample.mask_1)


def test_losses_are_the_recorded_ones(golden_loss: Arrays) -> None:
    """At the share of a training at which the recorded step lies in the published one."""
    parts = Parts(*(golden_loss[name] for name in ("common", "unique_1", "unique_2", "fused")))
    clean = golden_loss["clean"]
    mended = Mended(Sample(clean, clean, clean, golden_loss["mask1"], golden_loss["mask2"]), parts)
    recipe, sources = recipe_of(), some_sources()
    recorded = golden_loss["total_common_unique1_unique2_fusion"]
    for step, expected in zip(golden_loss["step"].tolist(), recorded, strict=True):
        phase = recipe.phases[step >= recipe.phases[0].share]
        found = phase.loss(sources, mended, step / STEPS)
        torch.testing.assert_close(torch.stack(list(found.values())), expected, atol=1e-6, rtol=1e-6)
    assert recipe.phases[0].loss(sources, mended, 1.0)["fusion"] == 0  # also where it is validated
    assert [phase.fuses for phase in recipe.phases] == [False, True]


def test_published_rates() -> None:
    recipe = recipe_of()
    rates = [recipe.rate("network", Moment(1 + epoch * 100, 5100)) for epoch in (0, 9, 10, 20, 39, 40, 50)]
    assert rates == pytest.approx([1e-3, 1e-3, 5e-4, 2.5e-4, 1.25e-4, 6.25e-5, 6.25e-5])


def test_rates_that_rise_first() -> None:
    recipe = DeFusion("tiny").recipe(SMALL_TRAINING)
    rates = [recipe.rate("network", Moment(step, 100)) for step in (1, 5, 10, 11)]
    assert rates == pytest.approx([4e-4, 2e-3, 4e-3, 4e-3])


@pytest.mark.parametrize("seed", range(4))
def test_gentle_beginning(seed: int) -> None:
    """No channel is dark or glaring, and what fits is left alone."""
    torch.manual_seed(seed)
    network, sample = DeFusion("tiny").network, draw_sample(torch.rand(4, 3, 32, 32))
    match_brightness(network, sample)
    kept = {name: value.clone() for name, value in network.state_dict().items()}
    with torch.no_grad():
        parts = network.decompose(sample.first, sample.second, training=True, slope=1.0)
    wanted = float(sample.clean.mean())
    for maps in (parts.common, torch.cat((parts.unique_ir, parts.unique_vi)), parts.fused):
        means = maps.mean((0, 2, 3))
        assert (means > 0).all()
        assert (means < 4 * wanted).all()
    with torch.no_grad():
        for layer in (network.fusion_rule[0], network.decoder_upper_projection_layer[0]):
            layer.bias.zero_()
    match_brightness(network, sample)
    match_brightness(network, sample)
    settled = {name: value.clone() for name, value in network.state_dict().items()}
    match_brightness(network, sample)
    assert all(torch.equal(value, settled[name]) for name, value in network.state_dict().items())
    untouched = [name for name in kept if "projection" not in name and "fusion_rule" not in name]
    assert all(torch.equal(kept[name], settled[name]) for name in untouched)


def test_gentle_training_lets_channels_come_back() -> None:
    recipe, plain = recipe_of(gentle=True), recipe_of()
    for each in (recipe, plain):
        with torch.no_grad():
            each.network.fusion_rule[0].bias.fill_(-100)
        mended = each.phases[1].forward(some_sources())
        each.phases[1].loss(some_sources(), mended, 1.0)["total"].backward()
    assert recipe.network.fusion_rule[0].bias.grad.abs().sum() > 0
    assert plain.network.fusion_rule[0].bias.grad.abs().sum() == 0
    assert recipe.deviations.startswith(plain.deviations)
    assert recipe.deviations != plain.deviations


def test_paper_training_leaves_the_network_as_it_is() -> None:
    recipe = recipe_of()
    before = recipe.network.fusion_rule[0].weight.clone()
    recipe.prepare([some_sources()])
    assert torch.equal(before, recipe.network.fusion_rule[0].weight)


def test_unknown_option() -> None:
    with pytest.raises(ConfigError, match="it has gentle"):
        recipe_of(soft=True)


def test_a_short_training(tmp_path: Path) -> None:
    job = job_of(
        write_pairs(tmp_path / "pairs"),
        tmp_path / "out",
        "defusion",
        config="tiny",
        steps=24,
        accumulate=1,
        crop=32,
        weight_decay=0.0,
        options={"gentle": True},
    )
    rows = [row for row in train(job).rows if row["val_fusion"] > 0]
    assert rows[-1]["val_total"] < 0.8 * rows[0]["val_total"]
    card = json.loads((tmp_path / "out" / "last.json").read_text())
    assert card["deviations"].startswith("Learnt from one image of each pair")
