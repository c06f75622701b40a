"""The network against recorded outputs, and its checkpoints."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from fusion_det.errors import MethodError
from fusion_det.fusion.checkpoint import save_checkpoint
from fusion_det.fusion.methods.defusion import DeFusion
from fusion_det.fusion.methods.defusion.blocks import SplitAttention
from fusion_det.fusion.methods.defusion.config import CONFIGS, DeFusionConfig
from fusion_det.fusion.methods.defusion.network import DeFusionNet

Arrays = dict[str, torch.Tensor]

STAGES = {
    "encoder_layer0": "encoder_upper",
    "encoder_layer1": "upper_encoder_layer1",
    "encoder_layer2": "upper_encoder_layer2",
    "encoder_layer3": "upper_encoder_layer3",
    "common_encoder": "common_encoder",
    **{f"decoder_common_layer{i}": f"decoder_common_layer{i}" for i in range(1, 5)},
    **{f"decoder_unique_layer{i}": f"decoder_upper_layer{i}" for i in range(1, 5)},
}
"""Recorded name → module; those that serve both images give the infrared's maps first."""


def assert_near(actual: torch.Tensor, expected: torch.Tensor, tolerance: float = 1e-5) -> None:
    torch.testing.assert_close(actual, expected, atol=tolerance, rtol=0)


def test_names_shapes_and_number_of_parameters(published_shapes: dict[str, tuple[int, ...]]) -> None:
    network = DeFusionNet()
    assert [(name, tuple(value.shape)) for name, value in network.state_dict().items()] == [*published_shapes.items()]
    assert sum(parameter.numel() for parameter in network.parameters()) == 7_874_473
    deeper = DeFusionNet(CONFIGS["script"])
    assert sum(parameter.numel() for parameter in deeper.parameters()) == 8_043_817
    assert len(deeper.state_dict()) == 760


def test_all_parts(golden: Arrays, filled_method: DeFusion) -> None:
    ir, network = golden["ir"], filled_method.network
    parts = network.decompose(ir, golden["vi"])
    for name, part in parts._asdict().items():
        assert_near(part[:, : golden[name].shape[1]], golden[name])
    assert torch.equal(network(ir, golden["vi"]), parts.fused)
    assert torch.equal(network(ir.expand(-1, 3, -1, -1), golden["vi"]), parts.fused)
    features = network.features(ir, golden["vi"])
    assert_near(network.fusion_rule[0](sum(features))[:, :2], golden["fused_before_relu"])
    training = network.decompose(ir, golden["vi"], training=True)
    assert_near(training.common, network.decoder_common_projection_layer(features.common), 0)
    assert not torch.equal(training.common, parts.common)


def test_every_stage(golden: Arrays, filled_method: DeFusion) -> None:
    network = filled_method.network
    seen: dict[str, list[torch.Tensor]] = {}

    def remember(name: str) -> Callable[..., None]:
        return lambda module, inputs, output: seen.setdefault(name, []).append(output)

    # A stage may be entered by two ways; all end in its last block.
    blocks = {
        name: [m for m in network.get_submodule(path).modules() if hasattr(m, "conv3")][-1]
        for name, path in STAGES.items()
    }
    hooks = [block.register_forward_hook(remember(name)) for name, block in blocks.items()]
    try:
        network(golden["ir"], golden["vi"])
    finally:
        for hook in hooks:
            hook.remove()
    recorded = [name for name in golden if "_every" in name]
    assert len(recorded) == 21
    for name in recorded:
        stage, every = name.rsplit("_every", 1)
        which = {"ir": 0, "vi": 1}.get(stage[-2:], 0)
        maps = seen[stage.removesuffix("_ir").removesuffix("_vi")][which][:, :: int(every)]
        assert_near(maps[:, : golden[name].shape[1]], golden[name], 2e-5)


def test_published_initialisation() -> None:
    torch.manual_seed(0)
    network = DeFusionNet()
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and module.weight.numel() > 4000:
            expected = math.sqrt(2 / (math.prod(module.kernel_size) * module.out_channels))
            assert module.weight.std().item() == pytest.approx(expected, rel=0.1)
            assert module.weight.mean().abs() < 0.1 * expected


@torch.no_grad()
def test_split_attention_by_hand() -> None:
    torch.manual_seed(0)
    attention, x = SplitAttention(4), torch.randn(2, 4, 5, 7)
    first, second = attention.conv(x).relu().chunk(2, dim=1)
    scores = attention.fc2(attention.fc1((first + second).mean((2, 3), keepdim=True)).relu())
    a = torch.sigmoid(scores[:, :4] - scores[:, 4:])  # a softmax over two
    assert_near(attention(x), a * first + (1 - a) * second, 1e-6)


@pytest.mark.parametrize("width", [2, 6])
def test_a_width_that_cannot_be_halved_into_groups(width: int) -> None:
    with pytest.raises(ValueError, match=f"width {width}: a multiple of 4"):
        DeFusionConfig(width=width)


@pytest.mark.parametrize("config", ["released", "script"])
def test_official_checkpoint_layout(config: str, tmp_path: Path) -> None:
    """The number of blocks follows from the names; a file of the training script loads as well as the released one."""
    trained = DeFusionNet(CONFIGS[config])
    content = {"state_dict": trained.state_dict(), "optimizers": [{"step": 1}], "schedulers": [{}], "epoch": 50}
    torch.save(content, tmp_path / "models.pth")
    method = DeFusion()
    method.load_weights(tmp_path / "models.pth")
    assert method.network.config == CONFIGS[config]
    loaded = method.network.state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in trained.state_dict().items())


def test_what_does_not_fit(tmp_path: Path) -> None:
    file = tmp_path / "models.pth"
    tiny = DeFusionNet(CONFIGS["tiny"])
    torch.save({"state_dict": tiny.state_dict()}, file)
    method = DeFusion()
    before = method.network
    with pytest.raises(MethodError, match="does not fit defusion, configuration released"):
        method.load_weights(file)
    assert method.network is before
    state = {name: value.clone() for name, value in tiny.state_dict().items()}
    state["encoder_lower.0.bias"] += 1
    torch.save({"state_dict": state}, file)
    with pytest.raises(MethodError, match=r"encoder_upper\.0\.bias and encoder_lower\.0\.bias differ"):
        DeFusion("tiny").load_weights(file)


def test_own_weights(tmp_path: Path) -> None:
    file, trained = tmp_path / "own.safetensors", DeFusion("tiny")
    save_checkpoint(file, trained.network.state_dict(), {"method": "defusion", "config": "tiny"})
    method = DeFusion("tiny")
    method.load_weights(file)
    assert torch.equal(method.network.fusion_rule[0].weight, trained.network.fusion_rule[0].weight)
    with pytest.raises(MethodError, match="configuration tiny, not for defusion, configuration released"):
        DeFusion().load_weights(file)
