"""MAEFuse's network against recorded outputs of the official implementation, and what users of it rely on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from filled import fill, filled_value

from fusion_det.errors import MethodError
from fusion_det.fusion import build_method
from fusion_det.fusion.checkpoint import save_checkpoint, shapes_of
from fusion_det.fusion.mae import image_of, patches_of, position_table
from fusion_det.fusion.methods.maefuse import MAEFuse
from fusion_det.fusion.methods.maefuse.common import resized
from fusion_det.fusion.methods.maefuse.config import CONFIGS, MAEFuseConfig
from fusion_det.fusion.methods.maefuse.network import FusionLayer, MAEFuseNet, Window

Arrays = dict[str, np.ndarray]
Inputs = Callable[[Arrays], tuple[torch.Tensor, torch.Tensor]]


def assert_near(actual: torch.Tensor, expected: np.ndarray, tolerance: float = 1e-5) -> None:
    torch.testing.assert_close(actual, torch.from_numpy(expected), atol=tolerance, rtol=0)


def test_names_and_shapes_are_the_published_ones(published_shapes: dict[str, tuple[int, ...]]) -> None:
    with torch.device("meta"):
        network = MAEFuseNet()
    assert shapes_of(network) == published_shapes
    assert sum(parameter.numel() for parameter in network.parameters()) == 337_516_800
    learnt = sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
    assert learnt == 337_516_800 - 4_096_000


def test_encoder_has_the_names_of_timms() -> None:
    timm = pytest.importorskip("timm")
    with torch.device("meta"):
        network = MAEFuseNet()
        theirs = shapes_of(timm.create_model("vit_large_patch16_224.mae", pretrained=False))
    ours = shapes_of(network.model1)
    shared = {name for name in theirs if ours.get(name) == theirs[name]}
    assert theirs.keys() - shared == {"cls_token", "pos_embed"}
    assert len(shared) == 292


@pytest.mark.parametrize("prefix", ["", "sincos_"])
@torch.no_grad()
def test_recorded_stages(
    prefix: str, golden: Arrays, network_inputs: Inputs, filled_network: MAEFuseNet, sincos_network: MAEFuseNet
) -> None:
    network = sincos_network if prefix else filled_network
    ir, vi = network_inputs(golden)
    blocks: list[torch.Tensor] = []
    hook = network.model1.blocks[0].register_forward_hook(lambda module, inputs, output: blocks.append(output))
    window = network.window(ir)
    visible, infrared = network.model1.encode(vi, window), network.model1.encode(ir, window)
    hook.remove()
    fused = network.model2(infrared, visible, window)
    assert_near(visible[0, ::64], golden[f"{prefix}vi_latent"])
    assert_near(fused[0, ::64], golden[f"{prefix}fusion"])
    assert_near(network.model1.decode(fused, window)[:, :, 3::16, 5::16], golden[f"{prefix}fused"])
    if not prefix:
        assert_near(vi[:, :, ::32, ::32], golden["vi_in_s8"], 1e-7)
        assert_near(ir[:, :, ::32, ::32], golden["ir_in_s8"], 1e-7)
        assert_near(blocks[0][0, ::64], golden["vi_block0"])
        assert_near(infrared[0, ::64], golden["ir_latent"])


@torch.no_grad()
def test_attention_goes_over_the_batch(golden: Arrays) -> None:
    """As recorded where pairs mix; and a pair by itself is a batch of one."""
    layer, window = FusionLayer(64, 1600, 16), Window(0, 0, 40, 40)
    fill(layer)
    vi, ir = (320 * filled_value(name, (2, 1600, 64)) for name in ("vi_latent", "ir_latent"))
    assert_near(layer(ir, vi, window, mixed=True)[:, ::64], golden["batch2_fusion"])
    alone = layer(ir, vi, window)
    assert_near(alone[:1, ::64], golden["batch1_fusion"])
    for pair in range(2):
        one = layer(ir[pair : pair + 1], vi[pair : pair + 1], window, mixed=True)
        torch.testing.assert_close(one[0], alone[pair], atol=1e-5, rtol=0)


def test_comparing_attention_has_no_influence_on_a_pair_by_itself() -> None:
    method = MAEFuse("tiny")
    ir, vi = torch.rand(2, 1, 1, 16, 24)
    before = method.fuse(ir, vi)
    torch.nn.init.normal_(method.network.model2.cross_model.in_proj_weight)
    torch.nn.init.normal_(method.network.model2.cross_model.out_proj.weight)
    assert torch.equal(method.fuse(ir, vi), before)


@torch.no_grad()
def test_a_window_has_the_positions_of_its_place(sincos_network: MAEFuseNet) -> None:
    """Without attention between its tokens, a window of a picture is coded as it is within the whole."""
    mae = sincos_network.model1
    images = torch.rand(1, 3, 640, 640)
    whole = sincos_network.window(images)
    part = sincos_network.window(images[..., 48:112, 160:256], top=3, left=10)
    assert part == Window(3, 10, 4, 6)
    table = mae.pos_embed.unflatten(1, (40, 40))[:, 3:7, 10:16].flatten(1, 2)
    assert torch.equal(part.of(mae.pos_embed), table)
    assert torch.equal(whole.of(mae.pos_embed), mae.pos_embed)


def test_positions_by_hand() -> None:
    table = position_table(8, 3, 5).double().numpy()
    for row in range(3):
        for column in range(5):
            omega = np.array([1.0, 0.01])
            expected = np.concatenate([f(at * omega) for at in (column, row) for f in (np.sin, np.cos)])
            np.testing.assert_allclose(table[row * 5 + column], expected, atol=1e-6)


def test_patches_and_images() -> None:
    patches = torch.rand(2, 6, 4 * 4 * 3)
    image = image_of(patches, 2, 3)
    for row, column in np.ndindex(8, 12):
        token, pixel = (row // 4) * 3 + column // 4, (row % 4) * 4 + column % 4
        assert torch.equal(image[:, :, row, column], patches[:, token, 3 * pixel : 3 * pixel + 3])
    assert torch.equal(patches_of(image, 4), patches)


@pytest.mark.parametrize(("shape", "message"), [((1, 3, 20, 16), "multiples of 8"), ((1, 3, 264, 16), "at most 256")])
def test_sizes_that_do_not_go_through(shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MAEFuseNet(CONFIGS["tiny"])(torch.rand(shape), torch.rand(shape))


def test_shapes_that_make_no_network() -> None:
    with pytest.raises(ValueError, match="patch"):
        MAEFuseConfig(size=600)
    with pytest.raises(ValueError, match="heads"):
        MAEFuseConfig(width=1000)


@pytest.mark.parametrize("size", [(256, 256), (100, 300), (1, 1)], ids=str)
def test_pictures_of_a_plain_colour_survive_resizing(size: tuple[int, int]) -> None:
    flat = torch.full((2, 1, *size), 0.3)
    torch.testing.assert_close(resized(resized(flat, 256, 256), *size), flat, atol=1e-5, rtol=0)


def test_shrinking_does_not_alias() -> None:
    """The finest checker becomes grey, where plain interpolation would show it at another scale."""
    checker = ((torch.arange(300)[:, None] + torch.arange(300)) % 2).float()[None, None]
    assert (resized(checker, 100, 100)[..., 4:-4, 4:-4] - 0.5).abs().max() < 0.05


def test_published_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, filled_network: MAEFuseNet) -> None:
    """One state dict under "model", of which nothing may be missing."""
    monkeypatch.setitem(CONFIGS, "released", filled_network.config)
    state = dict(filled_network.state_dict())
    torch.save({"model": state}, tmp_path / "final_new_60.pth")
    method = build_method("maefuse", weights=tmp_path / "final_new_60.pth")
    assert isinstance(method, MAEFuse)
    assert method.trained
    assert all(torch.equal(value, state[name]) for name, value in method.network.state_dict().items())
    del state["model2.ln.bias"]
    torch.save({"model": state}, tmp_path / "other.pth")
    with pytest.raises(MethodError, match=r"1 missing: model2\.ln\.bias"):
        build_method("maefuse", weights=tmp_path / "other.pth")


def test_own_checkpoint_names_its_configuration(tmp_path: Path) -> None:
    file = tmp_path / "tiny.safetensors"
    save_checkpoint(file, MAEFuse("tiny").network.state_dict(), {"method": "maefuse", "config": "tiny"})
    MAEFuse("tiny").load_weights(file)


@pytest.mark.slow
@torch.no_grad()
def test_official_width(full_golden: Arrays, network_inputs: Inputs) -> None:
    """1.35 GB of parameters."""
    method = MAEFuse()
    fill(method.network.requires_grad_(False))
    ir, vi = network_inputs(full_golden)
    window = method.network.window(ir)
    infrared, visible = (method.network.model1.encode(image, window) for image in (ir, vi))
    fused = method.network.model2(infrared, visible, window)
    for tokens, name in ((visible, "vi_latent"), (infrared, "ir_latent"), (fused, "fusion")):
        assert_near(tokens[0, ::64, ::4], full_golden[name], 1e-4)
    assert_near(method.network.model1.decode(fused, window)[:, :, 3::8, 5::8], full_golden["fused"], 1e-4)
