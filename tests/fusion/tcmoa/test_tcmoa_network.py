"""TC-MoA's network against recorded outputs of the official implementation, and what users of it rely on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from filled import fill
from torch.nn import functional as F

from fusion_det.errors import MethodError
from fusion_det.fusion import build_method
from fusion_det.fusion.checkpoint import shapes_of
from fusion_det.fusion.mae import restored
from fusion_det.fusion.methods.tcmoa import TCMoA
from fusion_det.fusion.methods.tcmoa.adapter import Adapter, MixtureOfExperts
from fusion_det.fusion.methods.tcmoa.checkpoint import todays_names
from fusion_det.fusion.methods.tcmoa.config import CONFIGS, TCMoAConfig
from fusion_det.fusion.methods.tcmoa.losses import balance_loss
from fusion_det.fusion.methods.tcmoa.network import Record, TCMoANet

Arrays = dict[str, np.ndarray]
Inputs = Callable[[Arrays, str], tuple[torch.Tensor, torch.Tensor]]


def assert_near(actual: torch.Tensor, expected: np.ndarray, tolerance: float = 1e-5) -> None:
    torch.testing.assert_close(actual, torch.from_numpy(np.asarray(expected)), atol=tolerance, rtol=0)


@pytest.mark.parametrize(("config", "parameters"), [("large", 340_886_920), ("base", 115_772_525)])
def test_names_and_shapes_are_the_published_ones(
    config: str, parameters: int, published_shapes: dict[str, Any]
) -> None:
    with torch.device("meta"):
        network = TCMoANet(CONFIGS[config])
    assert shapes_of(network) == published_shapes[config]
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters


@pytest.mark.parametrize("config", ["large", "base"])
def test_encoder_has_the_names_of_timms(config: str) -> None:
    timm = pytest.importorskip("timm")
    with torch.device("meta"):
        ours = shapes_of(TCMoANet(CONFIGS[config]))
        theirs = shapes_of(timm.create_model(f"vit_{config}_patch16_224.mae", pretrained=False))
    assert theirs.items() <= ours.items()


@pytest.mark.parametrize("prefix", ["", "wide_"])
@torch.no_grad()
def test_recorded_stages(prefix: str, golden: Arrays, filled_network: TCMoANet, network_inputs: Inputs) -> None:
    """The wide pair shows how positions follow one another in a grid that is no square."""
    network, seen = filled_network, {}

    def remember(name: str) -> Callable[..., None]:
        def hook(module: object, inputs: Any, output: Any) -> None:
            seen[name] = inputs, output

        return hook

    parts = {"adapter": network.blocks_MoA[0], "mixture": network.blocks_MoA[0].MoA, "fusion": network.FusionLayer[0]}
    hooks = [part.register_forward_hook(remember(name)) for name, part in parts.items()]
    ir, vi = network_inputs(golden, prefix)
    record = Record([], [], [])
    visible, infrared = network.encoded(ir, vi, 0, record)
    for hook in hooks:
        hook.remove()
    tokens = network.decoded(visible, infrared, 0, record)

    def recorded(name: str, tokens: torch.Tensor, tolerance: float = 1e-5) -> None:
        assert_near(tokens.flatten(0, -2)[::28], golden[prefix + name], tolerance)

    assert_near(vi[:, :, ::8, ::8], golden[f"{prefix}vi_in_s8"], 1e-6)
    assert_near(ir[:, :, ::8, ::8], golden[f"{prefix}ir_in_s8"], 1e-6)
    before = seen["adapter"][0][0]
    recorded("vi_block1", before)
    recorded("moe_log", seen["mixture"][1][0])
    shift = network.blocks_MoA[0].modal_shifts[0]
    recorded("moa_vi", record.encoder[0].vi * before + shift)
    assert_near(record.encoder[0].vi.flatten(), golden[f"{prefix}moa_prompt_vi"])
    assert_near(record.encoder[0].ir.flatten(), golden[f"{prefix}moa_prompt_ir"])
    assert_near(balance_loss(record.routings[:1]), golden[f"{prefix}moa_aux"], 1e-7)
    recorded("fusion_layer", seen["fusion"][1])
    recorded("vi_latent", visible)
    recorded("ir_latent", infrared)
    recorded("decoder_norm", tokens)
    raw = network.image(tokens)
    if not prefix:
        assert_near(raw[:, :, ::7, ::7], golden["raw_s7"])
    reduced = network.image(tokens, every=2)
    torch.testing.assert_close(reduced, raw[:, :, ::2, ::2], atol=1e-6, rtol=0)
    every, name = (4, "wide_fused_s4") if prefix else (3, "fused_s3")
    assert_near(restored(reduced).clamp(0, 1)[:, :, ::every, ::every], golden[name])


@pytest.mark.parametrize("prefix", ["", "wide_"])
@torch.no_grad()
def test_other_tasks_shifts_and_positions(
    prefix: str, golden: Arrays, filled_network: TCMoANet, sincos_network: TCMoANet, network_inputs: Inputs
) -> None:
    pair = network_inputs(golden, prefix)
    for task in (1, 2):
        fused = restored(filled_network(*pair, task)).clamp(0, 1)
        assert_near(fused[:, :, ::8, ::8], golden[f"{prefix}task{task}_fused_s8"])
    fused = restored(sincos_network(*pair)).clamp(0, 1)
    assert_near(fused[:, :, ::8, ::8], golden[f"{prefix}sincos_fused_s8"])
    unshifted = TCMoANet(filled_network.config).eval()
    unshifted.load_state_dict(filled_network.state_dict())
    fused = restored(unshifted(*pair)).clamp(0, 1)
    assert_near(fused[:, :, ::8, ::8], golden[f"{prefix}zero_shift_fused_s8"])


def test_shifts_are_in_no_checkpoint_and_drawn_by_a_seed() -> None:
    network = TCMoANet(CONFIGS["tiny"])
    assert not any("shift" in name for name in network.state_dict())
    shifts = network.blocks_MoA[0].modal_shifts
    assert shifts.shape == (6, 96)
    assert not shifts.any()
    network.draw_shifts(1)
    drawn = shifts.clone()
    assert drawn.std().item() == pytest.approx(0.02, rel=0.15)
    network.draw_shifts(2)
    assert not torch.equal(shifts, drawn)
    network.draw_shifts(1)
    assert torch.equal(shifts, drawn)


def test_experts_by_hand() -> None:
    """Two of four, by the gate; log of the gated sum of their exponentials."""
    torch.manual_seed(0)
    mixture = MixtureOfExperts(16, 3).eval()
    torch.nn.init.normal_(mixture.w_gate)
    y = torch.randn(5, 16)
    z, routing = mixture(y, 1)
    logits = y @ mixture.w_gate[1]
    for token in range(5):
        best = logits[token].argsort(descending=True)[:2]
        gates = F.softmax(logits[token][best], dim=0)
        total = sum(gate * mixture.experts[int(e)](y[token]).exp() for gate, e in zip(gates, best, strict=True))
        torch.testing.assert_close(z[token], total.log(), atol=1e-5, rtol=0)  # type: ignore[union-attr]
    assert routing.importance.sum().item() == pytest.approx(5, abs=1e-4)
    assert routing.load.sum().item() == 10


def test_gates_that_are_all_but_closed_are_closed() -> None:
    mixture = MixtureOfExperts(8, 1).eval()
    with torch.no_grad():
        mixture.w_gate[0, 0] = torch.tensor([20.0, 1.0, 0.0, -1.0])
    gates, routing = mixture.gates(torch.eye(8)[:1], 0)
    assert gates.tolist() == [[pytest.approx(1.0), 0, 0, 0]]
    assert routing.load.tolist() == [1, 0, 0, 0]


def test_noise_decides_while_training() -> None:
    """The load is then the probability to be chosen again, given the others' noise."""
    torch.manual_seed(0)
    mixture = MixtureOfExperts(8, 1)
    gates, routing = mixture.gates(torch.randn(4000, 8), 0)
    assert ((gates > 0).sum(1) <= 2).all()
    assert (gates > 0).float().mean(0).min() > 0.4  # without preferences, each expert gets half of the tokens
    torch.testing.assert_close(routing.load / 4000, torch.full((4,), 0.5), atol=0.03, rtol=0)


