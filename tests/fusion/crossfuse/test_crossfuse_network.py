"""CrossFuse's networks against recorded outputs of the official implementation, and what users of them rely on."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch.nn import functional as F

from fusion_det.errors import MethodError
from fusion_det.fusion import build_method, strips, weights_status
from fusion_det.fusion.checkpoint import save_checkpoint, shapes_of
from fusion_det.fusion.identity import method_identity
from fusion_det.fusion.methods.crossfuse import AUTO_ENCODER_FILES, CARD, FUSION_FILE, CrossFuse
from fusion_det.fusion.methods.crossfuse.attention import from_tiles, to_maps, to_tiles, to_tokens
from fusion_det.fusion.methods.crossfuse.config import CrossFuseConfig
from fusion_det.fusion.methods.crossfuse.network import BoxFilter, CrossFuseNet, Pair, stretched
from fusion_det.fusion.weights import find_weights, missing_weights, require_weights, single_files

Arrays = dict[str, torch.Tensor]
GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "crossfuse"


def assert_near(actual: torch.Tensor, expected: torch.Tensor, tolerance: float = 1e-4) -> None:
    torch.testing.assert_close(actual, expected, atol=tolerance, rtol=0)


def encoded(network: CrossFuseNet, golden: Arrays) -> tuple[Pair, Pair]:
    """Shallow and deep features of the recorded pair."""
    of_ir, of_vi = (encode(golden[name]) for encode, name in zip(network.encoders, ("ir", "vi"), strict=True))
    return Pair(of_ir[0], of_vi[0]), Pair(of_ir[1], of_vi[1])


def test_names_and_shapes_are_the_published_ones() -> None:
    with torch.device("meta"):
        made = CrossFuseNet()
    for part, name, parameters in (
        ("auto_encoder_ir", "autoencoder", 1_254_529),
        ("auto_encoder_vi", "autoencoder", 1_254_529),
        ("fusion", "fusion", 20_801_123),
    ):
        published = json.loads((GOLDEN / f"state_dict_{name}.json").read_text())
        network = made.get_submodule(part)
        assert shapes_of(network) == {key: tuple(shape) for key, shape in published.items()}
        assert sum(parameter.numel() for parameter in network.parameters()) == parameters


def test_encoders_and_attention(golden: Arrays, filled_network: CrossFuseNet) -> None:
    shallow, deep = encoded(filled_network, golden)
    for kind, found, channels in (("sh", shallow, 1), ("de", deep, 8)):
        for features, name in zip(found, ("ir", "vi"), strict=True):
            expected = golden[f"{name}_{kind}"]
            assert_near(features[:, :channels, : expected.shape[2], : expected.shape[3]], expected)
    module = filled_network.fusion.cross_atten_block
    seen: list[torch.Tensor] = []
    hooks = [
        block.register_forward_hook(lambda module, args, output: seen.append(output[0]))
        for block in (module.self_atten_block1, module.self_atten_block2)
    ]
    attended = module.in_tiles(*deep)
    for hook in hooks:
        hook.remove()
    assert_near(attended[:, :8], golden["cam"])
    assert_near(to_maps(seen[0], 32, 32)[:, :2], golden["self1_ir_tile0"])
    # The official code rolled the tile before this block, and rolled the result back.
    assert_near(to_maps(seen[1], 32, 32)[:, :2], golden["roll_ir_tile0"])


def test_decoder(golden: Arrays, boxed_network: CrossFuseNet) -> None:
    """Shares of deep features are up to 98, and the maps they are in up to 66."""
    shallow, deep = encoded(boxed_network, golden)
    fusion = boxed_network.fusion
    decoder = fusion.decoder_fusion
    assert_near(decoder.weight.of_deep(deep).ir, golden["fixed_wd_ir"], 0.02)
    assert_near(decoder.weight.of_shallow(shallow).ir[:, :1, :48, :48], golden["fixed_ws_ir"][:, :1])
    seen: list[torch.Tensor] = []
    hook = decoder.conv1.register_forward_hook(lambda module, args, output: seen.append(output))
    x = decoder.from_deep(fusion.cross_atten_block.in_tiles(*deep), deep)
    hook.remove()
    assert_near(seen[0][:, :4], golden["fixed_dec_conv1"], 0.01)
    assert_near(x[:, :1, :48, :48], golden["fixed_dec_block"], 0.01)


def test_fused_image(golden: Arrays, boxed_network: CrossFuseNet) -> None:
    fused = boxed_network(golden["ir"], golden["vi"])
    assert_near(255 * fused, golden["fixed_fused"], 0.05)
    raw = boxed_network.unstretched(golden["ir"], golden["vi"])
    assert_near(raw[..., ::2, ::2], golden["fixed_raw"], 0.01)
    assert_near(stretched(raw), fused, 0)


def test_fused_image_with_box_filters_that_are_none(golden: Arrays, filled_network: CrossFuseNet) -> None:
    """Shares are of nearly nothing at places, and float32 is off by up to 0.15 of 255 there: on average, not at most."""
    fused = 255 * filled_network(golden["ir"], golden["vi"])
    assert (fused[..., ::2, ::2] - golden["fused"]).abs().mean() < 0.2


def test_auto_encoder(golden: Arrays, filled_network: CrossFuseNet) -> None:
    assert_near(255 * filled_network.auto_encoder_ir(golden["ir"])[..., ::2, ::2], golden["ae_recon_ir"], 0.01)


def test_official_procedure_to_its_bytes(golden: Arrays, filled_method: CrossFuse) -> None:
    ir, vi = ((255 * golden[name][0, 0]).round().to(torch.uint8).numpy() for name in ("ir", "vi"))
    found = filled_method.fuse_officially(ir, vi)
    expected = golden["fixed_fused_u8"].numpy()
    # A grey level where the recorded value is all but a whole number: fractions are cut off.
    whole = golden["fixed_fused"][0, 0].numpy()
    sure = np.abs(whole - np.rint(whole)) > 0.01
    assert sure.mean() > 0.95
    np.testing.assert_array_equal(found[sure], expected[sure])
    assert np.abs(found.astype(int) - expected).max() <= 1


def test_official_procedure_is_of_grey_images(golden: Arrays) -> None:
    torch.manual_seed(0)
    method = CrossFuse("tiny")
    method.to("cpu")
    rng = np.random.default_rng(0)
    ir, vi = rng.integers(0, 256, (140, 136), np.uint8), rng.integers(0, 256, (140, 136, 3), np.uint8)
    grey = cv2.cvtColor(vi, cv2.COLOR_RGB2GRAY)
    np.testing.assert_array_equal(method.fuse_officially(ir, vi), method.fuse_officially(ir, grey))
    with pytest.raises(MethodError, match="136 × 136"):
        method.fuse_officially(ir[:135], grey[:135])


def test_tiles_and_tokens_and_back() -> None:
    maps = torch.rand(2, 3, 64, 96)
    tiles = to_tiles(maps)
    assert tiles.shape == (12, 3, 32, 32)
    assert torch.equal(tiles[8], maps[1, :, :32, 64:])
    assert torch.equal(from_tiles(tiles, 64, 96), maps)
    tokens = to_tokens(tiles)
    assert torch.equal(tokens[0, 17], maps[0, :, 2:4, 2:4].flatten())
    assert torch.equal(to_maps(tokens, 32, 32), tiles)


def test_each_tile_is_by_itself() -> None:
    torch.manual_seed(0)
    module = CrossFuseNet(CrossFuseConfig(deep=8, heads=2)).fusion.cross_atten_block.requires_grad_(False)
    ir, vi = torch.rand(2, 1, 8, 40, 64)
    together = module.in_tiles(ir, vi)
    mirrored = [F.pad(maps, (0, 0, 0, 24), mode="reflect") for maps in (ir, vi)]
    alone = module(*(maps[..., 32:, 32:] for maps in mirrored))
    assert_near(together[..., 32:, 32:], alone[..., :8, :], 1e-5)


@pytest.mark.parametrize("value", [1 / 9, -0.3, 0.0])
def test_box_filter_is_the_convolution(value: float) -> None:
    box = BoxFilter(6)
    x = torch.randn(2, 6, 9, 7)
    assert torch.equal(box.weight, torch.full((6, 6, 3, 3), 1 / 9))
    assert not box.weight.requires_grad
    box.weight.fill_(value)
    expected = F.conv2d(x, box.weight, padding=1)
    assert box(x).shape == (2, 1, 9, 7)
    assert_near(box(x).expand_as(expected), expected, 1e-5)
    box.weight[0, 0, 0, 0] = 2.0
    assert_near(box(x), F.conv2d(x, box.weight, padding=1), 1e-5)


def test_attention_is_to_what_is_unlike() -> None:
    """Of two tokens of the other source the one that is unlike is asked."""
    torch.manual_seed(0)
    block = CrossFuseNet(CrossFuseConfig(deep=2, heads=1)).fusion.cross_atten_block.cross_atten_block.cross_atten1
    attention = block.blocks[0].attn
    with torch.no_grad():
        for linear in (attention.q_linear, attention.k_linear, attention.v_linear, attention.proj):
            linear.weight.copy_(torch.eye(8))
            linear.bias.zero_()
    x = torch.zeros(1, 1, 8)
    x[..., 0] = 50.0
    like, unlike = x.clone(), -x
    assert_near(attention.between(x, torch.cat((like, unlike), dim=1)).detach(), unlike, 1e-3)


@torch.no_grad()
def test_strips_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    network = CrossFuseNet(CrossFuseConfig(shallow=4, dense=4, deep=8, heads=2)).eval()
    ir, vi = torch.rand(2, 2, 1, 139, 150)
    expected = network(ir, vi)
    monkeypatch.setattr(strips, "PIXELS", 700)
    found = network(ir, vi)
    assert found.shape == ir.shape
    assert_near(found, expected, 1e-3)
    assert_near(found.amin((1, 2, 3)), torch.zeros(2), 0)


def test_sizes_that_do_not_go_through() -> None:
    network = CrossFuse("tiny").network
    with pytest.raises(ValueError, match="136 × 136"):
        network(torch.rand(1, 1, 136, 135), torch.rand(1, 1, 136, 135))
    with pytest.raises(ValueError, match="heads"):
        CrossFuseConfig(deep=10)


def published(network: CrossFuseNet, folder: Path) -> None:
    """Three flat state dicts under the published names."""
    folder.mkdir(parents=True, exist_ok=True)
    for part, name in {"fusion": FUSION_FILE, **AUTO_ENCODER_FILES}.items():
        torch.save(dict(network.get_submodule(part).state_dict()), folder / name)


@pytest.fixture
def small_published(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[], CrossFuse]:
    """A network of three files in the folder of all weights; twenty megabytes less than the published ones."""
    monkeypatch.setenv("FUSION_DET_WEIGHTS", str(tmp_path))

    def make() -> CrossFuse:
        method = CrossFuse("tiny")
        published(method.network, tmp_path / "crossfuse")
        return method

    return make


def test_published_checkpoints(small_published: Callable[[], CrossFuse], tmp_path: Path) -> None:
    made = small_published()
    loaded = CrossFuse("tiny")
    loaded.load_weights(tmp_path / "crossfuse" / FUSION_FILE)
    for name, value in made.network.state_dict().items():
        assert torch.equal(loaded.network.state_dict()[name], value), name


def test_a_file_that_is_missing(small_published: Callable[[], CrossFuse], tmp_path: Path) -> None:
    small_published()
    file = tmp_path / "crossfuse" / FUSION_FILE
    assert weights_status("crossfuse")[0]
    assert find_weights(CARD) is not None
    before = method_identity("crossfuse", weights=file)["weights"]
    other = file.with_name(AUTO_ENCODER_FILES["auto_encoder_vi"])
    other.write_bytes(b"something else")
    assert method_identity("crossfuse", weights=file)["weights"] != before
    other.unlink()
    ready, status = weights_status("crossfuse")
    assert not ready
    assert status == missing_weights(CARD) == f"missing beside {file}: {other.name}"
    with pytest.raises(MethodError, match=f"get {FUSION_FILE}, .*{other.name} from"):
        build_method("crossfuse")
    with pytest.raises(MethodError, match=f"beside it there must be {other.name}"):
        CrossFuse("tiny").load_weights(file)


def test_every_file_has_its_digest(small_published: Callable[[], CrossFuse], tmp_path: Path) -> None:
    small_published()
    with pytest.raises(MethodError, match=f"{FUSION_FILE} is not the published weights file"):
        require_weights(CARD)
    assert CARD.weights is not None
    card = replace(CARD, weights=replace(CARD.weights, git_blob=None))
    with pytest.raises(MethodError, match=r"auto_encoder_epoch_4_ir\.model is not the published weights file"):
        require_weights(card)
    assert [single.weights.file for single in single_files(card) if single.weights] == [
        FUSION_FILE,
        *AUTO_ENCODER_FILES.values(),
    ]


def test_own_checkpoint_is_of_all_three(tmp_path: Path) -> None:
    file = tmp_path / "tiny.safetensors"
    save_checkpoint(file, CrossFuse("tiny").network.state_dict(), {"method": "crossfuse", "config": "tiny"})
    CrossFuse("tiny").load_weights(file)
    with pytest.raises(MethodError, match="configuration tiny"):
        CrossFuse().load_weights(file)
