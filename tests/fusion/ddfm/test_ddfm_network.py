"""DDFM's prior against recorded outputs of the official implementation, and its checkpoints."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from filled import fill
from plain_formulations import as_published
from torch import nn

from fusion_det.errors import MethodError
from fusion_det.fusion import build_method
from fusion_det.fusion.checkpoint import save_checkpoint, shapes_of
from fusion_det.fusion.methods import ddfm
from fusion_det.fusion.methods.ddfm import DDFM
from fusion_det.fusion.methods.ddfm.config import CONFIGS, DDFMConfig
from fusion_det.fusion.methods.ddfm.network import AttentionBlock, ResidualBlock, UNet, embedded

Arrays = dict[str, torch.Tensor]
GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "ddfm"
SHARED = Path(__file__).resolve().parents[4] / "shared" / "reference" / "ddfm"


def test_names_shapes_and_order_are_the_published_ones() -> None:
    with torch.device("meta"):
        network = UNet()
    published = {name: tuple(shape) for name, shape in json.loads((GOLDEN / "state_dict.json").read_text()).items()}
    assert shapes_of(network) == published
    assert list(network.state_dict()) == list(published)
    assert sum(parameter.numel() for parameter in network.parameters()) == 552_814_086


def test_first_call_is_as_recorded(golden: Arrays, narrow_network: UNet) -> None:
    found = narrow_network(golden["x_T"], torch.tensor([999]))
    assert found.shape == (1, 6, 64, 64)
    torch.testing.assert_close(found[:, [0, 1, 2, 5]], golden["unet_out_first"], atol=1e-5, rtol=0)


@pytest.mark.slow
def test_published_width_is_as_recorded() -> None:
    file = SHARED / "golden_full.npz"
    if not file.is_file():
        pytest.skip(f"the recorded call of the whole network is not at {file}")
    with np.load(file) as arrays:
        x, timestep, expected = (torch.from_numpy(arrays[key]) for key in ("unet_x", "t", "unet_out"))
    network = UNet().requires_grad_(False)
    fill(network)
    torch.testing.assert_close(network(x, timestep), expected, atol=1e-5, rtol=0)


def test_times_of_a_batch_are_those_of_its_images_alone(narrow_network: UNet) -> None:
    """A batch with a time for each image goes another way than one with a time for all."""
    x = torch.randn(2, 3, 32, 32)
    times = torch.tensor([17, 800])
    together = narrow_network(x, times)
    for image, time, found in zip(x, times, together, strict=True):
        torch.testing.assert_close(narrow_network(image[None], time[None])[0], found, atol=1e-4, rtol=0)


def test_shortcuts_change_nothing(narrow_network: UNet) -> None:
    """A time for all is folded into the norms, maps have their channels last, attention is fused."""
    x = torch.randn(2, 3, 32, 64)
    for time in (0, 640):
        expected = as_published(narrow_network)(x, torch.tensor([time]))
        torch.testing.assert_close(narrow_network(x, torch.tensor([time])), expected, atol=1e-5, rtol=0)


def test_embedding_is_cosines_then_sines() -> None:
    found = embedded(torch.tensor([3]), 4)[0]
    expected = [np.cos(3), np.cos(0.03), np.sin(3), np.sin(0.03)]
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float32))


def test_attention_is_the_published_formula() -> None:
    block = AttentionBlock(128, 64, 32)
    fill(block)
    x = torch.randn(2, 128, 3, 5)
    qkv = F.conv1d(block.norm(x).flatten(2), block.qkv.weight, block.qkv.bias)
    q, k, v = qkv.reshape(4, 192, 15).split(64, dim=1)  # per head, not per kind
    weights = torch.einsum("bct,bcs->bts", q * 64**-0.25, k * 64**-0.25).softmax(-1)
    heads = torch.einsum("bts,bcs->bct", weights, v).reshape(2, 128, 15)
    expected = x + F.conv1d(heads, block.proj_out.weight, block.proj_out.bias).reshape(x.shape)
    torch.testing.assert_close(block(x), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("resampling", ["none", "down", "up"])
def test_residual_block_is_the_published_formula(resampling: str) -> None:
    block = ResidualBlock(32, 64, 16, 32, resampling)  # type: ignore[arg-type]
    fill(block)
    x, embedding = torch.randn(1, 32, 8, 8), torch.randn(1, 16)

    def resample(maps: torch.Tensor) -> torch.Tensor:
        if resampling == "down":
            return maps.unflatten(2, (4, 2)).unflatten(4, (4, 2)).mean((3, 5))
        return maps.repeat_interleave(2, 2).repeat_interleave(2, 3) if resampling == "up" else maps

    h = block.in_layers[2](resample(F.silu(block.in_layers[0](x.clone()))))
    scale, shift = F.linear(F.silu(embedding), block.emb_layers[1].weight, block.emb_layers[1].bias)[0].split(64)
    h = F.group_norm(h, 32, block.out_layers[0].weight, block.out_layers[0].bias, 1e-5)
    h = block.out_layers[3](F.silu(h * (1 + scale[:, None, None]) + shift[:, None, None]))
    torch.testing.assert_close(block(x, embedding), block.skip_connection(resample(x)) + h, atol=1e-4, rtol=1e-5)


def test_a_fresh_network_predicts_nothing_and_its_blocks_add_nothing() -> None:
    """The published initialisation."""
    network = DDFM("tiny").network
    assert not network(torch.randn(1, 3, 32, 32), torch.tensor([5])).any()
    for module in network.modules():
        if isinstance(module, ResidualBlock):
            assert not any(parameter.any() for parameter in module.out_layers[3].parameters())
        if isinstance(module, AttentionBlock):
            x = torch.randn(1, module.norm.num_channels, 2, 2)
            assert torch.equal(module(x), x)


def test_gradients_are_differences() -> None:
    """What is changed in place on the way is needed by no gradient."""
    network = DDFM("tiny").network
    fill(network)
    double = network.double()
    x, times = torch.randn(1, 3, 16, 16, dtype=torch.float64), torch.tensor([400])
    parameter = double.input_blocks[0][0].weight
    direction = torch.randn_like(parameter)
    double(x, times).square().sum().backward()
    expected = (parameter.grad * direction).sum()
    values = []
    with torch.no_grad():
        for sign in (1, -1):
            parameter.add_(sign * 1e-5 * direction)
            values.append(double(x, times).square().sum())
            parameter.sub_(sign * 1e-5 * direction)
    torch.testing.assert_close((values[0] - values[1]) / 2e-5, expected, rtol=1e-4, atol=0)


def test_smallest_image_and_the_multiple_that_images_are_of() -> None:
    for config in CONFIGS.values():
        assert ddfm.CARD.size_multiple % config.size_multiple == 0
    assert DDFMConfig().size_multiple == 32


@pytest.mark.parametrize(
    ("changes", "message"), [({"width": 48}, "groups"), ({"width": 32, "head_width": 48}, "heads")]
)
def test_widths_that_do_not_divide(changes: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DDFMConfig(**changes)


def test_published_layout_loads_strictly(tmp_path: Path, narrow_network: UNet, monkeypatch: pytest.MonkeyPatch) -> None:
    """One flat state dict; here of a narrower network, 2 GB being too much for a test."""
    monkeypatch.setitem(CONFIGS, "released", narrow_network.config)
    torch.save(dict(narrow_network.state_dict()), tmp_path / "256x256_diffusion_uncond.pt")
    method = build_method("ddfm", weights=tmp_path / "256x256_diffusion_uncond.pt", config="released")
    assert isinstance(method, DDFM)
    assert method.trained
    for name, value in narrow_network.state_dict().items():
        assert torch.equal(method.network.state_dict()[name], value)
    assert all(parameter.requires_grad for parameter in method.network.parameters())
    lacking = dict(narrow_network.state_dict())
    del lacking["out.2.bias"]
    torch.save(lacking, tmp_path / "lacking.pt")
    with pytest.raises(MethodError, match=r"1 missing: out\.2\.bias"):
        method.load_weights(tmp_path / "lacking.pt")


def test_half_precision_files_make_a_network_of_single_precision(tmp_path: Path) -> None:
    state = DDFM("tiny").network.state_dict()
    torch.save({name: value.half() for name, value in state.items()}, tmp_path / "half.pt")
    method = DDFM("tiny")
    method.load_weights(tmp_path / "half.pt")
    for name, value in method.network.state_dict().items():
        assert value.dtype == torch.float32
        assert torch.equal(value, state[name].half().float())


def test_own_checkpoint_names_its_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "tiny.safetensors"
    save_checkpoint(file, DDFM("tiny").network.state_dict(), {"method": "ddfm", "config": "tiny"})
    DDFM("tiny").load_weights(file)
    monkeypatch.setitem(CONFIGS, "released", CONFIGS["tiny"])
    with pytest.raises(MethodError, match="configuration tiny"):
        DDFM().load_weights(file)


def test_all_parameters_learn_but_those_of_the_variance() -> None:
    """A batch of one time for all, and one with many: both ways reach everything."""
    network = DDFM("tiny").network
    fill(network)
    for times in ([3], [3, 500]):
        network.zero_grad()
        network(torch.randn(2, 3, 16, 16), torch.tensor(times))[:, :3].square().mean().backward()
        still = {name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()}
        assert not still
        last = network.out[2]
        assert isinstance(last, nn.Conv2d)
        assert not last.weight.grad[3:].any()
