"""SemLA's published procedure: matching, registration, colours, and what cannot be registered."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from scipy.interpolate import RBFInterpolator

from fusion_det.errors import MethodError
from fusion_det.fusion.methods.semla import SemLA
from fusion_det.fusion.methods.semla.network import Registered, SemLANet
from fusion_det.fusion.methods.semla.official import (
    DATASET,
    SINGLE_PAIR,
    Procedure,
    fuse_officially,
    fuse_registered,
    to_rgb,
    to_ycbcr,
)
from fusion_det.fusion.methods.semla.registration import consistent, match, saliency_of_pixels, thin_plate_warp

Arrays = dict[str, torch.Tensor]


@pytest.mark.parametrize(("mode", "threshold"), [("scene", 0.0), ("semantic", 0.5)])
def test_matches_are_as_recorded(mode: str, threshold: float, golden: Arrays, filled_network: SemLANet) -> None:
    found = match(filled_network.backbone(golden["ir"], golden["vi"]), threshold)
    for points, name in zip(found, ("vi", "ir"), strict=True):
        np.testing.assert_array_equal(points, golden[f"mkpts_{name}_{mode}"].numpy())


def test_saliency_of_pixels(golden: Arrays) -> None:
    torch.testing.assert_close(saliency_of_pixels(golden["sa_ir"]), golden["sa_ir_up"], atol=1e-5, rtol=0)


def test_warp_is_as_recorded(golden: Arrays, filled_network: SemLANet) -> None:
    points = (golden[f"tps_pts_{name}"].numpy()[1:] for name in ("vi", "ir"))
    warp = thin_plate_warp(*points, 64, 80)
    image, mask = warp(golden["ir_u8"].numpy()), warp(golden["sa_ir_up"][0, 0].numpy())
    assert np.abs(image.astype(int) - golden["tps_ir_warped_u8"].numpy()).max() <= 1
    np.testing.assert_allclose(mask, golden["tps_sa_warped"][0, 0].numpy(), atol=1e-3)
    recorded = torch.from_numpy(golden["tps_ir_warped_u8"].numpy() / np.float32(255))[None, None]
    fused = filled_network.fusion(recorded, golden["vi"], golden["tps_sa_warped"])
    torch.testing.assert_close(fused, golden["tps_fused_semantic"], atol=1e-4, rtol=0)


def test_spline_is_scipys() -> None:
    """Where a linear image goes tells where the pixels come from."""
    rng = np.random.default_rng(0)
    points = rng.uniform(0, 60, (12, 2))
    targets = points + rng.normal(0, 2, (12, 2))
    warp = thin_plate_warp(points, targets, 60, 60)
    columns, rows = np.meshgrid(np.arange(60.0), np.arange(60.0))
    expected = RBFInterpolator(points, targets, kernel="thin_plate_spline")(
        np.stack((columns, rows), -1).reshape(-1, 2)
    )
    inside = ((expected > 0) & (expected < 59)).all(1)
    assert inside.mean() > 0.8
    for axis, ramp in enumerate((columns, rows)):
        found = warp(ramp.astype(np.float32)).reshape(-1)
        np.testing.assert_allclose(found[inside], expected[inside, axis], atol=0.05)  # OpenCV's steps are 1/32 pixel


def test_points_of_one_place_only_once() -> None:
    features = torch.eye(6).view(1, 6, 2, 3)
    shuffled = features.flatten(2)[..., torch.tensor([1, 0, 2, 5, 4, 3])].view(1, 6, 2, 3)
    salient = torch.ones(1, 1, 2, 3)
    first, second = match(Registered(features, shuffled, salient, salient))
    assert first.tolist() == [[0, 0], [8, 0], [16, 0], [0, 8], [8, 8], [16, 8]]
    assert second.tolist() == [[8, 0], [0, 0], [16, 0], [16, 8], [8, 8], [0, 8]]
    nothing = match(Registered(features, shuffled, 0 * salient, salient))
    assert [points.shape for points in nothing] == [(0, 2), (0, 2)]


def test_outliers_are_left_out() -> None:
    rng = np.random.default_rng(0)
    points = rng.integers(0, 300, (30, 2))
    moved = points + 8
    moved[3] += 100
    kept, targets = consistent(points, moved)
    assert len(kept) == 29
    np.testing.assert_array_equal(targets - kept, 8)


def test_what_cannot_be_registered() -> None:
    few = np.array([[0, 0], [8, 0], [0, 8]])
    with pytest.raises(MethodError, match=r"3 points .* RANSAC no homography .* common protocol"):
        consistent(few, few)
    line = np.array([[0, 0], [8, 8], [16, 16], [24, 24]])
    with pytest.raises(MethodError, match=r"4 points .* on one line"):
        thin_plate_warp(line, line, 8, 8)


def test_colours_are_as_recorded(golden: Arrays) -> None:
    planes = to_ycbcr(torch.from_numpy(golden["vi_rgb_u8"].numpy() / np.float32(255)))
    torch.testing.assert_close(planes[0], golden["vi"][0, 0])
    blue, red = (plane[None, None] for plane in planes[1:])
    found = to_rgb(golden["fused"], blue, red)
    torch.testing.assert_close(found[..., ::2, ::2], golden["fused_rgb"], atol=1e-5, rtol=0)


@pytest.mark.parametrize("semantic", [False, True])
def test_an_aligned_pair_that_matches_itself(semantic: bool, golden: Arrays, filled_network: SemLANet) -> None:
    """With features of which each is its own likest, nothing is bent: what comes out is fusion without registration."""

    class Aligned(torch.nn.Module):
        def forward(self, ir: torch.Tensor, vi: torch.Tensor) -> Registered:
            own = torch.eye(80).view(1, 80, 8, 10)
            salient = torch.linspace(0.1, 0.9, 80).view(1, 1, 8, 10)
            return Registered(own, own, salient, salient)

    class Network(torch.nn.Module):
        backbone, fusion = Aligned(), filled_network.fusion

    ir, vi = golden["ir_u8"].numpy(), golden["vi_rgb_u8"].numpy()
    network = Network()
    network.register_parameter("where", torch.nn.Parameter(torch.zeros(1)))
    fused = fuse_registered(network, ir, vi, Procedure(80, 64, semantic=semantic))  # type: ignore[arg-type]
    mask = saliency_of_pixels(torch.linspace(0.1, 0.9, 80).view(1, 1, 8, 10)) if semantic else None
    luma = filled_network.fusion(golden["ir"], golden["vi"], mask)
    _, blue, red = to_ycbcr(torch.from_numpy(vi / np.float32(255)))
    expected = to_rgb(luma, blue[None, None], red[None, None])[0].permute(1, 2, 0).numpy()
    # Bilinear samples at places that are a hair off: a grey level at most.
    assert np.abs(fused - expected).mean() < 1e-3


def test_result_has_the_size_of_the_pair(golden: Arrays, filled_method: SemLA, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def registered(network: object, ir: np.ndarray, vi: np.ndarray, procedure: Procedure) -> np.ndarray:
        seen.append((ir.shape, vi.shape, procedure))
        return vi / np.float32(255)

    monkeypatch.setattr("fusion_det.fusion.methods.semla.official.fuse_registered", registered)
    ir, vi = golden["odd_ir_u8"].numpy(), golden["odd_vi_rgb_u8"].numpy()
    fused = filled_method.fuse_officially(ir, vi)
    assert fused.shape == vi.shape
    assert fused.dtype == np.uint8
    assert np.abs(fused.astype(int) - cv2.resize(cv2.resize(vi, (320, 240)), (53, 45))).max() == 0
    fuse_officially(filled_method.network, ir, vi, SINGLE_PAIR)
    assert seen == [((240, 320), (240, 320, 3), DATASET), ((480, 640), (480, 640, 3), SINGLE_PAIR)]


def test_a_registration_network_that_learnt_nothing_is_not_used(golden: Arrays) -> None:
    with pytest.raises(MethodError, match="no trained registration"):
        SemLA("tiny").fuse_officially(golden["odd_ir_u8"].numpy(), golden["odd_vi_rgb_u8"].numpy())
