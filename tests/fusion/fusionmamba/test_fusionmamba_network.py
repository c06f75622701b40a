"""The network against recorded outputs, what it leaves out, and its checkpoints."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from filled import filled_value
from torch import nn

from fusion_det.errors import MethodError
from fusion_det.fusion import build_method
from fusion_det.fusion.checkpoint import save_checkpoint, shapes_of
from fusion_det.fusion.methods.fusionmamba import FusionMamba
from fusion_det.fusion.methods.fusionmamba.blocks import (
    CrossBlock,
    DVSSBlock,
    LearnableDifference,
    PatchExpanding,
    PatchMerging,
)
from fusion_det.fusion.methods.fusionmamba.config import CONFIGS, FusionMambaConfig
from fusion_det.fusion.methods.fusionmamba.network import FusionMambaNet
from fusion_det.fusion.methods.fusionmamba.official import fuse_square, resized_grey, stretched_bytes
from fusion_det.fusion.methods.fusionmamba.scans import deal, gather

Arrays = dict[str, torch.Tensor]
EVERY = 16


def assert_near(actual: torch.Tensor, expected: torch.Tensor, tolerance: float = 1e-4) -> None:
    torch.testing.assert_close(actual, expected, atol=tolerance, rtol=0)


def filled(module: nn.Module, name: str, *, adjusted: bool = False) -> nn.Module:
    """As a part of the network of that name. ``adjusted``: masks 1, and scans that depend on their input more."""
    with torch.no_grad():
        for own, value in module.state_dict().items():
            value.copy_(filled_value(f"{name}.{own}", tuple(value.shape)))
            if adjusted and own.endswith("base_mask"):
                value.fill_(1)
            if adjusted and own.endswith(("x_proj_weight", "dt_projs_weight")):
                value.mul_(4)
    return module.eval()


def test_names_shapes_and_number_of_parameters(published_shapes: dict[str, tuple[int, ...]]) -> None:
    with torch.device("meta"):
        made = FusionMambaNet()
        medical = FusionMambaNet(CONFIGS["medical"])
    assert shapes_of(made) == published_shapes
    assert len(published_shapes) == 1039
    sizes = {name: parameter.numel() for name, parameter in made.named_parameters()}
    assert sum(sizes.values()) == 225_419_541
    assert sum(size for name, size in sizes.items() if name.endswith("base_mask")) == 60_880_896
    assert {name for name, parameter in made.named_parameters() if not parameter.requires_grad} == {
        name for name in sizes if name.endswith("base_mask")
    }
    assert shapes_of(medical).items() < shapes_of(made).items()


def test_fused_image_and_every_stage(golden: Arrays, filled_method: FusionMamba) -> None:
    network = filled_method.network
    seen: Arrays = {}

    def remember(name: str) -> Callable[..., None]:
        return lambda module, inputs, output: seen.__setitem__(name, output)

    stages = {f"enc{level}": layer for level, layer in enumerate(network.layers)}
    stages |= {f"cross{level}": block for level, block in enumerate(network.Cross_block)}
    stages |= {f"dec{i}": layer for i, layer in enumerate(network.layers_up)}
    stages |= {"embed_vi": network.patch_embed1, "embed_ir": network.patch_embed2}
    hooks = [module.register_forward_hook(remember(name)) for name, module in stages.items()]
    try:
        fused = network(golden["ir"], golden["vi"])
        assert "cross0" not in seen  # what nothing depends on is not computed,
        network.Cross_block[0](seen["embed_vi"], seen["embed_ir"])  # but could be
    finally:
        for hook in hooks:
            hook.remove()
    assert_near(fused, golden["fused"], 5e-5)
    for level in range(4):
        seen[f"enc{level}_vi"], seen[f"enc{level}_ir"] = seen.pop(f"enc{level}").chunk(2)
    recorded = [name.removesuffix("_ch16") for name in golden if name.endswith("_ch16")]
    assert sorted(recorded) == sorted(seen)
    for name in recorded:
        expected = golden[f"{name}_ch16"]
        assert_near(seen[name][..., ::EVERY], expected, 1e-4 * max(1.0, float(expected.abs().max())))


def test_recorded_bytes(golden: Arrays, filled_method: FusionMamba) -> None:
    ir, vi = golden["pipeline_ir_uint8"].numpy(), golden["pipeline_vi_rgb_uint8"].numpy()
    np.testing.assert_array_equal(resized_grey(ir, 64), golden["pipeline_ir_resized64_uint8"].numpy())
    np.testing.assert_array_equal(resized_grey(vi, 64), golden["pipeline_vi_gray_resized64_uint8"].numpy())
    fused = fuse_square(filled_method.network, ir, vi, 64)
    assert_near(fused, golden["pipeline_fused"], 5e-5)
    found, recorded = stretched_bytes(fused[0, 0]).astype(int), golden["pipeline_fused_uint8"].numpy()
    assert np.abs(found - recorded).max() <= 1
    assert (found == recorded).mean() > 0.98


@pytest.mark.parametrize("name", ["", "_narrow"])
def test_stretching_to_the_byte(name: str, golden: Arrays) -> None:
    found = stretched_bytes(golden[f"post_in{name}"][0, 0])
    np.testing.assert_array_equal(found, golden[f"post_out{name}_uint8"].numpy())


def test_images_without_contrast_cannot_be_stretched() -> None:
    with pytest.raises(MethodError, match="contrast"):
        stretched_bytes(torch.full((3, 4), 2.0))


@pytest.mark.parametrize("size", [(1, 1), (50, 33)], ids=str)
def test_official_result_has_the_size_and_the_colours_of_the_pair(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    method, rng = FusionMamba("tiny"), np.random.default_rng(0)
    ir = rng.integers(0, 256, size, dtype=np.uint8)
    vi = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
    if size == (1, 1):
        with pytest.raises(MethodError, match="contrast"):
            method.fuse_officially(ir, vi)
        return
    grey, colour = method.fuse_officially(ir, vi[..., 1]), method.fuse_officially(ir, vi)
    assert grey.shape == size
    assert colour.shape == (*size, 3)
    assert colour.dtype == grey.dtype == np.uint8


@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("adjusted", [True, False])
def test_single_blocks(grad: bool, adjusted: bool, golden_blocks: Arrays) -> None:
    g, suffix = golden_blocks, "_adjusted" if adjusted else ""
    with torch.set_grad_enabled(grad):
        at = "layers.0.blocks.0"
        block = filled(DVSSBlock(96, 16, 0.1), at, adjusted=adjusted)
        assert_near(block(g[f"{at}/in"]), g[f"{at}/out{suffix}"], 2e-5)
        if not adjusted:
            assert_near(block.op(g[f"{at}/in"]), g[f"{at}/op_out"], 1e-5)
        at = "Cross_block.1"
        block = filled(CrossBlock(192, 16), at, adjusted=adjusted)
        assert_near(block(g[f"{at}/in_1"], g[f"{at}/in_2"]), g[f"{at}/out{suffix}"], 2e-5)


def test_what_changes_the_resolution(golden_blocks: Arrays) -> None:
    g = golden_blocks
    for at, module in (("final_up", PatchExpanding(96, 24, 4)), ("layers.0.downsample", PatchMerging(96))):
        assert_near(filled(module, at)(g[f"{at}/in"]), g[f"{at}/out"], 1e-5)
    maps = torch.rand(2, 5, 7, 8)
    merging = PatchMerging(8)
    torch.testing.assert_close(merging(maps), merging(maps[:, :4, :6]))


def test_dealing_out_and_gathering(golden_blocks: Arrays) -> None:
    maps = golden_blocks["EfficientScan/in"]
    height, width = maps.shape[-2:]
    parts = deal(maps.permute(0, 2, 3, 1))
    sequences = [part.transpose(1, 2) if k % 2 else part for k, part in enumerate(parts)]
    dealt = torch.stack([part.flatten(1, 2).mT for part in sequences], dim=1)
    recorded = golden_blocks["EfficientScan/out"]
    # The recorded array has channels within directions, or directions within channels, as many numbers either way.
    assert_near(dealt.reshape(1, 4, -1), recorded.reshape(1, 4, -1), 0)
    gathered = gather(parts, height, width)
    assert_near(gathered, maps.permute(0, 2, 3, 1), 0)


@torch.no_grad()
def test_kernel_by_hand_and_kept_until_a_parameter_changes() -> None:
    torch.manual_seed(0)
    layer = LearnableDifference(3)
    layer.learnable_mask.uniform_()
    weight, theta = layer.conv.weight, float(layer.learnable_theta)
    mask = torch.ones(3, 3, 3, 3)
    mask[..., 1, 1] -= theta * layer.learnable_mask * weight.sum((2, 3))
    assert_near(layer.kernel(), weight * mask, 1e-6)
    assert layer.kernel() is layer.kernel()
    for parameter in layer.parameters():
        before = layer.kernel()
        parameter.mul_(1.5)
        assert not torch.equal(layer.kernel(), before)
        assert_near(layer.kernel(), layer.make_kernel(), 0)
    before = layer.kernel()
    layer.load_state_dict(LearnableDifference(3).state_dict())
    assert not torch.equal(layer.kernel(), before)
    with torch.enable_grad():
        assert layer.kernel().requires_grad


def test_dead_parameters_get_no_gradient() -> None:
    """What the released network leaves unused, and the half of ``in_proj2`` that would be a gate."""
    torch.manual_seed(0)
    network = FusionMamba("tiny").network.train()
    network(*torch.rand(2, 1, 1, 16, 16)).square().sum().backward()
    dead = {
        name for name, parameter in network.named_parameters() if parameter.requires_grad and parameter.grad is None
    }
    expected = {
        name for name, _ in network.named_parameters() if name.startswith("Cross_block.0.") or "lastconv" in name
    }
    assert dead == {name for name in expected if not name.endswith("base_mask")}
    gradient = network.Cross_block[1].self_attention_cross.in_proj2.weight.grad
    scanned, gate = gradient.chunk(2)
    assert scanned.abs().sum() > 0
    assert gate.abs().sum() == 0


def test_left_out_branches() -> None:
    """On average, training with branches left out is as computing without it."""
    torch.manual_seed(0)
    block = DVSSBlock(8, 2, 0.5)
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    x = torch.randn(1, 4, 4, 8).expand(400, -1, -1, -1)
    with torch.no_grad():
        found, without = block(x), block.eval()(x[:1])
    same = (found - x).abs().amax((1, 2, 3)) == 0
    assert 0.15 < same.float().mean() < 0.35  # both branches left out: a quarter
    changes = block._dropped(without - x[:1])
    assert torch.equal(changes, without - x[:1])  # not in evaluation mode


def test_published_initialisation() -> None:
    torch.manual_seed(0)
    network = FusionMamba("tiny").network
    for name, parameter in network.named_parameters():
        if name.endswith(("in_proj.weight", "fc1.weight", "expand.weight", "reduction.weight")):
            assert parameter.std().item() == pytest.approx(0.02, rel=0.2), name
        if name.endswith(("base_mask", "learnable_mask")):
            assert (parameter == 1).all()
        if name.endswith("learnable_theta"):
            assert (parameter == 0.5).all()


def test_rates_of_left_out_branches_rise() -> None:
    with torch.device("meta"):
        network = FusionMambaNet()
    for layers in (network.layers, network.layers_up):
        drops = [block.drop for layer in layers for block in layer.blocks]
        np.testing.assert_allclose(drops, np.linspace(0, 0.1, 15))


@pytest.mark.parametrize(
    "fields", [{"dims": (96, 192)}, {"dims": (96, 192, 384, 700)}, {"dims": (12, 24, 48, 96)}, {"patch": 5}], ids=str
)
def test_shapes_that_do_not_fit(fields: dict[str, tuple[int, ...]]) -> None:
    with pytest.raises(ValueError, match=r"dims|level"):
        FusionMambaConfig(**fields)


@pytest.mark.parametrize("shape", [(1, 1, 17, 16), (1, 3, 16, 16), (1, 1, 0, 16)], ids=str)
def test_sizes_that_do_not_go_through(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="H"):
        FusionMamba("tiny").network(torch.rand(shape), torch.rand(shape))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_lower_precision(dtype: str) -> None:
    torch.manual_seed(0)
    full = FusionMamba("tiny")
    method = build_method("fusionmamba", weights=None, config="tiny", dtype=dtype)
    assert isinstance(method, FusionMamba)
    method.network.load_state_dict(full.network.state_dict())
    ir, vi = torch.rand(2, 1, 1, 32, 32)
    with torch.no_grad():
        fused = method.fuse(ir.to(method.dtype), vi.to(method.dtype))
        assert_near(fused.float(), full.fuse(ir, vi), 0.05)
    assert fused.dtype == method.dtype


def test_published_checkpoint(tmp_path: Path) -> None:
    """One flat state dict, base masks among it; of the small network, for the size of the file."""
    torch.manual_seed(0)
    state = dict(FusionMamba("tiny").network.state_dict())
    assert any(name.endswith("base_mask") for name in state)
    torch.save(state, tmp_path / "fusionmamba_ivif.pth")
    method = build_method("fusionmamba", weights=tmp_path / "fusionmamba_ivif.pth", config="tiny")
    assert isinstance(method, FusionMamba)
    assert method.trained
    assert all(torch.equal(method.network.state_dict()[name], value) for name, value in state.items())
    del state["Cross_block.0.Cross_layer.Diff_enhance.lastconv.bias"]
    torch.save(state, tmp_path / "part.pth")
    with pytest.raises(MethodError, match="1 missing"):
        FusionMamba("tiny").load_weights(tmp_path / "part.pth")


def test_own_checkpoint_names_its_configuration(tmp_path: Path) -> None:
    file = tmp_path / "tiny.safetensors"
    save_checkpoint(file, FusionMamba("tiny").network.state_dict(), {"method": "fusionmamba", "config": "medical"})
    with pytest.raises(MethodError, match="configuration medical"):
        FusionMamba("tiny").load_weights(file)
