"""The fusion network of IRFS against recorded outputs of the official implementation, and its published procedure."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from fusion_det.errors import MethodError
from fusion_det.fusion import FusionMethod, build_method
from fusion_det.fusion.checkpoint import save_checkpoint
from fusion_det.fusion.methods.irfs.network import FSFNet, Head
from fusion_det.fusion.methods.irfs.official import fuse_officially

Arrays = dict[str, torch.Tensor]
Shapes = dict[str, tuple[int, ...]]

TOLERANCE = 1e-4


def assert_near(actual: torch.Tensor, expected: torch.Tensor, tolerance: float = TOLERANCE) -> None:
    torch.testing.assert_close(actual, expected, atol=tolerance, rtol=0)


def test_names_shapes_and_size_are_the_published_ones(names_and_shapes: Shapes) -> None:
    network = FSFNet()
    assert {name: tuple(value.shape) for name, value in network.state_dict().items()} == names_and_shapes
    assert sum(parameter.numel() for parameter in network.parameters()) == 241_701
    assert network.head_1.body[1] is network.head_2.body[1]
    assert network.head_1.body[1].weight.item() == 0.25


def test_fused_image_and_stages(golden: Arrays, filled_network: FSFNet) -> None:
    network, vi = filled_network, golden["vi"]
    head = network.head_1
    features = head.body(vi)
    attended = head(vi)
    found = {
        "head_1_body": features,
        "head_1_SA": features * head.SA(features),
        "head_1_CA": features * head.CA(features),
        "head_1": attended,
        "body_0": network.body[0](attended + network.head_2(golden["ir"])),
    }
    for name, value in found.items():
        assert_near(value[:, 24:25], golden[f"{name}_channel_24"])
    assert_near(network(golden["ir"], vi), golden["fused"])


@torch.no_grad()
def test_in_strips_as_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(1)
    network = FSFNet()
    ir, vi = torch.rand(2, 2, 1, 21, 16)
    whole = network(ir, vi)
    monkeypatch.setattr("fusion_det.fusion.strips.PIXELS", 100)
    assert_near(network(ir, vi), whole, 1e-6)


def plain_head(head: Head, image: torch.Tensor) -> torch.Tensor:
    """As published: both attended maps, put together and mixed."""
    features = head.body(image)
    return head.conv1x1(torch.cat((features * head.SA(features), features * head.CA(features)), dim=1))


def test_a_head_is_the_published_formula_forward_and_backward() -> None:
    torch.manual_seed(0)
    head = FSFNet().head_1
    image = torch.rand(3, 1, 17, 12)
    gradients = []
    for compute in (head, lambda x: plain_head(head, x)):
        head.zero_grad()
        compute(image).square().sum().backward()
        gradients.append([parameter.grad.clone() for parameter in head.parameters() if parameter.grad is not None])
    assert len(gradients[0]) == len(list(head.parameters()))
    torch.testing.assert_close(head(image), plain_head(head, image), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(gradients[0], gradients[1], atol=1e-4, rtol=1e-4)


def test_tiny_is_a_sixteenth_and_says_what_it_is(tmp_path: Path) -> None:
    tiny = build_method("irfs", weights=None, config="tiny")
    assert isinstance(tiny, FusionMethod)
    assert tiny.network is not None
    assert sum(parameter.numel() for parameter in tiny.network.parameters()) < 241_701 / 14
    file = tmp_path / "tiny.safetensors"
    save_checkpoint(file, tiny.network.state_dict(), {"method": "irfs", "config": "tiny"})
    with pytest.raises(MethodError, match="configuration tiny, not for irfs, configuration released"):
        build_method("irfs", file, config="released")


def test_wrong_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(B,1,H,W\) of one size"):
        FSFNet()(torch.rand(1, 1, 8, 8), torch.rand(1, 3, 8, 8))


def test_published_procedure(golden: Arrays, filled_network: FSFNet) -> None:
    filled_network.tail[0].weight.neg_()  # as recorded: else nearly all would be cut off at 0
    ir, vi = golden["pipeline_ir_uint8"].numpy(), golden["pipeline_vi_rgb_uint8"].numpy()
    fused = fuse_officially(filled_network, ir, vi)
    differences = np.abs(fused.astype(int) - golden["pipeline_fused_rgb_uint8"].numpy())
    # Fractions are cut off, so that an image value a rounding error below a level becomes the level below.
    assert differences.max() <= 1
    assert (differences > 0).mean() < 1e-3
    assert (fused > 0).mean() > 0.2


def test_published_procedure_takes_grey_and_colour_for_either_source(golden: Arrays, filled_network: FSFNet) -> None:
    ir, vi = golden["pipeline_ir_uint8"].numpy(), golden["pipeline_vi_rgb_uint8"].numpy()
    as_rgb = np.repeat(ir[..., None], 3, axis=2)
    np.testing.assert_array_equal(fuse_officially(filled_network, as_rgb, vi), fuse_officially(filled_network, ir, vi))
    fused = fuse_officially(filled_network, ir, cv2.cvtColor(vi, cv2.COLOR_RGB2GRAY))
    assert fused.shape == (*ir.shape, 3)
    assert (fused == fused[..., :1]).all()


def test_official_checkpoint_layout_loads_strictly(tmp_path: Path, filled_network: FSFNet, golden: Arrays) -> None:
    file = tmp_path / "fusion_model.pth"
    state = filled_network.state_dict()
    torch.save(state, file)
    method = build_method("irfs", file)
    assert isinstance(method, FusionMethod)
    assert method.trained
    assert_near(method.fuse(golden["ir"], golden["vi"]), golden["fused"])
    vi, ir = golden["pipeline_vi_rgb_uint8"].numpy(), golden["pipeline_ir_uint8"].numpy()
    np.testing.assert_array_equal(method.fuse_officially(ir, vi), fuse_officially(filled_network, ir, vi))
    torch.save({name: value for name, value in state.items() if not name.startswith("tail")}, file)
    with pytest.raises(MethodError, match=r"1 missing: tail.0.weight"):
        build_method("irfs", file)