def test_a_windows_bias_is_by_the_way_between_tokens() -> None:
    bias = TCMoANet(CONFIGS["tiny"]).en_relative_position[0]
    table = bias()[0, 0].view(14, 14, 14, 14)
    torch.testing.assert_close(table[3, 5, 1, 2], table[8, 9, 6, 6])
    assert bias.relative_position_index.view(14, 14, 14, 14)[3, 5, 1, 2] == (3 - 1 + 13) * 27 + 5 - 2 + 13


@pytest.mark.parametrize(
    ("shape", "task", "message"),
    [((1, 3, 112, 113), 0, "112"), ((1, 1, 112, 112), 0, r"\(b,3,H,W\)"), ((1, 3, 112, 112), 3, "task 3")],
    ids=str,
)
def test_what_does_not_go_through(shape: tuple[int, ...], task: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TCMoANet(CONFIGS["tiny"])(torch.rand(shape), torch.rand(shape), task)


def test_shapes_that_make_no_network() -> None:
    for wrong, message in (({"width": 1000}, "32"), ({"heads": 15}, "heads"), ({"decoder_depth": 1}, "at least 2")):
        with pytest.raises(ValueError, match=message):
            TCMoAConfig(**wrong)  # type: ignore[arg-type]


def older_name(name: str) -> str:
    """As before the published program's last change."""
    if "blocks_MoA" in name:
        name = name.replace(".MoA.", ".mlp.").replace("blocks_MoA", "blocks_SSF_rgb")
        name = name.replace("dimReduction", "SE_en_linear")
    return name.replace("de_FusionLayer", "de_projAdapter").replace("FusionLayer", "en_projAdapter")


def test_published_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, filled_network: TCMoANet) -> None:
    """One state dict under "model", by today's names or by older ones, of which nothing may be missing."""
    monkeypatch.setitem(CONFIGS, "large", filled_network.config)
    state = dict(filled_network.state_dict())
    older = {older_name(name): value for name, value in state.items()}
    older["blocks_SSF_rgb.0.SSF_beta.0"] = torch.zeros(128)
    assert not older.keys() & {name for name in state if "MoA" in name or "FusionLayer" in name}
    for content in (state, older):
        torch.save({"model": content, "epoch": 19}, tmp_path / "TC-MoA.pth")
        method = build_method("tcmoa", weights=tmp_path / "TC-MoA.pth")
        assert isinstance(method, TCMoA)
        assert all(torch.equal(value, state[name]) for name, value in method.network.state_dict().items())
    assert todays_names(older).keys() == state.keys()
    del state["Alpha_decoder"]
    torch.save({"model": state}, tmp_path / "other.pth")
    with pytest.raises(MethodError, match="1 missing: Alpha_decoder"):
        TCMoA().load_weights(tmp_path / "other.pth")


