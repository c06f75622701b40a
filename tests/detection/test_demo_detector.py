"""The detector shipped for the demo: what its card says is so, and it never saw the demo's own scenes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

from fusion_det.data.demo import GENERATOR_VERSION
from fusion_det.data.pair import M3FD_CLASSES, PairRecord
from fusion_det.detection.demo_detector import DEMO_SEED, VIEWS, pretrain, write_view
from fusion_det.detection.pretrained import DEMO_WEIGHTS
from fusion_det.errors import ConfigError
from fusion_det.files import digest_file


def test_the_card_belongs_to_the_weights() -> None:
    card = json.loads(DEMO_WEIGHTS.with_suffix(".json").read_text(encoding="utf-8"))
    assert card["sha256"] == digest_file(DEMO_WEIGHTS)
    assert card["scenes"]["seed"] != DEMO_SEED
    assert card["scenes"]["generator_version"] == GENERATOR_VERSION, "the scenes changed: pretrain anew"
    assert set(card["test"]["per_class_AP50"]) == set(M3FD_CLASSES)
    assert card["test"]["mAP50"] > 0.3


def test_the_weights_are_small_half_precision_and_for_six_classes() -> None:
    assert DEMO_WEIGHTS.stat().st_size <= 6_000_000
    tensors = load_file(DEMO_WEIGHTS)
    assert {tensor.dtype for tensor in tensors.values()} <= {np.dtype("float16"), np.dtype("int64")}
    assert all(np.isfinite(tensor).all() for tensor in tensors.values())
    heads = [tensor for name, tensor in tensors.items() if ".cv3." in name and name.endswith(".2.bias")]
    assert [head.shape for head in heads] == [(len(M3FD_CLASSES),)] * 3


def test_scenes_of_the_demo_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="needs others"):
        pretrain(tmp_path / "w.safetensors", tmp_path, 30, DEMO_SEED, 1, 64, 8, 1, "cpu")
    assert not any(tmp_path.iterdir())


def test_views_are_the_visible_the_infrared_and_the_mean(tmp_path: Path) -> None:
    vi = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
    ir = np.random.default_rng(1).integers(0, 256, (6, 8), np.uint8)
    for name, image in (("vi", vi), ("ir", ir)):
        Image.fromarray(image).save(tmp_path / f"{name}.png")
    record = PairRecord("0", tmp_path / "ir.png", tmp_path / "vi.png", 8, 6)
    seen = {}
    for view in VIEWS:
        write_view(record, view, tmp_path / "out" / f"{view}.png")
        seen[view] = np.asarray(Image.open(tmp_path / "out" / f"{view}.png"))
    np.testing.assert_array_equal(seen["vi"], vi)
    np.testing.assert_array_equal(seen["ir"], np.dstack([ir] * 3))
    exact = (vi.astype(float) + ir[..., None]) / 2
    assert np.abs(seen["mean"] - exact).max() <= 0.5
