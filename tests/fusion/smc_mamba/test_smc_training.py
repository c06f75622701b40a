"""SMC-Mamba's losses against closed forms, and a short training over two tasks."""

from __future__ import annotations

import math
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter
from skimage.metrics import structural_similarity

pytest.importorskip("lightning", reason="Lightning is not installed")

sys.path.append(str(Path(__file__).parents[1] / "training"))

from training_jobs import job_of, write_pairs

from fusion_det.errors import ConfigError
from fusion_det.fusion.filters import extend
from fusion_det.fusion.methods.smc_mamba import CARD, SMCMamba, losses
from fusion_det.fusion.methods.smc_mamba.training import HISTORY, GateHistory, SMCMambaRecipe, early_share
from fusion_det.fusion.training.recipe import Moment, Sources
from fusion_det.fusion.training.settings import TrainSettings, preset
from fusion_det.fusion.training.trainer import train

pytestmark = pytest.mark.usefixtures("fresh_registry")


def small(**options: float | str) -> TrainSettings:
    settings = preset("small", CARD, crop=32, batch=2)
    return replace(settings, options={**settings.options, **options})


def test_low_band_is_the_mean_of_four_and_flat_maps_have_no_high_bands() -> None:
    x = torch.rand(2, 3, 8, 10)
    low, high = losses.haar(x)
    torch.testing.assert_close(low[:, :, 0], F.avg_pool2d(x, 2))
    assert high.shape == (2, 3, 3, 4, 5)
    assert losses.haar(torch.full((1, 1, 5, 7), 0.3)).high.abs().max() < 1e-7


