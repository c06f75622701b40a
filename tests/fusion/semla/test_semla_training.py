"""How SemLA is trained: recorded losses, made-up registrations, what learns when, and a short training."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from fusion_det.errors import ConfigError
from fusion_det.fusion.methods.semla import CARD, SemLA
from fusion_det.fusion.methods.semla.losses import matching_loss, rebuilding_loss
from fusion_det.fusion.methods.semla.network import SemLANet, similarity
from fusion_det.fusion.methods.semla.warps import corresponding_places, draw_homographies, warp
from fusion_det.fusion.training.settings import TrainSettings, preset

sys.path.append(str(Path(__file__).parents[1] / "training"))

Arrays = dict[str, torch.Tensor]


def test_rebuilding_is_as_recorded(golden: Arrays, filled_network: SemLANet) -> None:
    rebuilt = filled_network.fusion.rebuild(golden["vi"])
    torch.testing.assert_close(rebuilt, golden["stage3_recon_vi"], atol=1e-4, rtol=0)
    terms = rebuilding_loss(golden["vi"], rebuilt)
    torch.testing.assert_close(terms.structure[None], golden["stage3_loss_ssim"], atol=1e-4, rtol=0)
    torch.testing.assert_close(terms.intensity[None], golden["stage3_loss_int"], atol=1e-4, rtol=0)
    assert float(terms.total) == pytest.approx(float(0.7 * terms.structure + 0.3 * terms.intensity))


def test_matching_loss() -> None:
    features = torch.rand(2, 2, 16, 2, 3).unbind()
    matches = torch.tensor([[0, 1, 2], [1, 5, 5]])
    alike = similarity(*features)
    p = (alike.softmax(1) * alike.softmax(2))[[0, 1], [1, 5], [2, 5]]
    expected = (-0.25 * (1 - p) ** 2 * p.log()).mean()
    torch.testing.assert_close(matching_loss(*features, matches), expected)
    assert float(matching_loss(*features, matches[:0])) == 0
    same = 40 * torch.eye(6).view(1, 6, 2, 3)
    assert float(matching_loss(same, same, torch.tensor([[0, 4, 4]]))) < 1e-6


def test_warp_is_opencvs() -> None:
    torch.manual_seed(0)
    homographies = draw_homographies(3, (32, 48))
    images = torch.rand(3, 1, 32, 48)
    for found, image, homography in zip(warp(images, homographies), images, homographies, strict=True):
        expected = cv2.warpPerspective(image[0].numpy(), homography.double().numpy(), (48, 32))
        # Where only a part of four neighbours lies inside, and OpenCV's steps of 1/32 pixel, make little differences.
        assert np.abs(found[0].numpy() - expected).mean() < 0.02


def test_places_that_correspond_show_the_same() -> None:
    torch.manual_seed(1)
    size = 64, 80
    homographies = draw_homographies(4, size)
    rows, columns = (torch.arange(extent).float() for extent in size)
    ramps = torch.stack((columns.expand(size), rows[:, None].expand(size)))[None].expand(4, -1, -1, -1)
    warped = warp(ramps.contiguous(), homographies)
    matches = corresponding_places(homographies, size)
    assert len(matches) > 20
    for image, before, after in matches.tolist():
        middle = torch.tensor([before % 10, before // 10]) * 8.0 + 4
        around = warped[image, :, after // 10 * 8 : after // 10 * 8 + 8, after % 10 * 8 : after % 10 * 8 + 8].flatten(1)
        assert float((around - middle[:, None]).square().sum(0).min().sqrt()) < 3.5  # pixels shrink to 0.3


def test_phases() -> None:
    pytest.importorskip("lightning", reason="Lightning is not installed")
    from fusion_det.fusion.training.recipe import Moment

    recipe = SemLA("tiny").recipe(CARD.training["paper"])
    assert [(phase.name, phase.learns, phase.fuses) for phase in recipe.phases] == [
        ("match", ("extractor",), False),
        ("calibrate", ("calibration", "relation"), False),
        ("relate", ("relation",), False),
        ("rebuild", ("fusion",), True),
    ]
    shares = [phase.share * 45 for phase in recipe.phases]
    assert shares == pytest.approx([13, 2, 10, 20])
    last = [recipe.rate("", Moment(20, 20, index, 0, 20)) for index in range(4)]
    assert last == pytest.approx([3e-4 * 0.908**12, 4e-5 * 0.998, 4e-5 * 0.998**9, 1e-4 * 0.998**19])
    assert isinstance(recipe.optimizer([{"params": [torch.zeros(1, requires_grad=True)]}]), torch.optim.Adam)
    alone = SemLA("tiny").recipe(preset("small", CARD))
    assert [phase.name for phase in alone.phases] == ["rebuild"]
    assert list(alone.networks) == ["fusion"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (TrainSettings(crop=64, options={"semantics": True}), r"options\.semantics=true: .* masks .*IVS"),
        (TrainSettings(crop=64, options={"registration": 1.0}), r"options\.registration=1"),
        (TrainSettings(crop=60), r"--crop 60: .* 64"),
    ],
)
def test_what_cannot_be_had(settings: TrainSettings, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SemLA("tiny").recipe(settings)


@pytest.mark.usefixtures("fresh_registry")
def test_a_short_training(tmp_path: Path) -> None:
    pytest.importorskip("lightning", reason="Lightning is not installed")
    from training_jobs import job_of, write_pairs

    from fusion_det.fusion.training.trainer import train

    job = job_of(write_pairs(tmp_path / "pairs"), tmp_path / "out", "semla", config="tiny")
    settings = preset("small", CARD, crop=32, batch=2, epochs=12, peak_rate=3e-3, options={"registration": 0.5})
    summary = train(replace(job, settings=replace(settings, sample_every=1000)))
    rebuilding = [row["val_total"] for row in summary.rows if "structure" in row]
    assert rebuilding[-1] < 0.8 * rebuilding[0]
    assert "without masks" in json.loads((tmp_path / "out" / "best.json").read_text())["deviations"]
    from fusion_det.fusion.methods.semla.official import is_trained

    trained = SemLA("tiny")
    trained.load_weights(tmp_path / "out" / "best.safetensors")
    assert is_trained(trained.network.backbone)
