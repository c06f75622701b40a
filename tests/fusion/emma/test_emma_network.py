"""EMMA's networks against recorded outputs of the official implementation, and what users of them rely on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from fusion_det.errors import MethodError
from fusion_det.fusion import build_method, strips
from fusion_det.fusion.checkpoint import save_checkpoint, shapes_of
from fusion_det.fusion.methods.emma import EMMA
from fusion_det.fusion.methods.emma.config import EMMAConfig
from fusion_det.fusion.methods.emma.network import UFuser
from fusion_det.fusion.methods.emma.sensing import SensingNet

Arrays = dict[str, torch.Tensor]
GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "emma"


def assert_near(actual: torch.Tensor, expected: torch.Tensor, tolerance: float = 1e-4) -> None:
    torch.testing.assert_close(actual, expected, atol=tolerance, rtol=0)


def outputs(network: nn.Module, names: list[str], *inputs: torch.Tensor) -> Arrays:
    """What the network and its parts of these names return (the network under "")."""
    seen: Arrays = {}

    def remember(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: object, output: torch.Tensor) -> None:
            seen[name] = output

        return hook

    hooks = [network.get_submodule(name).register_forward_hook(remember(name)) for name in names]
    try:
        seen[""] = network(*inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return seen


@pytest.mark.parametrize(
    ("network", "name", "parameters"), [(UFuser, "ufuser", 1_517_657), (SensingNet, "unet", 39_397_761)]
)
def test_names_and_shapes_are_the_published_ones(network: type[nn.Module], name: str, parameters: int) -> None:
    published = json.loads((GOLDEN / f"state_dict_{name}.json").read_text())
    with torch.device("meta"):
        made = network()
    assert shapes_of(made) == {key: tuple(shape) for key, shape in published.items()}
    assert sum(parameter.numel() for parameter in made.parameters()) == parameters


def test_fused_image_and_every_stage(golden: Arrays, filled_network: UFuser) -> None:
    names = ["I_en_2", "I_en_3", "I_en_4", "V_en_4", "V_down1", "f_4", "de_4", "up4", "de_3", "up3", "de_2"]
    names += ["I_en_2.LocalFeature"]
    seen = outputs(filled_network, names, golden["ir"], golden["vi"])
    assert_near(seen[""], golden["fused"])
    for name in names:
        expected = golden[name.replace(".", "_")]
        assert_near(seen[name][:, : expected.shape[1]], expected)


def test_branches_of_the_global_features(golden: Arrays, filled_network: UFuser) -> None:
    seen = outputs(filled_network, ["I_en_2.embed"], golden["ir"], golden["vi"])
    x = seen["I_en_2.embed"]
    part = filled_network.get_submodule("I_en_2.GlobalFeature")
    attended = part.attn(x, part.norm1)
    assert_near((attended - x)[:, :2], golden["I_en_2_GlobalFeature_attn"])
    assert_near(part.mlp(part.norm2(attended))[:, :2], golden["I_en_2_GlobalFeature_mlp"])


def test_sensing_network(golden: Arrays, filled_sensing: SensingNet) -> None:
    names = ["down5", "up_sample5", "up4"]
    seen = outputs(filled_sensing, names, golden["vi"])
    assert_near(seen[""], golden["sense_vi"], 1e-6)
    for name in names:
        expected = golden[f"unet_{name}"]
        assert_near(seen[name][:, : expected.shape[1]], expected)


def test_attention_of_single_channels_depends_on_its_values_alone(filled_network: UFuser) -> None:
    """At the finest level each head has one channel, and the softmax of one number is 1."""
    network = UFuser()
    network.load_state_dict(filled_network.state_dict())
    ir, vi = torch.rand(2, 1, 1, 16, 24)
    before = network(ir, vi)
    with torch.no_grad():
        attention = network.get_submodule("I_en_1.GlobalFeature.attn")
        attention.scale.mul_(-3)
        attention.qkv2.weight[:16].normal_()
    torch.testing.assert_close(network(ir, vi), before, atol=0, rtol=0)


def test_recording_gradients_and_strips_change_nothing(filled_network: UFuser, monkeypatch: pytest.MonkeyPatch) -> None:
    network = UFuser()
    network.load_state_dict(filled_network.state_dict())
    ir, vi = torch.rand(2, 2, 1, 40, 32)
    expected = network(ir, vi)
    assert expected.requires_grad
    for pixels in (1 << 20, 100):
        monkeypatch.setattr(strips, "PIXELS", pixels)
        with torch.no_grad():
            assert_near(network(ir, vi), expected.detach(), 1e-5)


@pytest.mark.parametrize("shape", [(1, 1, 8, 16), (1, 1, 17, 16), (1, 3, 16, 16)], ids=str)
def test_sizes_that_do_not_go_through(shape: tuple[int, ...], filled_network: UFuser) -> None:
    with pytest.raises(ValueError, match="H"):
        filled_network(torch.rand(shape), torch.rand(shape))


def test_sensing_network_takes_multiples_of_sixteen() -> None:
    with pytest.raises(ValueError, match="16"):
        SensingNet(2)(torch.rand(1, 1, 24, 32))


def test_heads_divide_the_widths() -> None:
    with pytest.raises(ValueError, match="heads"):
        EMMAConfig(widths=(8, 12, 16, 16))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_lower_precision(dtype: str, golden: Arrays, filled_network: UFuser) -> None:
    method = build_method("emma", weights=None, dtype=dtype)
    assert isinstance(method, EMMA)
    method.network.load_state_dict(filled_network.state_dict())
    with torch.no_grad():
        fused = method.fuse(golden["ir"].to(method.dtype), golden["vi"].to(method.dtype))
    assert fused.dtype == method.dtype
    assert_near(fused.float(), golden["fused"], 0.05 if dtype == "bfloat16" else 0.01)


def test_tiny_configuration_learns() -> None:
    torch.manual_seed(0)
    method = EMMA("tiny")
    ir, vi = torch.rand(2, 2, 1, 16, 16)
    optimiser = torch.optim.Adam(method.network.parameters(), 2e-3)
    losses = []
    for _ in range(8):
        optimiser.zero_grad()
        loss = (method.fuse(ir, vi) - (ir + vi) / 2).square().mean()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]


def test_published_checkpoint(tmp_path: Path, filled_network: UFuser) -> None:
    """One flat state dict."""
    torch.save(dict(filled_network.state_dict()), tmp_path / "EMMA.pth")
    method = build_method("emma", weights=tmp_path / "EMMA.pth")
    assert isinstance(method, EMMA)
    assert method.trained
    for name, value in filled_network.state_dict().items():
        assert torch.equal(method.network.state_dict()[name], value)


def test_own_checkpoint_names_its_configuration(tmp_path: Path) -> None:
    file = tmp_path / "tiny.safetensors"
    save_checkpoint(file, EMMA("tiny").network.state_dict(), {"method": "emma", "config": "tiny"})
    EMMA("tiny").load_weights(file)
    with pytest.raises(MethodError, match="configuration tiny"):
        EMMA().load_weights(file)
