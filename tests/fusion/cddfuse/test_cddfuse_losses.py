"""CDDFuse's losses against recorded values, and where they have none, against what they mean."""

from __future__ import annotations

import pytest
import torch

from fusion_det.fusion.methods.cddfuse.losses import (
    decomposition,
    fusion_loss,
    reconstruction_loss,
    structural_dissimilarity,
)
from fusion_det.fusion.methods.cddfuse.network import CDDFuseNet, Features
from fusion_det.fusion.training.terms import correlation

Arrays = dict[str, torch.Tensor]


def recorded(found: torch.Tensor, golden: Arrays, name: str, tolerance: float = 1e-5) -> None:
    torch.testing.assert_close(found[None], golden[f"damped_{name}"], atol=tolerance, rtol=0)


def test_losses_are_as_recorded(golden: Arrays, damped_network: CDDFuseNet) -> None:
    ir, vi, decoder = golden["ir"], golden["vi"], damped_network.DIDF_Decoder
    from_ir, from_vi = damped_network.DIDF_Encoder(ir), damped_network.DIDF_Encoder(vi)
    recorded(correlation(from_vi.base, from_ir.base), golden, "cc_base")
    recorded(correlation(from_vi.detail, from_ir.detail), golden, "cc_detail")
    rebuilt_ir, rebuilt_vi = decoder(from_ir, ir), decoder(from_vi, vi)
    first = reconstruction_loss(ir, vi, rebuilt_ir, rebuilt_vi, from_ir, from_vi)
    # Recorded with a two-dimensional window, whose rounding the small variances of these images magnify.
    recorded(structural_dissimilarity(vi, rebuilt_vi), golden, "loss_ssim_vi", 1e-4)
    recorded(first.decomposition, golden, "loss_decomp")
    recorded(first.slopes, golden, "loss_grad_vi")
    recorded(first.total, golden, "loss_phase1", 1e-3)
    second = fusion_loss(ir, vi, golden["damped_fused"], from_ir, from_vi)
    recorded(second.intensity, golden, "loss_int")
    recorded(second.edges, golden, "loss_maxgrad")
    recorded(second.total, golden, "loss_phase2", 1e-4)


def test_what_is_rebuilt_exactly_costs_nothing_but_its_decomposition() -> None:
    ir, vi = torch.rand(2, 2, 1, 16, 16)
    features = (Features(torch.rand(2, 4, 16, 16), torch.rand(2, 4, 16, 16)) for _ in range(2))
    terms = reconstruction_loss(ir, vi, ir, vi, *features)
    assert float(terms.visible) == pytest.approx(0, abs=1e-5)
    assert float(terms.infrared) == pytest.approx(0, abs=1e-5)
    assert float(terms.slopes) == 0
    assert float(terms.total) == pytest.approx(2 * float(terms.decomposition), abs=1e-4)


def test_the_brighter_image_with_the_stronger_edges_costs_nothing() -> None:
    vi = torch.rand(1, 1, 16, 16)
    ir = vi * 0.5
    features = Features(torch.rand(1, 4, 16, 16), torch.rand(1, 4, 16, 16))
    terms = fusion_loss(ir, vi, vi, features, features)
    assert float(terms.intensity) == float(terms.edges) == 0


def test_decomposition_wants_equal_bases_and_unlike_details() -> None:
    base, detail = torch.rand(2, 1, 4, 16, 16)
    alike = decomposition(Features(base, detail), Features(base, detail))
    assert float(alike) == pytest.approx(1 / 2.01, abs=1e-4)
    apart = decomposition(Features(base, detail), Features(base, torch.rand(1, 4, 16, 16)))
    assert apart < alike
    opposed = decomposition(Features(base, detail), Features(-base, detail))
    assert float(opposed) == pytest.approx(100, rel=1e-2)


def test_black_images_have_gradients() -> None:
    black = torch.zeros(1, 1, 16, 16)
    network = CDDFuseNet()
    features = network.DIDF_Encoder(black)
    rebuilt = network.DIDF_Decoder(features, black)
    reconstruction_loss(black, black, rebuilt, rebuilt, features, features).total.backward()
    assert all(p.grad.isfinite().all() for p in network.parameters() if p.grad is not None)
