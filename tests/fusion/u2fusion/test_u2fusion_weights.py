"""The published TensorFlow file, our own files, and what is refused."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from filled import filled_value

from fusion_det.errors import MethodError
from fusion_det.fusion import FusionMethod, build_method
from fusion_det.fusion.checkpoint import save_checkpoint
from fusion_det.fusion.methods.u2fusion import U2Fusion, published_weights

NAME = "model.ckpt.data-00000-of-00001"


@pytest.fixture
def data_file(tensors: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of the published layout, tensor by tensor at the recorded offsets, taken for the published one."""
    content = bytearray(sum(tensor["nbytes"] for tensor in tensors))
    for tensor in tensors:
        value = filled_value(tensor["name"], tuple(tensor["shape"])).numpy()
        if value.ndim == 4:
            value = np.transpose(value, (2, 3, 1, 0))
        assert list(value.shape) == tensor["tf_shape"]
        begin = tensor["data_offset_bytes"]
        content[begin : begin + tensor["nbytes"]] = value.astype("<f4").tobytes()
    file = tmp_path / NAME
    file.write_bytes(content)
    info = dataclasses.replace(published_weights.WEIGHTS, sha256=hashlib.sha256(content).hexdigest())
    monkeypatch.setattr(published_weights, "WEIGHTS", info)
    return file


def test_published_layout(data_file: Path) -> None:
    method = U2Fusion()
    method.load_weights(data_file)
    for name, value in method.network.state_dict().items():
        assert torch.equal(value, filled_value(name, tuple(value.shape))), name


def test_what_is_not_the_published_file(data_file: Path) -> None:
    content = data_file.read_bytes()
    data_file.write_bytes(content[:-4])
    with pytest.raises(
        MethodError, match=r"\(2636864 bytes, .*is not the published model\.ckpt\.data.* \(2636868 bytes"
    ):
        U2Fusion().load_weights(data_file)
    data_file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(MethodError, match=r"is not the published .* sha256 .*; get that again, or save other weights"):
        U2Fusion().load_weights(data_file)
    with pytest.raises(
        MethodError, match=r"model\.ckpt\.index holds no weights; the published ones are in .*data-00000"
    ):
        U2Fusion().load_weights(data_file.with_name("model.ckpt.index"))
    with pytest.raises(MethodError, match="cannot be read: No such file"):
        U2Fusion().load_weights(data_file.with_name("other.data-00000-of-00001"))
    with pytest.raises(MethodError, match="checkpoint of u2fusion's configuration released, not tiny"):
        U2Fusion("tiny").load_weights(data_file)


def test_own_weights(tmp_path: Path, data_file: Path) -> None:
    trained, file = U2Fusion(), tmp_path / "own.safetensors"
    trained.load_weights(data_file)
    save_checkpoint(file, trained.network.state_dict(), {"method": "u2fusion"})
    method = build_method("u2fusion", file)
    assert isinstance(method, FusionMethod)
    assert method.trained
    assert method.network is not None
    assert all(
        torch.equal(value, trained.network.state_dict()[name]) for name, value in method.network.state_dict().items()
    )
    save_checkpoint(file, trained.network.state_dict(), {"method": "defusion"})
    with pytest.raises(MethodError, match="was saved for defusion"):
        build_method("u2fusion", file)


def test_the_published_weights(reference: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = tmp_path / "u2fusion"
    folder.mkdir()
    (folder / NAME).symlink_to(reference / "weights" / NAME)
    monkeypatch.setenv("FUSION_DET_WEIGHTS", str(tmp_path))
    method = build_method("u2fusion")
    assert isinstance(method, U2Fusion)
    with np.load(reference / "weights" / "u2fusion.npz") as archive:
        for name, value in method.network.state_dict().items():
            np.testing.assert_array_equal(value.numpy(), archive[name])
    with np.load(reference / "golden.npz") as archive:
        ir, vi = torch.from_numpy(archive["ir"]), torch.from_numpy(archive["vi"])
        with torch.no_grad():
            np.testing.assert_allclose(method.fuse(ir, vi).numpy(), archive["fused_trained"], atol=1e-6)
            np.testing.assert_allclose(method.network.logits(ir, vi).numpy(), archive["logits_trained"], atol=2e-6)
        infrared, visible = archive["pipeline_ir_uint8"], archive["pipeline_vi_rgb_uint8"]
        colour, grey = archive["pipeline_trained_rgb_uint8"], archive["pipeline_trained_gray_uint8"]
    np.testing.assert_allclose(method.fuse_officially(infrared, visible).astype(int), colour, atol=1)
    both_in_colour = method.fuse_officially(np.repeat(infrared[..., None], 3, axis=2), visible)
    np.testing.assert_allclose(both_in_colour.astype(int), grey, atol=1)
