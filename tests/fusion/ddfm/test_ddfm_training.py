"""How DDFM's prior is trained: what it is shown, what it is judged by, and a short training."""

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
from fusion_det.fusion.methods.ddfm import CARD, DDFM
from fusion_det.fusion.methods.ddfm.losses import noise_loss, noised
from fusion_det.fusion.methods.ddfm.schedule import alphas_cumprod, sample_steps
from fusion_det.fusion.training.recipe import Moment, Sources
from fusion_det.fusion.training.settings import preset
from fusion_det.fusion.training.trainer import train

pytestmark = pytest.mark.usefixtures("fresh_registry")


def made_up(height: int = 32, width: int = 32) -> Sources:
    ir, vi = torch.rand(2, 1, height, width), torch.rand(2, 3, height, width)
    return Sources(ir, vi, vi.mean(1, keepdim=True))


def test_sampling_turns_noise_back_of_which_it_knows_all() -> None:
    image, noise = torch.rand(3, 3, 8, 8) * 2 - 1, torch.randn(3, 3, 8, 8)
    for step in sample_steps(7):
        x = noised(image, noise, torch.full((3,), step.timestep))
        torch.testing.assert_close(step.image * x - step.noise * noise, image, atol=2e-4, rtol=0)


def test_noise_of_each_image_goes_by_its_own_time() -> None:
    images, noise = torch.ones(2, 3, 1, 1), torch.zeros(2, 3, 1, 1)
    found = noised(images, noise, torch.tensor([0, 999]))
    expected = torch.from_numpy(alphas_cumprod()[[0, 999]]).sqrt().float()
    torch.testing.assert_close(found, expected[:, None, None, None].expand_as(images))


def test_loss_is_of_the_noise_alone() -> None:
    noise, variance = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    assert noise_loss(torch.cat((noise, variance), dim=1), noise) == 0
    assert float(noise_loss(torch.cat((noise + 2, variance), dim=1), noise)) == pytest.approx(4)


def test_what_is_drawn_depends_on_the_seed_alone() -> None:
    recipe = DDFM("tiny").recipe(preset("small", CARD))
    phase, sources = recipe.phases[0], made_up()
    guesses = []
    for _ in range(2):
        torch.manual_seed(5)
        guesses.append(phase.forward(sources))
        torch.rand(3)
    assert torch.equal(guesses[0].noise, guesses[1].noise)
    assert not torch.equal(guesses[0].noise, phase.forward(sources).noise)
    terms = phase.loss(sources, guesses[0], 0.0)
    assert terms["total"].item() == pytest.approx(float(guesses[0].noise.square().mean())), "a fresh network says 0"


def test_infrared_images_are_not_looked_at() -> None:
    recipe = DDFM("tiny").recipe(preset("small", CARD))
    sources = made_up()
    losses = []
    for ir in (sources.ir, torch.full_like(sources.ir, float("nan"))):
        torch.manual_seed(0)
        given = sources._replace(ir=ir)
        losses.append(recipe.phases[0].loss(given, recipe.phases[0].forward(given), 0.0)["total"])
    assert losses[0] == losses[1]


def test_published_rate_is_constant() -> None:
    recipe = DDFM("tiny").recipe(replace(CARD.training["paper"], crop=32))
    assert {recipe.rate("network", Moment(step, 100)) for step in (1, 50, 100)} == {1e-4}


def test_crops_that_do_not_go() -> None:
    settings = preset("small", CARD)
    with pytest.raises(ConfigError, match=r"--crop 41: .* such as 48"):
        DDFM("tiny").recipe(replace(settings, crop=41))


def test_a_short_training(tmp_path: Path) -> None:
    job = job_of(write_pairs(tmp_path / "pairs"), tmp_path / "out", "ddfm", config="tiny", validation=0)
    settings = replace(preset("small", CARD), crop=32, batch=2, epochs=8, peak_rate=1e-2, warmup=0.0, sample_every=1000)
    summary = train(replace(job, settings=settings))
    assert summary.rows[-1]["total"] < 0.8 * summary.rows[0]["total"]
    card = json.loads((tmp_path / "out" / "last.json").read_text())
    for part in ("visible images of these pairs, not from ImageNet", "variance"):
        assert part in card["deviations"]
