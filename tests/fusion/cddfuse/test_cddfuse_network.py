"""CDDFuse's networks against recorded outputs of the official implementation, and what users of them rely on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from fusion_det.errors import MethodError
from fusion_det.fusion import build_method, strips
from fusion_det.fusion.checkpoint import save_checkpoint, shapes_of
from fusion_det.fusion.methods.cddfuse import PARTS, CDDFuse
from fusion_det.fusion.methods.cddfuse.config import CDDFuseConfig
from fusion_det.fusion.methods.cddfuse.network import CDDFuseNet, Features
from fusion_det.fusion.official import saved_by_skimage, stretched

Arrays = dict[str, torch.Tensor]
GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "cddfuse"


def assert_near(actual: torch.Tensor, expected: torch.Tensor, tolerance: float = 1e-4) -> None:
    torch.testing.assert_close(actual, expected, atol=tolerance, rtol=0)


def test_names_and_shapes_are_the_published_ones() -> None:
    published = json.loads((GOLDEN / "state_dict.json").read_text())
    with torch.device("meta"):
        network = CDDFuseNet()
    assert shapes_of(network) == {key: tuple(shape) for key, shape in published.items()}
    parameters = {name: sum(p.numel() for p in part.parameters()) for name, part in network.named_children()}
    assert parameters == dict(zip(PARTS, (599_144, 207_936, 363_016, 18_176), strict=True))


def test_inside_the_encoder(golden: Arrays, filled_network: CDDFuseNet) -> None:
    encoder = filled_network.DIDF_Encoder
    x = encoder.patch_embed(golden["vi"])
    block = encoder.encoder_level1[0]
    attended = block.attn(x, block.norm1)
    assert_near((attended - x)[:, :1], golden["enc_vi_l1_0_attn"])
    assert_near(block.ffn(block.norm2(attended))[:, :1], golden["enc_vi_l1_0_ffn"])
    shared = encoder.encoder_level1(x)
    assert_near(shared[:, :1], golden["enc_vi_l1_3"])
    base = encoder.baseFeature
    attended = base.attn(shared, base.norm1)
    assert_near((attended - shared)[:, :1], golden["enc_vi_baseFeature_attn"])
    assert_near(base.mlp(base.norm2(attended))[:, :1], golden["enc_vi_baseFeature_mlp"])
    assert_near(base(shared)[:, :1], golden["base_vi"])


def test_base_fusion(golden: Arrays, filled_network: CDDFuseNet) -> None:
    base = sum(filled_network.DIDF_Encoder(golden[name]).base for name in ("ir", "vi"))
    assert_near(filled_network.BaseFuseLayer(base)[:, :1], golden["base_fused"])


def test_fused_image_of_exploding_details(golden: Arrays, filled_network: CDDFuseNet) -> None:
    """Saturated, and sensitive to the last bit at single pixels: the mean is compared."""
    difference = filled_network(golden["ir"], golden["vi"]) - golden["fused"]
    assert difference.abs().mean() < 1e-3


def test_details_and_decoder(golden: Arrays, damped_network: CDDFuseNet) -> None:
    from_ir, from_vi = (damped_network.DIDF_Encoder(golden[name]) for name in ("ir", "vi"))
    assert_near(from_vi.detail[:, [0, 32]], golden["damped_detail_vi"])
    fused = damped_network.fuse_features(Features(*(x + y for x, y in zip(from_vi, from_ir, strict=True))))
    assert_near(fused.detail[:, [0, 32]], golden["damped_detail_fused"])
    decoder = damped_network.DIDF_Decoder
    reduced = decoder.reduce(fused)
    assert_near(reduced[:, :1], golden["damped_dec_reduce"])
    assert_near(decoder.encoder_level2(reduced)[:, :1], golden["damped_dec_level2"])
    assert_near(decoder(fused), golden["damped_dec_output"].sigmoid())
    assert_near(decoder(fused, golden["vi"]), golden["damped_fused"])
    assert_near(decoder(from_vi, golden["vi"]), golden["damped_recon_vi"])


def test_fused_image(golden: Arrays, damped_network: CDDFuseNet) -> None:
    assert_near(damped_network(golden["ir"], golden["vi"]), golden["damped_fused"], 2e-5)


def test_published_procedure_from_bytes_to_bytes(golden: Arrays, damped_method: CDDFuse) -> None:
    found = damped_method.fuse_officially(golden["ir_u8"].numpy(), golden["vi_rgb_u8"].numpy())
    final = stretched(golden["damped_fused"][0, 0].numpy(), "cddfuse").astype(np.float64)
    recorded = golden["damped_final_u8"].numpy()
    np.testing.assert_array_equal(saved_by_skimage(final), recorded)
    sure = np.abs(final % 1 - 0.5) > 0.01
    assert sure.mean() > 0.95
    np.testing.assert_array_equal(found[sure], recorded[sure])


def test_recording_gradients_and_strips_change_nothing(
    damped_network: CDDFuseNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = CDDFuseNet()
    network.load_state_dict(damped_network.state_dict())
    ir, vi = torch.rand(2, 2, 1, 23, 10)
    expected = network(ir, vi)
    assert expected.requires_grad
    for pixels in (1 << 20, 100):
        monkeypatch.setattr(strips, "PIXELS", pixels)
        with torch.no_grad():
            assert_near(network(ir, vi), expected.detach(), 2e-5)


def test_width_is_shared_by_heads_and_halves() -> None:
    with pytest.raises(ValueError, match="width 24"):
        CDDFuseConfig(width=24)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_lower_precision(dtype: str, golden: Arrays) -> None:
    method = build_method("cddfuse", weights=None, dtype=dtype)
    assert isinstance(method, CDDFuse)
    torch.manual_seed(0)
    full = CDDFuse()
    method.network.load_state_dict(full.network.state_dict())
    ir, vi = (golden[name][..., :24, :32] for name in ("ir", "vi"))
    with torch.no_grad():
        fused = method.fuse(ir.to(method.dtype), vi.to(method.dtype))
        assert_near(fused.float(), full.fuse(ir, vi), 0.05 if dtype == "bfloat16" else 0.01)
    assert fused.dtype == method.dtype


def test_tiny_configuration_learns() -> None:
    torch.manual_seed(0)
    method = CDDFuse("tiny")
    ir, vi = torch.rand(2, 2, 1, 12, 12)
    optimiser = torch.optim.Adam(method.network.parameters(), 3e-3)
    losses = []
    for _ in range(8):
        optimiser.zero_grad()
        loss = (method.fuse(ir, vi) - ir).square().mean()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]
    assert all(parameter.grad is not None for parameter in method.network.parameters())


@pytest.mark.parametrize("prefix", ["module.", ""])
def test_published_checkpoint(prefix: str, tmp_path: Path, damped_network: CDDFuseNet) -> None:
    """Four state dicts, saved from torch's wrapper for several GPUs."""
    content = {
        part: {f"{prefix}{name}": value for name, value in damped_network.get_submodule(part).state_dict().items()}
        for part in PARTS
    }
    torch.save(content, tmp_path / "CDDFuse_IVF.pth")
    method = build_method("cddfuse", weights=tmp_path / "CDDFuse_IVF.pth")
    assert isinstance(method, CDDFuse)
    assert method.trained
    for name, value in damped_network.state_dict().items():
        assert torch.equal(method.network.state_dict()[name], value)


def test_checkpoint_without_one_of_the_four(tmp_path: Path, damped_network: CDDFuseNet) -> None:
    content = {part: damped_network.get_submodule(part).state_dict() for part in PARTS[:3]}
    torch.save(content, tmp_path / "part.pth")
    with pytest.raises(MethodError, match=r"DIDF_Encoder, DIDF_Decoder, BaseFuseLayer$"):
        CDDFuse().load_weights(tmp_path / "part.pth")


def test_checkpoint_of_another_shape(tmp_path: Path) -> None:
    network = CDDFuse("tiny").network
    torch.save({part: network.get_submodule(part).state_dict() for part in PARTS}, tmp_path / "tiny.pth")
    with pytest.raises(MethodError, match=r"it fits cddfuse .configuration tiny"):
        build_method("cddfuse", weights=tmp_path / "tiny.pth")


def test_own_checkpoint_names_its_configuration(tmp_path: Path) -> None:
    file = tmp_path / "tiny.safetensors"
    save_checkpoint(file, CDDFuse("tiny").network.state_dict(), {"method": "cddfuse", "config": "tiny"})
    CDDFuse("tiny").load_weights(file)
    with pytest.raises(MethodError, match="configuration tiny"):
        CDDFuse().load_weights(file)
