"""Pairs made of one photograph: what they lose is what two foci and two exposures lose, and nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from scipy.ndimage import gaussian_filter

from fusion_det.fusion.methods.smc_mamba import CARD, SMCMamba, losses
from fusion_det.fusion.methods.smc_mamba.photographs import two_exposures, two_foci, two_photographs
from fusion_det.fusion.training.recipe import Sources
from fusion_det.fusion.training.settings import preset


@pytest.fixture
def scene() -> torch.Tensor:
    torch.manual_seed(0)
    return torch.rand(1, 1, 96, 64)


@pytest.mark.parametrize("seed", range(5))
def test_what_one_focus_loses_the_other_has(scene: torch.Tensor, seed: int) -> None:
    torch.manual_seed(seed)
    near, far = two_foci(scene)
    blurred = near + far - scene  # m·I + (1-m)·blurred + (1-m)·I + m·blurred = I + blurred
    errors = {
        s: abs(
            gaussian_filter(scene[0, 0].numpy(), s, mode="nearest", radius=round(3 * s)) - blurred[0, 0].numpy()
        ).max()
        for s in [x / 100 for x in range(70, 301)]
    }
    assert min(errors.values()) < 5e-3, "the other part of both is one Gaussian blur"
    sharp = (near - scene).abs() < (far - scene).abs()
    assert 0.2 < sharp.float().mean() < 0.8, "each is sharp somewhere"
    chosen = losses.sharper(near, far)
    assert (chosen - scene).abs().mean() < 0.5 * min((near - scene).abs().mean(), (far - scene).abs().mean())


@pytest.mark.parametrize("seed", range(5))
def test_exposures_are_a_factor_of_light_until_they_clip(scene: torch.Tensor, seed: int) -> None:
    torch.manual_seed(seed)
    over, under = two_exposures(scene)
    for exposed, stops in ((over, (0.5, 2.5)), (under, (-2.5, -0.5))):
        torch.testing.assert_close(exposed * 255, (exposed * 255).round(), atol=1e-4, rtol=0)
        inside = (exposed > 0.2) & (exposed < 1) & (scene > 0.2)
        factors = 2.2 * torch.log2(exposed[inside] / scene[inside])
        assert factors.std() < 0.02
        assert stops[0] <= factors.mean() + 0.02 and factors.mean() - 0.02 <= stops[1]
    assert (over >= under).all()


def test_both_tasks_are_made_and_each_image_is_treated_by_itself(scene: torch.Tensor) -> None:
    made = [two_photographs(scene.expand(2, -1, -1, -1)) for _ in range(20)]
    assert {sources.task for sources in made} == {"multi-focus", "multi-exposure"}
    for sources in made:
        assert sources.ir.shape == sources.luma.shape == (2, 1, 96, 64)
        assert sources.vi.shape == (2, 3, 96, 64)
        assert not torch.equal(sources.ir[0], sources.ir[1])


@pytest.mark.parametrize(
    ("task", "photographs", "tasks"),
    [
        ("ivif", 0.0, {"ivif"}),
        ("ivif", 0.5, {"ivif", "multi-focus", "multi-exposure"}),
        ("medical", 1.0, {"medical"}),
        ("multi-focus", 1.0, {"multi-focus"}),
    ],
)
def test_which_batches_are_varied(task: str, photographs: float, tasks: set[str]) -> None:
    settings = preset("small", CARD, crop=32, batch=2)
    recipe = SMCMamba("tiny").recipe(replace(settings, options={**settings.options, "photographs": photographs}))
    first, second = torch.rand(2, 2, 1, 32, 32)
    given = Sources(first, second.expand(-1, 3, -1, -1), second, task)
    torch.manual_seed(1)
    varied = [recipe.vary(given) for _ in range(40)]
    assert {sources.task for sources in varied} == tasks
    orders = {torch.equal(sources.ir, first) for sources in varied if sources.task == task}
    assert orders == ({True, False} if task == "multi-focus" else {True}), "two foci come in either order"
    assert all(torch.equal(sources.vi[:, :1], sources.luma) for sources in varied)
