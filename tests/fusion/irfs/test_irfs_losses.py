"""The losses of IRFS against recorded values of the official implementation, and against their formulas."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion_det.fusion.methods.irfs.losses import (
    SaliencyMaps,
    contrast,
    fusion_loss,
    guidance_loss,
    laplacian,
    mask_loss,
    ms_ssim_loss,
    planes_to_rgb,
    saliency_loss,
    source_weights,
)

Arrays = dict[str, torch.Tensor]


def sources(golden_loss: Arrays) -> tuple[torch.Tensor, torch.Tensor]:
    return golden_loss["ir_uint8"][None, None] / 255, golden_loss["vi_gray_uint8"][None, None] / 255


def test_weight_maps_to_the_byte(golden_loss: Arrays) -> None:
    weights = source_weights(*sources(golden_loss))
    for name in ("ir", "vi"):
        stored = golden_loss[f"saliency_weight_{name}_uint8"][None, None] / 255
        assert torch.equal(getattr(weights, name), stored)


def test_fusion_loss_and_its_terms(golden_loss: Arrays) -> None:
    ir, vi = sources(golden_loss)
    terms = fusion_loss(ir, vi, golden_loss["fused"], source_weights(ir, vi))
    assert terms.total.item() == pytest.approx(golden_loss["fusion_total"].item(), abs=1e-5)
    assert terms.l1.item() == pytest.approx(golden_loss["fusion_l1"].item(), abs=1e-6)
    assert terms.gradient.item() == pytest.approx(golden_loss["fusion_gradient"].item(), abs=1e-6)
    assert 1 - terms.ms_ssim.item() == pytest.approx(golden_loss["fusion_ms_ssim"].item(), abs=1e-6)


def test_mask_loss(golden_loss: Arrays) -> None:
    found = mask_loss(golden_loss["sod_logits"], golden_loss["sod_mask"].float())
    assert found.item() == pytest.approx(golden_loss["sod_loss"].item(), abs=1e-5)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**32 - 1), st.integers(1, 9), st.integers(1, 9), st.integers(1, 256))
def test_contrast_is_the_sum_over_all_pairs_of_pixels(seed: int, height: int, width: int, levels: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, levels, (2, 1, height, width))
    found = contrast(torch.from_numpy(pixels).float() / 255)
    for one, result in zip(pixels, found, strict=True):
        sums = np.abs(one.reshape(-1, 1) - one.reshape(1, -1)).sum(1)
        expected = sums / sums.max() if sums.max() else np.zeros(sums.shape)
        np.testing.assert_allclose(result.numpy().ravel(), expected, rtol=1e-12)


def test_laplacian_is_its_kernel() -> None:
    image = torch.rand(2, 1, 9, 7, generator=torch.Generator().manual_seed(0))
    kernel = torch.full((1, 1, 3, 3), 1 / 16)
    kernel[..., 1, 1] = -1 / 2
    expected = F.conv2d(F.pad(image, (1, 1, 1, 1), mode="reflect"), kernel)
    torch.testing.assert_close(laplacian(image), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("size", [(16, 16), (33, 47), (80, 19)], ids=str)
def test_ms_ssim_of_an_image_with_itself_and_with_another(size: tuple[int, int]) -> None:
    x, y = torch.rand(2, 1, 1, *size, generator=torch.Generator().manual_seed(1))
    assert ms_ssim_loss(x, x).item() == pytest.approx(0, abs=1e-6)
    # Next to nothing, by the published constants.
    assert 0 < ms_ssim_loss(x, y).item() < 0.1


def test_ms_ssim_needs_five_levels() -> None:
    with pytest.raises(ValueError, match="at least 16×16"):
        ms_ssim_loss(torch.rand(1, 1, 15, 40), torch.rand(1, 1, 15, 40))


def test_losses_have_gradients_and_are_least_where_they_should_be() -> None:
    generator = torch.Generator().manual_seed(2)
    ir, vi, fused = torch.rand(3, 2, 1, 32, 32, generator=generator)
    weights = source_weights(ir, vi)
    fused.requires_grad_()
    fusion_loss(ir, vi, fused, weights).total.backward()
    assert fused.grad is not None
    assert fused.grad.abs().sum() > 0
    mask = (torch.rand(2, 1, 32, 32, generator=generator) > 0.5).float()
    right, wrong = mask_loss(40 * (mask - 0.5), mask), mask_loss(-40 * (mask - 0.5), mask)
    assert right.item() == pytest.approx(0, abs=1e-4)
    assert wrong > 10


def test_losses_of_the_salient_object_network_are_sums_of_mask_losses() -> None:
    generator = torch.Generator().manual_seed(3)
    mask = (torch.rand(2, 1, 64, 64, generator=generator) > 0.5).float()
    visible, thermal, joint, final = torch.randn(4, 2, 1, 64, 64, generator=generator)
    maps = SaliencyMaps(torch.randn(6, 1, 2, 2, generator=generator), visible, thermal, joint, final)
    thrice, twice = torch.cat((mask,) * 3), torch.cat((mask,) * 2)
    expected = mask_loss(final, mask) + mask_loss(torch.cat((visible, thermal, joint)), thrice)
    assert guidance_loss(maps, mask).item() == pytest.approx(expected.item(), abs=1e-6)
    corners = mask[..., [0, 0, 63, 63], [0, 63, 0, 63]].view(2, 1, 2, 2)
    expected = mask_loss(maps.coarse, torch.cat((corners,) * 3)) + mask_loss(final, mask) + mask_loss(joint, mask)
    expected = expected + mask_loss(torch.cat((visible, thermal)), twice)
    assert saliency_loss(maps, mask).item() == pytest.approx(expected.item(), abs=1e-5)


def test_planes_to_rgb_of_grey_and_of_primaries() -> None:
    grey = torch.linspace(0, 1, 5).view(5, 1, 1, 1)
    half = torch.full_like(grey, 0.5)
    assert torch.equal(planes_to_rgb(grey, half, half), grey.expand(-1, 3, -1, -1))
    red = [torch.tensor(value).view(1, 1, 1, 1) for value in (0.299, 1.0, 0.5 - 0.299 / 1.772)]
    torch.testing.assert_close(planes_to_rgb(*red).flatten(), torch.tensor([1.0, 0.0, 0.0]), atol=2e-3, rtol=0)
