"""The table of metrics, and the learned ones with a stand-in for their library."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import fusion_det.quality as quality
from fusion_det.errors import QualityError
from fusion_det.quality import FORMULAS, METRICS, evaluate, find_metric, find_metrics, learned_metric


def test_every_metric_is_a_function_of_the_package() -> None:
    assert len(FORMULAS) == 14
    for metric in METRICS:
        assert metric.function in quality.__all__
        assert callable(getattr(quality, metric.function))
        assert metric.low < metric.high
        assert ("Lower is better" in (getattr(quality, metric.function).__doc__ or "")) is not metric.higher_is_better


def test_names_are_found_as_people_write_them() -> None:
    assert find_metric("ms-ssim").name == "MS_SSIM"
    assert [metric.name for metric in find_metrics(["qabf", "VIF", "Qabf"])] == ["Qabf", "VIF"]
    with pytest.raises(QualityError, match="Did you mean SSIM"):
        find_metric("SSMI")
    with pytest.raises(QualityError, match=r"'xyzzy'\. Known: SF, AG"):
        find_metric("xyzzy")


def test_an_unknown_profile_is_refused() -> None:
    image = torch.zeros(1, 1, 9, 9)
    with pytest.raises(QualityError, match=r"'papper'.*paper, cddfuse"):
        evaluate(image, image, image, metrics=["SF"], profile="papper")  # type: ignore[arg-type]


def test_the_table_is_read_without_torch() -> None:
    code = "import sys, fusion_det.quality as q; print(len(q.METRICS), 'torch' in sys.modules, 'numpy' in sys.modules)"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.split() == [str(len(METRICS)), "False", "False"]


def test_evaluate_sends_learned_metrics_elsewhere() -> None:
    image = torch.zeros(1, 1, 9, 9)
    with pytest.raises(QualityError, match=r"learned_metric\('MUSIQ'\)"):
        evaluate(image, image, image, metrics=["SF", "MUSIQ"])


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyiqa", None)
    with pytest.raises(QualityError, match="pip install pyiqa"):
        quality.musiq(torch.zeros(1, 1, 9, 9))


def test_without_the_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "pyiqa", SimpleNamespace())
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(QualityError, match=f"{tmp_path}/pyiqa/cfanet_nr_koniq_res50-9a73138b.pth: download"):
        quality.topiq(torch.zeros(1, 1, 9, 9))


def test_only_learned_metrics_are_learned() -> None:
    with pytest.raises(QualityError, match="SSIM is not a learned metric"):
        learned_metric("ssim")


@pytest.mark.parametrize(
    ("name", "pyiqa_name", "options"), [("MUSIQ", "musiq", {}), ("TOPIQ", "topiq_nr", {"backbone_pretrain": False})]
)
def test_images_reach_the_network_as_rgb_in_0_1(
    name: str, pyiqa_name: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: dict[str, Any] = {}

    def create_metric(model: str, **keywords: Any) -> Any:
        asked.update(keywords, model=model)
        return lambda rgb: rgb.mean(dim=(2, 3)) @ torch.tensor([[1.0], [10.0], [100.0]])

    weights = tmp_path / "weights.pth"
    weights.touch()
    monkeypatch.setitem(sys.modules, "pyiqa", SimpleNamespace(create_metric=create_metric))
    score = learned_metric(name, weights=weights)
    expected = {"model": pyiqa_name, "device": torch.device("cpu"), "pretrained_model_path": str(weights), **options}
    assert asked == expected
    grey = torch.stack([torch.full((1, 4, 4), 255), torch.zeros(1, 4, 4)])
    torch.testing.assert_close(score(grey), torch.tensor([111.0, 0.0], dtype=torch.float64))
    red = torch.cat([torch.full((1, 1, 4, 4), 51), torch.zeros(1, 2, 4, 4)], dim=1)
    torch.testing.assert_close(score(red), torch.tensor([0.2], dtype=torch.float64), atol=1e-6, rtol=0)
    with pytest.raises(QualityError, match="B,3,H,W"):
        score(torch.zeros(1, 2, 4, 4))