def test_lifting_loses_nothing() -> None:
    x = torch.rand(1, 1, 6, 8, dtype=torch.float64)
    (ll,), (lh, hl, hh) = (band[0, 0] for band in losses.haar(x))

    def unlift(low: torch.Tensor, detail: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        even = low - detail / 2
        return even, even + detail

    back = torch.empty(6, 8, dtype=torch.float64)
    low, across = torch.empty(6, 4, dtype=torch.float64), torch.empty(6, 4, dtype=torch.float64)
    low[0::2], low[1::2] = unlift(ll, lh)
    across[0::2], across[1::2] = unlift(hl, hh)
    back[:, 0::2], back[:, 1::2] = unlift(low, across)
    torch.testing.assert_close(back, x[0, 0])


def test_contrast_is_zero_where_high_bands_agree_and_grows_with_blur() -> None:
    source = torch.rand(1, 1, 64, 64)
    assert losses.contrast(source + 0.2, source) < 1e-9
    blurred = F.avg_pool2d(extend(source, (2, 2, 2, 2), "replicate"), 5, stride=1)
    values = [float(losses.contrast(source.lerp(blurred, share), source)) for share in (0, 0.3, 0.6, 1)]
    assert values == sorted(values)
    assert values[1] > 1e-3


def test_balance_of_gates() -> None:
    assert losses.balance(torch.full((5, 4), 0.25)) == 0
    assert losses.balance(torch.eye(4)) == 0, "one expert each time, each as often"
    torch.testing.assert_close(losses.balance(torch.eye(4)[:1]), torch.tensor(3.0))  # one alone: E - 1


def test_likeness_and_disagreement_of_experts() -> None:
    x = torch.randn(1, 2, 4, 4, 3)
    same = x.expand(4, -1, -1, -1, -1)
    torch.testing.assert_close(losses.likeness(same), torch.tensor(1.0))
    assert losses.disagreement(same) < 1e-6
    assert losses.likeness(torch.cat((x, -x))) == 0, "clamped"
    apart = torch.zeros(2, 1, 1, 2, 1)
    apart[0, 0, 0, 0], apart[1, 0, 0, 1] = 1, 1
    assert losses.likeness(apart) == 0
    torch.testing.assert_close(losses.disagreement(apart), torch.tensor(1.0))
    assert losses.likeness(x) == 0, "of one expert"


def test_diversity_first_then_consensus() -> None:
    assert early_share(0) == 1
    assert abs(early_share(1)) < 1e-12
    assert math.isclose(early_share(0.5), math.sqrt(0.5))


def test_targets_by_task() -> None:
    dark, bright = torch.full((1, 1, 32, 32), 0.2), torch.full((1, 1, 32, 32), 0.6)
    assert torch.equal(losses.target("ivif", dark, bright), bright)
    assert torch.equal(losses.target("medical", bright, dark), bright)
    torch.testing.assert_close(losses.target("multi-exposure", dark, bright), torch.full((1, 1, 32, 32), 0.4))


def test_the_mean_of_exposures_gets_contrast_and_never_burns() -> None:
    means = torch.linspace(0, 1, 256, dtype=torch.float64, requires_grad=True)
    levels = losses.spread(means)
    (slopes,) = torch.autograd.grad(levels.sum(), means)
    assert (slopes > 0).all(), "what is brighter stays brighter"
    assert float(slopes.detach().max()) == pytest.approx(1.75, abs=1e-3)
    torch.testing.assert_close(levels + levels.flip(0), torch.ones_like(levels))
    assert 8 / 255 > levels[0] > 1 / 255


def test_the_sharper_source_is_taken_where_it_is_sharper() -> None:
    scene = torch.rand(1, 1, 64, 96, generator=torch.Generator().manual_seed(0))
    blurred = F.avg_pool2d(extend(scene, (3, 3, 3, 3), "replicate"), 7, stride=1)
    near, far = scene.clone(), scene.clone()
    near[..., 48:], far[..., :48] = blurred[..., 48:], blurred[..., :48]
    taken = losses.sharper(near, far)
    assert torch.equal(taken[..., :40], scene[..., :40])
    assert torch.equal(taken[..., 56:], scene[..., 56:])


def test_likeness_of_contrasts_is_ssim_without_luminance() -> None:
    torch.manual_seed(0)
    x, y = torch.rand(2, 1, 1, 40, 40, dtype=torch.float64)
    torch.testing.assert_close(losses.contrast_likeness(x, x + 0.3), torch.ones_like(x))
    assert losses.contrast_likeness(x, 1 - x).max() < -0.5, "turned round"
    _, whole = structural_similarity(
        x[0, 0].numpy(), y[0, 0].numpy(), data_range=1, full=True, gaussian_weights=True, use_sample_covariance=False
    )
    means = [torch.from_numpy(gaussian_filter(image[0, 0].numpy(), 1.5, truncate=3.5)) for image in (x, y)]
    luminance = (2 * means[0] * means[1] + 1e-4) / (means[0] ** 2 + means[1] ** 2 + 1e-4)
    inner = slice(8, -8)
    product = luminance * losses.contrast_likeness(x, y)[0, 0]
    torch.testing.assert_close(product[inner, inner], torch.from_numpy(whole)[inner, inner], atol=1e-6, rtol=0)


def test_the_livelier_source_is_chosen_by_regions() -> None:
    torch.manual_seed(0)
    first, second = 0.5 + 0.2 * torch.rand(2, 1, 1, 64, 96)
    first[..., :48], second[..., 48:] = 0.6, 0.4
    chosen = losses.is_livelier(first, second)[0, 0]
    assert not chosen[:, :44].any()
    assert chosen[:, 52:].all()
    assert not losses.is_livelier(first, first).any()


def test_edges_come_from_the_stronger_source() -> None:
    step = torch.zeros(1, 1, 16, 16)
    step[..., 8:] = 1
    flat = torch.full_like(step, 0.5)
    first = torch.ones_like(step, dtype=torch.bool)
    assert losses.edge_distance(step, step, flat, first) == 0
    assert losses.edge_distance(step, flat, step, ~first) == 0
    # 16 rows times two columns whose response to the step is 4, of 8; half of the directions.
    torch.testing.assert_close(losses.edge_distance(flat, step, flat, first), torch.tensor(2 / 16 * 4 / 8 / 2))
    assert losses.edge_distance(1 - step, step, flat, first) > losses.edge_distance(flat, step, flat, first)


def test_gate_history_forgets_after_a_hundred_steps() -> None:
    history = GateHistory(4)
    assert len(history.known(0)) == 0
    for step in range(130):
        history.remember((torch.full((4,), float(step)), torch.zeros(4)))
    assert sorted(history.known(0)[:, 0].tolist()) == list(range(30, 130))


def test_balance_pulls_with_the_whole_gradient_of_a_step() -> None:
    history = GateHistory(4)
    used = torch.tensor([0.7, 0.1, 0.1, 0.1])
    for _ in range(100):
        history.remember((used, used))
    gates = used.clone().requires_grad_()
    average = history.with_gradient(0, gates)
    torch.testing.assert_close(average, used)
    (pull,) = torch.autograd.grad(losses.balance(average[None]), gates)
    (alone,) = torch.autograd.grad(losses.balance(gates[None]), gates)
    torch.testing.assert_close(pull, alone)


def test_history_is_kept_while_training_and_not_while_judging() -> None:
    recipe = SMCMamba("tiny").recipe(small())
    history = recipe.networks[HISTORY]
    assert isinstance(history, GateHistory)
    first, second = torch.rand(2, 2, 1, 32, 32)
    sources = Sources(first, second.expand(-1, 3, -1, -1), second, "medical")
    phase = recipe.phases[0]
    with torch.no_grad():
        phase.loss(sources, phase.forward(sources), 1.0)
    assert history.steps == 0
    phase.loss(sources, phase.forward(sources), 0.0)
    assert history.steps == 1


@pytest.mark.parametrize("task", ["ivif", "medical", "multi-focus", "multi-exposure"])
@pytest.mark.parametrize("targets", ["document", "task"])
def test_terms_add_up_and_have_gradients(task: str, targets: str) -> None:
    recipe = SMCMamba("tiny").recipe(small(targets=targets))
    first, second = torch.rand(2, 2, 1, 32, 32)
    sources = Sources(first, second.expand(-1, 3, -1, -1), second, task)
    phase = recipe.phases[0]
    terms = phase.loss(sources, phase.forward(sources), 0.5)
    f, early = recipe.factors, early_share(0.5)  # type: ignore[attr-defined]
    emphasis = 2.0 if targets == "task" and task == "multi-focus" else 1.0
    expected = (
        f["bscl"] * (0.8 * terms["features"] + 0.4 * terms["pixels"])
        + 0.01 * terms["balance"]
        + early * f["diversity"] * terms["likeness"]
        + (1 - early) * f["consensus"] * terms["disagreement"]
        + emphasis * f["structure"] * terms["structure"]
        + emphasis * f["intensity"] * terms["intensity"]
        + emphasis * f["edges"] * terms["edges"]
    )
    torch.testing.assert_close(terms["total"], expected)
    terms["total"].backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in recipe.networks.parameters())


