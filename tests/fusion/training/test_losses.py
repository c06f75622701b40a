"""Losses against arrays recorded from the authors' published bytecode, and against closed forms."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from fusion_det.fusion.training.classifiers import Classifier
from fusion_det.fusion.training.losses import (
    FusionLoss,
    InformationWeights,
    balanced_temperature,
    edge_loss,
    entropy,
    gradient_loss,
    information,
    information_weights,
    l1_loss,
    sobel,
    source_information,
    ssim_loss,
)
from fusion_det.fusion.training.settings import TermWeights

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "s4fusion" / "loss_golden.npz"


@pytest.fixture(scope="module")
def golden() -> dict[str, torch.Tensor]:
    with np.load(GOLDEN) as file:
        return {name: torch.from_numpy(file[name]) for name in file.files}


@pytest.fixture(scope="module")
def balance(golden: dict[str, torch.Tensor]) -> InformationWeights:
    return InformationWeights(golden["weight_ir"], golden["weight_vi"])


def close(found: torch.Tensor, recorded: torch.Tensor) -> None:
    torch.testing.assert_close(found, recorded, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("source", ["ir", "vi"])
def test_information_is_as_recorded(golden: dict[str, torch.Tensor], source: str) -> None:
    close(information([golden[f"features_{source}_{k}"] for k in range(4)]), golden[f"info_{source}"])


def test_information_weights_are_as_recorded(golden: dict[str, torch.Tensor], balance: InformationWeights) -> None:
    found = information_weights(golden["info_ir"], golden["info_vi"], float(golden["temperature"]))
    close(found.ir, balance.ir)
    close(found.vi, balance.vi)


@pytest.mark.parametrize("name", ["l1", "ssim", "grad"])
def test_losses_and_their_gradients_are_as_recorded(
    golden: dict[str, torch.Tensor], balance: InformationWeights, name: str
) -> None:
    ir, vi, fused = golden["ir"], golden["vi"], golden["fused"].clone().requires_grad_()
    loss = {
        "l1": lambda: l1_loss(ir, vi, fused, balance),
        "ssim": lambda: ssim_loss(ir, vi, fused, balance),
        "grad": lambda: gradient_loss(ir, vi, fused),
    }[name]()
    close(loss.detach(), golden[f"loss_{name}"])
    (gradient,) = torch.autograd.grad(loss, fused)
    torch.testing.assert_close(gradient, golden[f"grad_{name}"], rtol=1e-4, atol=1e-7)


def test_entropy_and_its_gradient_are_as_recorded(golden: dict[str, torch.Tensor]) -> None:
    logits = golden["logits_fused"].clone().requires_grad_()
    loss = entropy(logits).mean()
    close(loss.detach(), golden["loss_entropy"])
    (gradient,) = torch.autograd.grad(loss, logits)
    torch.testing.assert_close(gradient, golden["grad_entropy"], rtol=1e-4, atol=1e-8)


def test_entropy_of_no_idea_and_of_certainty() -> None:
    logits = torch.zeros(2, 1000)
    logits[1, 7] = 100
    assert entropy(logits).tolist() == pytest.approx([math.log(1000), 0], abs=1e-4)


def test_sobel_of_a_ramp() -> None:
    ramp = torch.arange(6.0).expand(1, 1, 5, 6)
    assert (sobel(ramp)[..., 1:-1, 1:-1] == 8).all()
    assert (sobel(ramp.mT)[..., 1:-1, 1:-1] == 8).all()


def test_what_equals_both_sources_costs_nothing() -> None:
    image = torch.rand(2, 1, 20, 24)
    terms = FusionLoss(None)(image, image, image)
    assert float(terms.total) == pytest.approx(0, abs=1e-5)


def test_total_is_the_papers_sum(tiny_classifier: Classifier) -> None:
    ir, vi, fused = torch.rand(3, 2, 1, 40, 40)
    terms = FusionLoss(tiny_classifier)(ir, vi, fused)
    expected = terms.perception + 15 * (terms.l1 + terms.ssim + terms.gradient)
    torch.testing.assert_close(terms.total, expected)
    assert 0 < float(terms.perception) <= math.log(5) + 1e-4
    assert set(terms.terms()) == {"total", "perception", "l1", "ssim", "gradient"}


def test_without_perception_the_classifier_weighs_but_does_not_judge(tiny_classifier: Classifier) -> None:
    ir, vi, fused = torch.rand(3, 2, 1, 40, 40)
    with_it = FusionLoss(tiny_classifier)(ir, vi, fused)
    without = FusionLoss(tiny_classifier, TermWeights(perception=0))(ir, vi, fused)
    assert float(without.perception) == 0
    torch.testing.assert_close(without.l1, with_it.l1)


def test_a_perception_term_that_has_not_come_in_is_not_computed(tiny_classifier: Classifier) -> None:
    ir, vi, fused = torch.rand(3, 2, 1, 40, 40)
    loss = FusionLoss(tiny_classifier)
    whole, half, without = (loss(ir, vi, fused, perception=factor) for factor in (1.0, 0.5, 0.0))
    assert float(without.perception) == 0
    torch.testing.assert_close(half.total, (whole.total + without.total) / 2)


def test_the_brighter_source_at_every_pixel() -> None:
    ir, vi, fused = torch.rand(3, 2, 1, 40, 40)
    expected = (
        sum(abs(max(a, b) - f) for a, b, f in zip(*(x.flatten().tolist() for x in (ir, vi, fused)), strict=True)) / 3200
    )
    assert float(FusionLoss(None, intensity="brighter")(ir, vi, fused).l1) == pytest.approx(expected, rel=1e-5)
    assert float(FusionLoss(None, intensity="brighter")(ir, vi, torch.maximum(ir, vi)).l1) == 0


def test_edges_with_a_direction() -> None:
    """A ramp that falls is as strong as one that rises, and as far from it as can be; what counts is the stronger edge."""
    rising = torch.arange(12.0).expand(1, 1, 12, 12) / 20
    falling, weaker = rising.flip(-1), rising / 3
    for pair in ((rising, weaker), (weaker, rising)):
        assert float(edge_loss(*pair, rising + 0.3)) == pytest.approx(0, abs=1e-5)
    slope = 8 / 20
    inside, border = 10 / 12, 2 / 12  # the border's pixels are repeated: half the response there
    expected = 2 * slope * (inside + border / 2)
    assert float(edge_loss(rising, weaker, falling)) == pytest.approx(expected, rel=1e-4)
    assert float(FusionLoss(None, edges="direction")(rising, weaker, falling).gradient) == pytest.approx(
        expected, rel=1e-4
    )


def test_without_information_both_sources_weigh_one_half(tiny_classifier: Classifier) -> None:
    ir, vi = torch.rand(2, 3, 1, 40, 40)
    balance = FusionLoss(tiny_classifier, temperature=None).balance(ir, vi)
    assert balance.ir.tolist() == balance.vi.tolist() == [0.5, 0.5, 0.5]


def test_gradient_reaches_the_image_but_not_the_classifier(tiny_classifier: Classifier) -> None:
    ir, vi, fused = torch.rand(3, 2, 1, 40, 40)
    fused.requires_grad_()
    loss = FusionLoss(tiny_classifier).train()
    terms = loss(ir, vi, fused)
    terms.perception.backward()
    assert fused.grad is not None and fused.grad.abs().sum() > 0
    assert not any(parameter.requires_grad for parameter in loss.parameters())
    assert not any(module.training for module in tiny_classifier.modules())


def test_the_busier_source_weighs_more(tiny_classifier: Classifier) -> None:
    busy = torch.rand(1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    flat = torch.full_like(busy, 0.5)
    ir, vi = source_information(tiny_classifier, busy, flat)
    assert float(ir) > float(vi)
    temperature = balanced_temperature(ir, vi)
    weights = FusionLoss(tiny_classifier, temperature=temperature).balance(busy, flat)
    assert weights.ir.tolist() == pytest.approx([1 / (1 + math.exp(-1))], abs=1e-5)  # the median of one
    assert (weights.ir + weights.vi).tolist() == pytest.approx([1])


def test_equal_information_has_a_temperature() -> None:
    assert balanced_temperature(torch.ones(3), torch.ones(3)) > 0
