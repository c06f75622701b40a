"""The network against recorded outputs of the official implementation: 1e-4, amplified 3e-4 (float32 noise is a tenth)."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fusion_det.data.color import rgb_to_ycbcr
from fusion_det.fusion.frame import fuse_frames, pad_for, padding_margins
from fusion_det.fusion.methods.s4fusion import S4Fusion
from fusion_det.fusion.methods.s4fusion.network import S4FusionNet

Arrays = dict[str, torch.Tensor]
MakeNetwork = Callable[..., S4FusionNet]

PLAIN, AMPLIFIED = 1e-4, 3e-4
SCAN_BLOCKS = ("layers_x.0.blocks.0", "fusion_layers.1.layers.0")


def assert_near(actual: torch.Tensor, expected: torch.Tensor, tolerance: float = PLAIN) -> None:
    torch.testing.assert_close(actual, expected, atol=tolerance, rtol=0)


def both(blocks: Arrays, key: str, suffix: str = "") -> torch.Tensor:
    """The infrared and visible arrays of a key, stacked."""
    return torch.stack((blocks[f"{key}_ir{suffix}"], blocks[f"{key}_vi{suffix}"]))


def test_names_and_shapes_are_the_published_ones() -> None:
    file = Path(__file__).resolve().parents[2] / "golden" / "s4fusion" / "state_dict.json"
    published = {name: tuple(shape) for name, shape in json.loads(file.read_text()).items()}
    network = S4FusionNet()
    assert {name: tuple(value.shape) for name, value in network.state_dict().items()} == published
    assert not list(network.buffers())
    network.load_state_dict({name: torch.zeros(shape) for name, shape in published.items()}, strict=True)


def test_fused_image_and_every_stage(golden: Arrays, filled_network: MakeNetwork) -> None:
    network = filled_network()
    part = network.vmunet
    stages: dict[str, nn.Module] = {
        "embed_ir": part.patch_embed_x,
        "embed_vi": part.patch_embed_y,
        "enc1_ir": part.layers_x[1],
        "enc1_vi": part.layers_y[1],
        "enc2_ir": part.layers_x[2],
        "enc2_vi": part.layers_y[2],
        "fuse1": part.fusion_layers[1],
        "fuse2": part.fusion_layers[2],
        "dec0": part.layers_up[0],
        "dec1": part.layers_up[1],
        "dec2": part.layers_up[2],
    }
    seen: Arrays = {}

    def remember(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: object, output: torch.Tensor | tuple[torch.Tensor, torch.Tensor]) -> None:
            seen[name] = output[1] if isinstance(output, tuple) else output

        return hook

    hooks = [module.register_forward_hook(remember(name)) for name, module in stages.items()]
    try:
        seen["fused"] = network(golden["ir"], golden["vi"])
    finally:
        for hook in hooks:
            hook.remove()
    for name, actual in seen.items():
        assert_near(actual, golden[name])


def test_fused_image_amplified(golden: Arrays, filled_network: MakeNetwork) -> None:
    assert_near(filled_network(6.0)(golden["ir"], golden["vi"]), golden["fused_amplified6"], AMPLIFIED)


@pytest.mark.parametrize(
    "module", ["patch_embed_x", "layers_x.0.blocks.0", "layers_x.0.downsample", "layers_up.1.upsample"]
)
def test_module(module: str, golden_blocks: Arrays, filled_network: MakeNetwork) -> None:
    actual = filled_network().vmunet.get_submodule(module)(golden_blocks[f"{module}/in"])
    assert_near(actual, golden_blocks[f"{module}/out"])


def test_vss_block_inside(golden_blocks: Arrays, filled_network: MakeNetwork) -> None:
    name = SCAN_BLOCKS[0]
    block = filled_network().vmunet.get_submodule(name)
    normed = block.ln_1(golden_blocks[f"{name}/in"])
    assert_near(normed, golden_blocks[f"{name}/ln_out"])
    assert_near(block.self_attention(normed[None])[0], golden_blocks[f"{name}/ss2d_out"])
    amplified = filled_network(6.0).vmunet.get_submodule(name)(golden_blocks[f"{name}/in"])
    assert_near(amplified, golden_blocks[f"{name}/out_amplified6"], AMPLIFIED)


def test_cmsa_block_and_level(golden_blocks: Arrays, filled_network: MakeNetwork) -> None:
    name = SCAN_BLOCKS[1]
    sources = both(golden_blocks, f"{name}/in")
    block = filled_network().vmunet.get_submodule(name)
    assert_near(block(sources), both(golden_blocks, f"{name}/out"))
    level = filled_network().vmunet.fusion_layers[1]
    assert_near(level(sources), golden_blocks["fusion_layers.1/out"])
    assert_near(level.interact(sources).sum(0), golden_blocks["fusion_layers.1/out"])
    amplified = filled_network(6.0).vmunet.get_submodule(name)(sources)
    assert_near(amplified, both(golden_blocks, f"{name}/out", "_amplified6"), AMPLIFIED)


@pytest.mark.parametrize("name", SCAN_BLOCKS)
def test_what_is_scanned(name: str, golden_blocks: Arrays, filled_network: MakeNetwork) -> None:
    """Features and parameters position by position; recorded in the order of direction 0, row by row, modalities in turns."""
    block = filled_network().vmunet.get_submodule(name)
    if name == SCAN_BLOCKS[0]:
        sources, block = block.ln_1(golden_blocks[f"{name}/in"][:1])[None], block.self_attention
    else:
        sources = both(golden_blocks, f"{name}/in")
    u, params = block.scan_inputs(block.split(sources)[0])
    t, B, C = params.split((block.rank, block.states, block.states), dim=-1)
    delta = torch.einsum("mbhwkr,kdr->mbhwkd", t, block.dt_projs_weight)

    def in_turns(x: torch.Tensor) -> torch.Tensor:
        return x[:, 0].permute(3, 1, 2, 0).flatten(1)  # (M,1,H,W,c) → (c,H·W·M)

    recorded = {key: golden_blocks[f"{name}/scan_{key}"][0, 0] for key in ("u", "delta_raw", "B", "C")}
    assert_near(in_turns(u), recorded["u"])
    for key, actual in (("delta_raw", delta), ("B", B), ("C", C)):
        assert_near(in_turns(actual[..., 0, :]), recorded[key])


def test_step_sizes(golden_blocks: Arrays, filled_network: MakeNetwork) -> None:
    name = SCAN_BLOCKS[1]
    block = filled_network().vmunet.get_submodule(name)
    sources = both(golden_blocks, f"{name}/in")
    projected = block.step_sizes(sources, "projected")
    assert projected.shape == (2, 1, 2, 3, 4, 144)
    assert_near(
        projected[:, 0, ..., 0, :].permute(3, 1, 2, 0).flatten(1), golden_blocks[f"{name}/scan_delta_raw"][0, 0]
    )
    biased = block.step_sizes(sources, "biased")
    assert_near(biased, projected + block.dt_projs_bias)
    assert_near(block.step_sizes(sources), F.softplus(biased))


def test_last_expansion(golden_blocks: Arrays, filled_network: MakeNetwork) -> None:
    """One product and one fold stand for the published expansion, fold and mixing."""
    part = filled_network().vmunet
    z = golden_blocks["final/in"]
    assert_near(part.project(z), golden_blocks["final/out"])
    expanded = part.final_up.expand(z)
    assert_near(expanded, golden_blocks["final/expanded"])
    folded = F.fold(expanded.flatten(1, 2).mT, (13, 25), 4, stride=3)
    assert_near(folded, golden_blocks["final/folded"])


def test_pipeline_from_bytes_to_bytes(golden: Arrays, filled_network: MakeNetwork) -> None:
    """Colour, padding and rounding around the network, by the released script."""
    ir = golden["pipeline_ir_uint8"][None, None] / 255
    vi = golden["pipeline_vi_rgb_uint8"].permute(2, 0, 1)[None] / 255
    method = S4Fusion()
    method.network = filled_network()
    height, width = ir.shape[-2:]
    assert padding_margins(method.card, height, width) == tuple(golden["pipeline_pad_left_right_top_bottom"].tolist())
    ycbcr = rgb_to_ycbcr(vi)
    assert_near(ycbcr[:, :1], golden["pipeline_vi_y"], 1e-6)
    chroma = torch.cat((golden["pipeline_vi_cb"], golden["pipeline_vi_cr"]), dim=1)
    assert_near(ycbcr[:, 1:], chroma, 4e-4)  # the script rounds its coefficients to three places
    left, right, top, bottom = padding_margins(method.card, height, width)
    padded = (F.pad(image, (left, right, top, bottom)) for image in (ir, ycbcr[:, :1]))
    raw = method.fuse(*padded)[..., top : top + height, left : left + width]
    assert_near(raw, golden["pipeline_fused"])
    bytes_out = method.fuse_officially(golden["pipeline_ir_uint8"].numpy(), golden["pipeline_vi_rgb_uint8"].numpy())
    difference = (torch.from_numpy(bytes_out).int() - golden["pipeline_fused_uint8"].int()).abs()
    assert difference.max() <= 1
    tie = (golden["pipeline_fused"][0, 0] * 255 + 0.5) % 1
    away_from_ties = (tie > 0.05) & (tie < 0.95)
    assert difference[away_from_ties].max() == 0


def test_without_padding_both_protocols_are_one(golden: Arrays, filled_network: MakeNetwork) -> None:
    method = S4Fusion()
    method.network = filled_network()
    ir, vi = golden["pipeline_ir_uint8"][:37, :61], golden["pipeline_vi_rgb_uint8"][:37, :61]
    common = fuse_frames(method, ir[None, None] / 255, vi.permute(2, 0, 1)[None] / 255, "gray")[0]
    assert torch.equal(common, torch.from_numpy(method.fuse_officially(ir.numpy(), vi.numpy())))


@pytest.mark.parametrize(
    ("size", "padded"), [(480, 481), (640, 649), (768, 769), (1024, 1033), (1, 13), (13, 13), (14, 25)]
)
def test_official_padding(size: int, padded: int) -> None:
    left, right, *_ = padding_margins(S4Fusion.card, 13, size)
    assert size + left + right == padded
    assert left == (padded - size) // 2


def test_padding_is_at_the_right_place() -> None:
    image = torch.rand(1, 1, 480, 640)
    padded = pad_for(S4Fusion.card, image)
    assert padded.shape == (1, 1, 481, 649)
    torch.testing.assert_close(padded, F.pad(image, (4, 5, 0, 1), mode="reflect"))
    zeros = dataclasses.replace(S4Fusion.card, padding="zero")
    torch.testing.assert_close(pad_for(zeros, image), F.pad(image, (4, 5, 0, 1)))
    at_end = dataclasses.replace(zeros, padding_side="end")
    torch.testing.assert_close(pad_for(at_end, image), F.pad(image, (0, 9, 0, 1)))
