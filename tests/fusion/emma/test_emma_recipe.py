"""How EMMA is trained: its phases against recorded losses, what learns when, and a short training."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

pytest.importorskip("lightning", reason="Lightning is not installed")

sys.path.append(str(Path(__file__).parents[1] / "training"))

from training_jobs import job_of, write_pairs

from fusion_det.errors import ConfigError
from fusion_det.fusion.methods.emma import CARD, EMMA, training
from fusion_det.fusion.methods.emma.network import UFuser
from fusion_det.fusion.methods.emma.sensing import SensingNet
from fusion_det.fusion.methods.emma.training import SENSING, EMMARecipe
from fusion_det.fusion.methods.emma.transforms import transform
from fusion_det.fusion.training.recipe import NETWORK, Moment, Sources
from fusion_det.fusion.training.settings import TrainSettings, preset
from fusion_det.fusion.training.trainer import train

pytestmark = pytest.mark.usefixtures("fresh_registry")

Arrays = dict[str, torch.Tensor]
SHIFTS = [(1, -2), (3, 4), (-5, 6)]


def small(**options: int | float) -> TrainSettings:
    settings = preset("small", CARD, crop=32, batch=2)
    return replace(settings, options={**settings.options, "sensing_width": 2, **options})


def made_up(height: int = 32, width: int = 32) -> Sources:
    ir, vi = torch.rand(2, 2, 1, height, width)
    return Sources(ir, vi.expand(-1, 3, -1, -1), vi)


def test_second_phase_is_as_recorded(
    golden: Arrays, filled_network: UFuser, filled_sensing: SensingNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    shifts = list(zip(golden["equiv_shift_rows"].tolist(), golden["equiv_shift_cols"].tolist(), strict=True))
    monkeypatch.setattr(training, "draw_shifts", lambda height, width: shifts)
    monkeypatch.setattr(training, "SensingNet", lambda width: filled_sensing)
    recipe = EMMARecipe(CARD.training["paper"], filled_network)
    sources = Sources(golden["ir"], golden["vi"].expand(-1, 3, -1, -1), golden["vi"])
    phase = recipe.phases[1]
    terms = phase.loss(sources, phase.forward(sources), 1.0)
    recorded = {"infrared": "sense_ir", "visible": "sense_vi", "equivariance": "equiv", "total": "total"}
    for term, name in recorded.items():
        torch.testing.assert_close(terms[term][None], golden[f"loss_{name}"], atol=1e-5, rtol=0)


def test_sensing_networks_see_means_and_maxima() -> None:
    ir, vi = torch.rand(2, 40, 1, 4, 4)
    fused = training.simple_fusion(ir, vi)
    means = [torch.equal(f, (i + v) / 2) for f, i, v in zip(fused, ir, vi, strict=True)]
    maxima = [torch.equal(f, torch.maximum(i, v)) for f, i, v in zip(fused, ir, vi, strict=True)]
    assert all(a != b for a, b in zip(means, maxima, strict=True))
    assert 8 < sum(means) < 32


def test_each_phase_teaches_its_own_networks() -> None:
    recipe = EMMA("tiny").recipe(small())
    sources = made_up()
    for phase in recipe.phases:
        recipe.networks.zero_grad()
        phase.loss(sources, phase.forward(sources), 0.0)["total"].backward()
        taught = {name for name, net in recipe.networks.items() if any(p.grad is not None for p in net.parameters())}
        assert set(phase.learns) <= taught
    assert [phase.learns for phase in recipe.phases] == [SENSING, (NETWORK,)]
    assert [phase.fuses for phase in recipe.phases] == [False, True]


def test_some_of_the_transformations_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "draw_shifts", lambda height, width: SHIFTS)
    recipe = EMMA("tiny").recipe(small(transforms=3))
    sources = made_up()
    seen = set()
    with torch.no_grad():
        every = transform(recipe.networks[NETWORK](sources.ir, sources.luma), SHIFTS).unflatten(0, (-1, 2))
        for _ in range(12):
            drawn = recipe.phases[1].forward(sources).transformed.unflatten(0, (-1, 2))
            chosen = [[torch.equal(image, one) for one in every].index(True) for image in drawn]
            assert len(set(chosen)) == 3
            seen.update(chosen)
    assert len(seen) > 7


def test_rates_are_halved_every_ten_and_every_twenty_epochs() -> None:
    """Of 160 epochs of one step: 40 of the first phase, 120 of the second."""
    recipe = EMMARecipe(replace(CARD.training["paper"], options={"sensing_width": 1}), UFuser())
    first = [recipe.rate(SENSING[0], Moment(step, 160, 0, 0, 40)) for step in range(1, 41)]
    second = [recipe.rate(NETWORK, Moment(step, 160, 1, 40, 160)) for step in range(41, 161)]
    assert first == pytest.approx([1e-4 * 0.5 ** (epoch // 10) for epoch in range(40)])
    assert second == pytest.approx([1e-4 * 0.5 ** (epoch // 20) for epoch in range(120)])
    shares = [phase.share for phase in recipe.phases]
    assert shares[1] / shares[0] == pytest.approx(3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (replace(small(), crop=40), "--crop 40: .* such as 48"),
        (small(sensing_width=0), "sensing_width 0 is at least 1"),
        (small(sensing_share=1.0), "sensing_share 1 between 0 and 1"),
        (small(transforms=11), "transforms 11 from 1 to 10"),
        (small(depth=3), r"options\.depth: no option"),
    ],
)
def test_settings_that_do_not_go(settings: TrainSettings, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        EMMA("tiny").recipe(settings)


def test_the_fused_image_comes_to_be_what_the_sources_are_seen_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """With sensing networks that see the fused image itself in both places."""
    monkeypatch.setattr(training, "SensingNet", lambda width: nn.Identity())
    torch.manual_seed(0)
    recipe = EMMA("tiny").recipe(small(transforms=1))
    optimizer = recipe.optimizer([{"params": recipe.networks[NETWORK].parameters()}])
    sources, losses = made_up(16, 16), []
    for _ in range(25):
        optimizer.zero_grad()
        losses.append(recipe.phases[1].loss(sources, recipe.phases[1].forward(sources), 1.0)["total"])
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < 0.9 * losses[0]


def test_a_short_training(tmp_path: Path) -> None:
    job = job_of(write_pairs(tmp_path / "pairs"), tmp_path / "out", "emma", config="tiny", validation=0)
    settings = replace(small(sensing_width=4, sensing_share=0.9, transforms=1), epochs=4, peak_rate=1e-2, crop=16)
    summary = train(replace(job, settings=replace(settings, sample_every=1000)))
    assert ["equivariance" in row for row in summary.rows] == [False, False, False, False, True]
    assert summary.rows[3]["total"] < summary.rows[0]["total"]
    card = json.loads((tmp_path / "out" / "last.json").read_text())
    for part in ("DIDFuse", "4 channels wide, not 64", "90% of the steps", "1 of the 10 transformations"):
        assert part in card["deviations"]
