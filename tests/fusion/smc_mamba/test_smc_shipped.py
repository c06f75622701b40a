"""The weights that come with the package, on pictures drawn here: what a good fusion of each task has in common."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from fusion_det.files import digest_file
from fusion_det.fusion import build_method
from fusion_det.fusion.frame import fuse_frames
from fusion_det.fusion.methods import smc_mamba
from fusion_det.fusion.methods.smc_mamba.photographs import two_foci

FILE = Path(smc_mamba.__file__).with_name("shipped.safetensors")


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FUSION_DET_WEIGHTS", raising=False)


def fused(first: torch.Tensor, second: torch.Tensor, task: str) -> torch.Tensor:
    """(1,1,H,W) in [0,1]."""
    method = build_method("smc_mamba").for_task(task)
    with torch.no_grad():
        return fuse_frames(method, first, second.expand(-1, 3, -1, -1), "gray")[None] / 255


def scene(seed: int) -> torch.Tensor:
    """A street of boxes, with texture."""
    torch.manual_seed(seed)
    image = torch.linspace(0.3, 0.6, 160)[:, None].repeat(1, 160)
    for top, left, size, level in torch.rand(25, 4).tolist():
        y, x, s = int(top * 140), int(left * 140), 6 + int(size * 40)
        image[y : y + s, x : x + s] = 0.1 + 0.8 * level
    return (image + 0.04 * torch.randn(160, 160)).clamp(0, 1)[None, None]


def test_half_precision_with_a_card_of_their_own() -> None:
    assert FILE.stat().st_size <= 6_000_000
    with safe_open(FILE, "pt") as file:
        assert {file.get_slice(name).get_dtype() for name in file.keys()} == {"F16"}  # noqa: SIM118
    card = json.loads(FILE.with_suffix(".json").read_text())
    assert card["sha256"] == digest_file(FILE)
    assert card["config"] == "default"
    assert not {"m3fd", "msrs"} & set(card["trained_on"])  # so that the test images of both are new to them
    for task, figures in card["figures"].items():
        means = figures["mean"]
        assert means["smc_mamba"]["Qabf"] > max(means["mean"]["Qabf"], means["max"]["Qabf"]), task


@pytest.mark.parametrize("seed", range(3))
def test_two_foci_are_sharp_everywhere(seed: int) -> None:
    image = scene(seed)
    near, far = two_foci(image)
    result = fused(near, far, "multi-focus")
    errors = [(x - image).abs().mean() for x in (result, near, far, (near + far) / 2)]
    assert errors[0] < 0.7 * min(errors[1:])


@pytest.mark.parametrize("seed", range(3))
def test_two_exposures_are_neither_burnt_nor_dark(seed: int) -> None:
    light = scene(seed) ** 2.2
    over, under = ((light * factor).clamp(0, 1) ** (1 / 2.2) for factor in (4, 1 / 4))
    result = fused(over, under, "multi-exposure")
    assert 0.25 < result.mean() < 0.75
    assert (result > 0.98).float().mean() < 0.02
    assert (result < 0.02).float().mean() < 0.05
    steps = [x.diff(dim=-1).abs().mean() for x in (result, (over + under) / 2)]
    assert steps[0] > steps[1], "more detail than their mean has"


def test_warm_people_stay_bright() -> None:
    street = 0.5 * scene(0)
    thermal = torch.full_like(street, 0.2)
    thermal[..., 60:110, 70:90] = 0.95
    result = fused(thermal, street, "ivif")
    person = result[..., 64:106, 74:86]
    assert person.mean() > 0.6
    assert person.mean() > result.mean() + 0.3


def test_bone_and_soft_tissue_are_both_there() -> None:
    yy, xx = torch.meshgrid(torch.linspace(-1, 1, 160), torch.linspace(-1, 1, 160), indexing="ij")
    radius = (yy**2 + xx**2).sqrt()
    bone = ((radius > 0.8) & (radius < 0.92)).float()[None, None]
    tissue = ((radius < 0.78) * (0.4 + 0.15 * torch.sin(18 * xx) * torch.sin(14 * yy)))[None, None]
    result = fused(tissue, bone, "medical")
    inner, ring = radius < 0.7, (radius > 0.83) & (radius < 0.89)
    assert result[0, 0][ring].mean() > 0.8
    assert torch.corrcoef(torch.stack((result[0, 0][inner], tissue[0, 0][inner])))[0, 1] > 0.9
    assert result[0, 0][radius > 1].max() < 0.1, "air stays black"
