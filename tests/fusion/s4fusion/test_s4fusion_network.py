"""The network's size, its configurations, its dead ends, its precisions, and how it begins to learn."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fusion_det.fusion import build_method
from fusion_det.fusion.frame import fuse_frames
from fusion_det.fusion.methods.s4fusion import CARD, S4Fusion
from fusion_det.fusion.methods.s4fusion.config import CONFIGS, S4FusionConfig
from fusion_det.fusion.methods.s4fusion.network import S4FusionNet

MakeNetwork = Callable[..., S4FusionNet]

every_config = pytest.mark.parametrize("name", CONFIGS)
TINY = S4FusionConfig(dims=(16, 32), depths=(1, 1), states=3, fusion_states=4, fusion_blocks=1)


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def pair(*size: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(size, generator=generator), torch.rand(size, generator=generator)


def gradients(network: nn.Module, size: int = 13) -> dict[str, bool]:
    """Name → whether a loss on the output moves the parameter."""
    ir, vi = pair(2, 1, size, size)
    network(ir, vi).square().mean().backward()
    return {name: p.grad is not None and bool(p.grad.abs().max() > 0) for name, p in network.named_parameters()}


def test_parameters_by_part() -> None:
    part = S4FusionNet().vmunet
    assert count(part) == 3_562_981
    assert count(part.patch_embed_x) == count(part.patch_embed_y) == 912
    assert count(part.layers_x) == count(part.layers_y) == 502_848
    assert [count(level) for level in part.fusion_layers] == [152_064, 444_096, 1_448_064]
    assert count(part.layers_up) == 501_984
    assert count(part.final_up) == 9_240
    assert count(part.final_conv) == 13


def test_dead_parameters_of_the_released_network() -> None:
    network = S4FusionNet()
    dead = [name for name, alive in gradients(network, 25).items() if not alive]
    assert all(name.startswith(("vmunet.fusion_layers.0.", "vmunet.final_up.norm.")) for name in dead)
    assert sum(network.get_parameter(name).numel() for name in dead) == 152_088


def test_the_paper_uses_every_level() -> None:
    alive = gradients(S4FusionNet(CONFIGS["paper"]), 25)
    assert [name for name, moved in alive.items() if not moved] == [
        "vmunet.final_up.norm.weight",
        "vmunet.final_up.norm.bias",
    ]


@every_config
def test_every_configuration(name: str) -> None:
    network = S4FusionNet(CONFIGS[name]).eval()
    ir, vi = pair(2, 1, 25, 37)
    with torch.no_grad():
        fused = network(ir, vi)
        assert fused.shape == ir.shape
        alone = torch.cat([network(ir[i : i + 1], vi[i : i + 1]) for i in range(2)])
    torch.testing.assert_close(fused, alone, atol=1e-5, rtol=0)


@every_config
def test_every_configuration_fuses_any_size(name: str) -> None:
    method = build_method("s4fusion", weights=None, config=name)
    assert isinstance(method, S4Fusion)
    assert method.config == name
    with torch.no_grad():
        assert fuse_frames(method, torch.rand(1, 1, 1, 26), torch.rand(1, 3, 1, 26), "ycbcr").shape == (1, 1, 26, 3)


def test_configurations_on_the_card() -> None:
    assert tuple(CONFIGS) == CARD.configs
    assert CARD.configs[0] == "released"
    assert CONFIGS["released"] == S4FusionConfig()
    assert {config.size_multiple for config in CONFIGS.values()} == {CARD.size_multiple}


@pytest.mark.parametrize("name", ["cnn", "ca", "sa", "va"])
def test_replacements_have_about_as_many_parameters(name: str) -> None:
    released = S4FusionNet().vmunet.fusion_layers
    for level, replacement in zip(released, S4FusionNet(CONFIGS[name]).vmunet.fusion_layers, strict=True):
        assert count(replacement) == pytest.approx(count(level), rel=0.09)


def test_only_the_fusion_is_replaced() -> None:
    released = {name for name, _ in S4FusionNet().named_parameters() if "fusion_layers" not in name}
    for name in ("add", "cnn", "ca", "sa", "va"):
        others = {key for key, _ in S4FusionNet(CONFIGS[name]).named_parameters() if "fusion_layers" not in key}
        assert others == released
    unmarked = {name for name, _ in S4FusionNet(CONFIGS["no_mark"]).named_parameters()}
    assert {name.rpartition(".")[2] for name, _ in S4FusionNet().named_parameters() if name not in unmarked} == {
        "mark_proj"
    }


def test_addition_is_the_sum() -> None:
    x = torch.rand(2, 1, 3, 4, 48)
    torch.testing.assert_close(S4FusionNet(CONFIGS["add"]).vmunet.fusion_layers[0](x), x[0] + x[1])


@pytest.mark.parametrize("name", ["cnn", "ca", "sa", "va"])
def test_replacements_mix_the_modalities(name: str) -> None:
    """What the level adds to the sum changes with each modality; for attention also with far positions."""
    level = S4FusionNet(CONFIGS[name]).vmunet.fusion_layers[0]
    nn.init.normal_(next(p for key, p in level.named_parameters() if p.dim() > 1), std=0.3)
    x = torch.rand(2, 1, 4, 40, 48)
    learnt = level(x) - x.sum(0)
    for modality in range(2):
        changed = x.clone()
        changed[modality, :, :, :2] += 1
        moved = ((level(changed) - changed.sum(0)) - learnt).abs().amax((0, 1, 3))
        assert moved[0] > 0
        assert (moved[-1] > 0) == (name != "cnn")


def test_spatial_cross_attention_is_attention() -> None:
    """Against softmax(qkᵀ/√d)v written out."""
    from fusion_det.fusion.methods.s4fusion.ablations import attend_channels, attend_positions

    q, k, v = torch.randn(3, 2, 11, 96).unbind()
    for heads, part in enumerate(torch.arange(96).split(48)):
        a, b, c = q[..., part], k[..., part], v[..., part]
        expected = ((a @ b.mT) / math.sqrt(48)).softmax(-1) @ c
        torch.testing.assert_close(attend_positions(q, k, v)[..., part], expected, atol=1e-5, rtol=1e-5)
        cosines = F.cosine_similarity(a.mT[:, :, None], b.mT[:, None], dim=-1)
        expected = ((2.0 + heads) * cosines).softmax(-1) @ c.mT
        actual = attend_channels(q, k, v, torch.tensor([2.0, 3.0]).view(2, 1, 1))[..., part]
        torch.testing.assert_close(actual, expected.mT, atol=1e-5, rtol=1e-5)


def test_paper_block() -> None:
    """Norm before the block; Δ, B and C from the marked features."""
    level = S4FusionNet(CONFIGS["paper"]).vmunet.fusion_layers[0]
    block = level.layers[0]
    x = torch.rand(2, 1, 3, 4, 48)
    nn.init.normal_(block.ln_1.weight)
    p, _ = block.split(x)
    torch.testing.assert_close(p, super(type(block), block).split(block.ln_1(x))[0])
    u, params = block.scan_inputs(p)
    torch.testing.assert_close(u, block.mark(p))
    of_visible = torch.einsum("bhwd,kcd->bhwkc", u[1], block.y_proj_weight)
    torch.testing.assert_close(params[1], of_visible, atol=1e-5, rtol=1e-4)


def test_dimensions_are_free() -> None:
    network = S4FusionNet(TINY)
    assert TINY.size_multiple == 6
    ir, vi = pair(1, 1, 19, 7)
    assert network(ir, vi).shape == (1, 1, 19, 7)
    with pytest.raises(ValueError, match="doubles the width"):
        S4FusionConfig(dims=(48, 96, 96))
    with pytest.raises(ValueError, match="3 widths"):
        S4FusionConfig(depths=(1, 2))
    with pytest.raises(ValueError, match="multiple of 4"):
        S4FusionConfig(dims=(6,), depths=(1,))


@pytest.mark.parametrize("size", [(1, 13), (12, 13), (13, 26), (480, 640)], ids=str)
def test_sizes_that_leave_a_remainder(size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=r"H and W are 12k \+ 1 with k ≥ 1, not"):
        S4FusionNet()(*pair(1, 1, *size))


def test_sources_of_other_shapes() -> None:
    with pytest.raises(ValueError, match="of one size"):
        S4FusionNet()(torch.rand(1, 1, 13, 13), torch.rand(1, 3, 13, 13))


def test_initial_values() -> None:
    torch.manual_seed(0)
    network = S4FusionNet()
    block = network.vmunet.fusion_layers[1].layers[0]
    d, r = 144, 6
    assert block.in_proj.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert block.out_norm.weight.eq(1).all()
    for weight, fan_in in ((block.x_proj_weight, d), (block.y_proj_weight, d), (block.mark_proj, 2 * d)):
        assert weight.abs().max().item() == pytest.approx(fan_in**-0.5, rel=0.01)
    assert block.dt_projs_weight.abs().max().item() == pytest.approx(r**-0.5, rel=0.01)
    step = F.softplus(block.dt_projs_bias)
    assert step.min().item() == pytest.approx(1e-3, rel=0.1)
    assert step.max().item() == pytest.approx(1e-1, rel=0.1)
    assert step.log().mean().item() == pytest.approx(math.log(1e-2), abs=0.2)
    torch.testing.assert_close(block.A_logs.exp(), torch.arange(1.0, 19).expand(4 * d, -1))
    assert block.Ds.eq(1).all()


def test_marks_for_the_optimiser() -> None:
    marked = {name.rpartition(".")[2] for name, p in S4FusionNet().named_parameters() if hasattr(p, "_no_weight_decay")}
    assert marked == {"A_logs", "Ds"}


def test_learns() -> None:
    """A few steps towards the mean of the sources."""
    torch.manual_seed(0)
    network = S4FusionNet(TINY)
    optimiser = torch.optim.AdamW(network.parameters(), 5e-3)
    ir, vi = pair(4, 1, 13, 13)
    losses = []
    for _ in range(25):
        loss = (network(ir, vi) - (ir + vi) / 2).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2


def test_recording_gradients_changes_nothing() -> None:
    """The operations that save memory without gradients give what the others give."""
    network = S4FusionNet(TINY)
    ir, vi = pair(1, 1, 13, 19)
    with torch.no_grad():
        expected = network(ir, vi)
    torch.testing.assert_close(network(ir, vi).detach(), expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_lower_precision(dtype: str, filled_network: MakeNetwork) -> None:
    method = build_method("s4fusion", weights=None, dtype=dtype)
    assert isinstance(method, S4Fusion)
    method.network.load_state_dict(filled_network().state_dict())
    full = S4Fusion()
    full.network = filled_network()
    kinds = {name.rpartition(".")[2]: p.dtype for name, p in method.network.named_parameters()}
    assert kinds["A_logs"] == kinds["Ds"] == kinds["dt_projs_bias"] == torch.float32
    assert kinds["x_proj_weight"] == kinds["weight"] == getattr(torch, dtype)
    ir, vi = pair(1, 1, 25, 37)
    with torch.no_grad():
        raw = method.fuse(*(image.to(method.dtype) for image in (ir, vi)))
        expected = full.fuse(ir, vi)
    spread = expected.max() - expected.min()
    assert (raw.float() - expected).abs().max() < (0.05 if dtype == "bfloat16" else 0.01) * spread
    fused = fuse_frames(method, ir, vi.expand(-1, 3, -1, -1), "gray")
    assert fused.dtype == torch.uint8


def test_float64(filled_network: MakeNetwork) -> None:
    network = S4FusionNet().double()
    network.load_state_dict(filled_network().state_dict())
    ir, vi = pair(1, 1, 13, 25)
    with torch.no_grad():
        fused = network(ir.double(), vi.double())
        torch.testing.assert_close(fused, filled_network()(ir, vi).double(), atol=1e-4, rtol=0)


@every_config
def test_meta_device(name: str) -> None:
    """Built and run without memory, for counting and comparing."""
    with torch.device("meta"):
        network = S4FusionNet(CONFIGS[name])
        assert all(parameter.is_meta for parameter in network.parameters())


def test_fused_levels() -> None:
    assert list(S4FusionConfig().fused_levels) == [1, 2]
    assert list(dataclasses.replace(S4FusionConfig(), wiring="equations").fused_levels) == [0, 1, 2]