def test_rate_of_the_document_is_halved() -> None:
    recipe = SMCMambaRecipe(preset("paper", CARD), SMCMamba("tiny").network)
    rates = [recipe.rate("network", Moment(step, 100_000, 0, 0, 100_000)) for step in (1, 1000, 1001, 2001)]
    assert rates[0] == pytest.approx(2e-4)
    assert rates[1] / rates[2] == pytest.approx(2, rel=1e-3)
    assert rates[0] / rates[3] == pytest.approx(4, rel=1e-2)


def test_unknown_targets() -> None:
    with pytest.raises(ConfigError, match="document or task"):
        SMCMamba("tiny").recipe(small(targets="best"))


def test_a_short_training_learns(tmp_path: Path) -> None:
    job = job_of(
        write_pairs(tmp_path / "pairs"),
        tmp_path / "out",
        "smc_mamba",
        config="tiny",
        crop=32,
        batch=2,
        epochs=8,
        peak_rate=5e-3,
        options=small(diversity=0.0, consensus=0.0).options,
    )
    train(job)
    rows = (tmp_path / "out" / "curve.csv").read_text().splitlines()
    column = rows[0].split(",").index("val_total")
    values = [float(row.split(",")[column]) for row in rows[1:]]
    assert values[-1] < 0.95 * values[0]
