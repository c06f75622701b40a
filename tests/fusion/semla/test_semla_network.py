"""SemLA's networks against recorded outputs of the official implementation, and what users of them rely on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from fusion_det.errors import MethodError
from fusion_det.fusion import build_method, strips, weights_status
from fusion_det.fusion.checkpoint import save_checkpoint, shapes_of
from fusion_det.fusion.methods.semla import SemLA
from fusion_det.fusion.methods.semla.blocks import HaarTransform, LinearAttention
from fusion_det.fusion.methods.semla.config import SemLAConfig
from fusion_det.fusion.methods.semla.network import SemLANet
from fusion_det.fusion.methods.semla.official import is_trained

Arrays = dict[str, torch.Tensor]
GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "semla"


def assert_near(actual: torch.Tensor, expected: torch.Tensor, tolerance: float = 1e-4) -> None:
    torch.testing.assert_close(actual, expected, atol=tolerance, rtol=0)


def test_names_and_shapes_are_the_published_ones() -> None:
    published = json.loads((GOLDEN / "state_dict.json").read_text())
    with torch.device("meta"):
        made = SemLANet()
    assert shapes_of(made) == {key: tuple(shape) for key, shape in published.items()}
    assert sum(parameter.numel() for parameter in made.backbone.parameters()) == 7_277_807
    assert sum(parameter.numel() for parameter in made.fusion.parameters()) == 4_559


def test_registration_network(golden: Arrays, filled_network: SemLANet) -> None:
    backbone = filled_network.backbone
    seen: dict[str, list[torch.Tensor]] = {}

    def remember(name: str) -> Callable[..., None]:
        return lambda module, args, output: seen.setdefault(name, []).append(output)

    names = ["reg0", "dwt", "reg3", "pred_reg", "csc1", "ssr.grid_embedding", "ssr.attention"]
    hooks = [backbone.get_submodule(name).register_forward_hook(remember(name)) for name in names]
    found = backbone(golden["ir"], golden["vi"])
    for hook in hooks:
        hook.remove()
    assert_near(seen["reg0"][0][:, :1, ::2, ::2], golden["reg0"])
    assert_near(seen["dwt"][0][:, ::8][:, :2], golden["dwt0"])
    assert_near(seen["reg3"][0][:, :8], golden["reg3"])
    assert_near(seen["pred_reg"][0][:, :8], golden["pred_reg"])
    assert_near(seen["csc1"][0][..., :16], golden["csc1"])
    assert_near(seen["ssr.grid_embedding"][0][:, :16], golden["grid_embedding"])
    for output, name in zip(seen["ssr.attention"], ("ssr_vi", "ssr_ir"), strict=True):
        assert_near(output[..., :16], golden[name])
    assert_near(found.features_vi[:, :16], golden["reg_vi_final"])
    assert_near(found.features_ir[:, :16], golden["reg_ir_final"])
    assert_near(found.salient_vi, golden["sa_vi"])
    assert_near(found.salient_ir, golden["sa_ir"])


def test_fused_image_and_every_stage(golden: Arrays, filled_network: SemLANet) -> None:
    ir, vi, fusion = golden["ir"], golden["vi"], filled_network.fusion
    first = fusion.fuse1(torch.cat((vi, ir)))
    assert_near(first[:, :1, ::2, ::2], golden["fuse1"])
    assert_near(fusion.fuse4(fusion.fuse3(fusion.fuse2(first)))[:, :1, ::2, ::2], golden["fuse4"])
    fused = filled_network(ir, vi)
    assert_near(fused, golden["fused"])
    assert_near((2 * fused - 1).atanh(), golden["fuse5"], 1e-3)


def test_fused_by_what_is_salient(golden: Arrays, filled_network: SemLANet) -> None:
    assert_near(filled_network.fusion(golden["ir"], golden["vi"], golden["sa_ir_up"]), golden["fused_semantic"])


def test_any_size(golden: Arrays, filled_network: SemLANet) -> None:
    assert_near(filled_network(golden["odd_ir"], golden["odd_vi"]), golden["odd_fused"])


def test_haar_transform_is_orthogonal() -> None:
    x = torch.rand(2, 3, 8, 6)
    bands = HaarTransform()(x)
    assert bands.shape == (2, 12, 4, 3)
    torch.testing.assert_close(bands.square().sum((1, 2, 3)), x.square().sum((1, 2, 3)), rtol=1e-5, atol=0)
    assert_near(bands[:, :3], 2 * torch.nn.functional.avg_pool2d(x, 2), 1e-6)


def test_linear_attention_is_attention_by_its_kernel() -> None:
    attention = LinearAttention(8, 2).requires_grad_(False).double()
    x = torch.rand(1, 7, 8, dtype=torch.float64)
    q, k, v = (part(x)[0].unflatten(1, (2, 4)) for part in (attention.q_proj, attention.k_proj, attention.v_proj))
    q, k = torch.nn.functional.elu(q) + 1, torch.nn.functional.elu(k) + 1
    weights = torch.einsum("lhd,shd->hls", q, k)
    attended = torch.einsum("hls,shd->lhd", weights / weights.sum(2, keepdim=True), v).flatten(1)[None]
    message = attention.norm1(attention.merge(attended))
    expected = x + attention.norm2(attention.mlp(torch.cat((x, message), dim=2)))
    assert_near(attention(x), expected, 1e-5)


def test_strips_change_nothing(golden: Arrays, filled_network: SemLANet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strips, "PIXELS", 100)
    with torch.no_grad():
        assert_near(filled_network(golden["ir"], golden["vi"]), golden["fused"])
        assert_near(filled_network.fusion(golden["ir"], golden["vi"], golden["sa_ir_up"]), golden["fused_semantic"])


def test_sizes_that_do_not_go_through(filled_network: SemLANet) -> None:
    with pytest.raises(ValueError, match="multiples of 8"):
        filled_network.backbone(torch.rand(1, 1, 12, 16), torch.rand(1, 1, 12, 16))
    with pytest.raises(ValueError, match="one size"):
        filled_network(torch.rand(1, 1, 12, 16), torch.rand(1, 1, 16, 16))
    with pytest.raises(ValueError, match="heads"):
        SemLAConfig(width=100)


def published(network: SemLANet, part: str) -> Arrays:
    return {name: value.clone() for name, value in network.state_dict().items() if name.startswith(f"{part}.")}


def test_published_checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, filled_network: SemLANet) -> None:
    """Two flat state dicts. That of the fusion network is enough for aligned pairs."""
    monkeypatch.setenv("FUSION_DET_WEIGHTS", str(tmp_path))
    folder = tmp_path / "semla"
    folder.mkdir()
    assert not weights_status("semla")[0]
    torch.save(published(filled_network, "fusion"), folder / "fusion.ckpt")
    assert weights_status("semla")[0]
    alone = build_method("semla")
    assert isinstance(alone, SemLA)
    assert alone.trained
    assert not is_trained(alone.network.backbone)
    torch.save(published(filled_network, "backbone"), folder / "registration.ckpt")
    both = build_method("semla")
    assert isinstance(both, SemLA)
    assert is_trained(both.network.backbone)
    for name, value in filled_network.state_dict().items():
        assert torch.equal(both.network.state_dict()[name], value), name


def test_files_of_another_network(tmp_path: Path, filled_network: SemLANet) -> None:
    state = published(filled_network, "fusion")
    del state["fusion.fuse2.conv.weight"]
    torch.save(state, tmp_path / "fusion.ckpt")
    with pytest.raises(MethodError, match=r"1 missing: fusion\.fuse2\.conv\.weight"):
        SemLA().load_weights(tmp_path / "fusion.ckpt")


def test_own_checkpoint_is_of_both_networks(tmp_path: Path) -> None:
    file = tmp_path / "tiny.safetensors"
    save_checkpoint(file, SemLA("tiny").network.state_dict(), {"method": "semla", "config": "tiny"})
    SemLA("tiny").load_weights(file)
    with pytest.raises(MethodError, match="configuration tiny"):
        SemLA().load_weights(file)
