"""The weights that come with the package: what they are, and that their pictures are pictures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from fusion_det.data import open_dataset
from fusion_det.data.color import luma
from fusion_det.data.demo import write_demo
from fusion_det.data.images import load_pair
from fusion_det.data.pair import Pair
from fusion_det.files import digest_file
from fusion_det.fusion import build_method
from fusion_det.fusion.frame import fuse_frames, to_eight_bit
from fusion_det.fusion.methods import s4fusion
from fusion_det.quality import evaluate

FILE = Path(s4fusion.__file__).with_name("shipped.safetensors")


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody has put the authors' weights."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FUSION_DET_WEIGHTS", raising=False)


def fused(pair: Pair) -> torch.Tensor:
    """uint8 (1,1,H,W), grey."""
    method = build_method("s4fusion")
    with torch.no_grad():
        return fuse_frames(method, pair.ir[None], pair.vi[None], "gray")[None]


def test_half_precision_with_a_card_of_their_own() -> None:
    assert FILE.stat().st_size <= 8_000_000
    with safe_open(FILE, "pt") as file:
        assert {file.get_slice(name).get_dtype() for name in file.keys()} == {"F16"}  # noqa: SIM118
        inside = json.loads(file.metadata()["card"])
    card = json.loads(FILE.with_suffix(".json").read_text())
    assert card["sha256"] == digest_file(FILE)
    assert inside["data"] == card["data"] and inside["step"] == card["step"]
    assert "m3fd" not in card["trained_on"]  # so that Table VI's test images are new to them
    means = card["figures"]["ivif"]["mean"]
    assert means["s4fusion"]["Qabf"] > means["max"]["Qabf"]


def test_demo_scenes_are_fused_sensibly(tmp_path: Path) -> None:
    """Near the brighter source, with warm people bright, without a pattern or a dark border: properties, not recorded values."""
    write_demo(tmp_path / "scenes", scenes=4, seed=7)
    for record in open_dataset(tmp_path / "scenes"):
        pair = load_pair(record)
        image = fused(pair)[0, 0] / 255
        brighter = torch.maximum(pair.ir[0], luma(pair.vi[None])[0, 0])
        difference = image - brighter
        assert difference.abs().mean() < 0.1
        for edge in (difference[0], difference[-1], difference[:, 0], difference[:, -1]):
            assert edge.mean().abs() < 0.1
        assert torch.corrcoef(torch.stack((image.flatten(), brighter.flatten())))[0, 1] > 0.8


def test_held_out_pairs_against_simple_methods(shared_data: Path) -> None:
    """More of the sources' edges than the average of them, and more detail than their maximum."""
    card = json.loads(FILE.with_suffix(".json").read_text())
    held_out = {stem for origin in card["data"] for stem in origin["validation"]}
    records = [record for record in open_dataset(shared_data / "roadscene") if record.stem in held_out][:4]
    totals: dict[str, dict[str, float]] = {}
    for pair in map(load_pair, records):
        ir, vi = to_eight_bit(pair.ir)[None], to_eight_bit(luma(pair.vi[None]))
        images = {
            "s4fusion": fused(pair),
            "max": torch.maximum(ir, vi),
            "mean": ((ir.int() + vi.int() + 1) // 2).byte(),
        }
        for name, image in images.items():
            for metric, value in evaluate(ir, vi, image, metrics=("SF", "Qabf")).items():
                totals.setdefault(name, {}).setdefault(metric, 0.0)
                totals[name][metric] += float(value)
    assert totals["s4fusion"]["Qabf"] > totals["mean"]["Qabf"] * 1.2
    assert totals["s4fusion"]["SF"] > totals["max"]["SF"]