def test_adapters_stay_in_float32() -> None:
    method = build_method("tcmoa", weights=None, config="tiny", dtype="bfloat16")
    assert isinstance(method, TCMoA)
    kinds = {
        parameter.dtype
        for module in method.network.modules()
        if isinstance(module, Adapter)
        for parameter in module.parameters()
    }
    assert kinds == {torch.float32}
    assert method.network.blocks[0].attn.qkv.weight.dtype == torch.bfloat16
    with torch.no_grad():
        fused = method.fuse(*torch.rand(2, 1, 3, 112, 112, dtype=torch.bfloat16))
    assert fused.dtype == torch.bfloat16


@pytest.mark.slow
@torch.no_grad()
def test_official_width(full_golden: Arrays, network_inputs: Inputs) -> None:
    """1.36 GB of parameters."""
    network = TCMoANet()
    fill(network.requires_grad_(False))
    record = Record([], [], [])
    visible, infrared = network.encoded(*network_inputs(full_golden, ""), 0, record)
    tokens = network.decoded(visible, infrared, 0, record)
    for maps, name in ((visible, "vi_latent"), (infrared, "ir_latent"), (tokens, "decoder_norm")):
        assert_near(maps.flatten(0, 2)[::16, ::8], full_golden[name], 1e-4)
    assert_near(restored(network.image(tokens, every=2)).clamp(0, 1), full_golden["fused"], 1e-4)
