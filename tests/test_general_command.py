"""``fusion-det quality`` on other tasks, and ``pipelines/general.yaml``: a table a task, pictures in colour."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner, Result

from fusion_det.assessment.published import TABLES
from fusion_det.assessment.settings import QualitySettings
from fusion_det.cli.quality import quality
from fusion_det.config import load_command_settings
from fusion_det.data import open_dataset
from fusion_det.data.cards import read_cards
from fusion_det.errors import ConfigError, FusionDetError
from fusion_det.fusion import FusionRunner, build_method
from fusion_det.pipeline.quality_pictures import spread
from fusion_det.tasks import TASKS

app = typer.Typer()
app.command()(quality)


def call(*arguments: object) -> Result:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if isinstance(result.exception, FusionDetError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result


@pytest.fixture(autouse=True)
def sets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three PET pairs and three grey exposures, where datasets are looked up."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FUSION_DET_DATA", str(tmp_path / "sets"))
    rng = np.random.default_rng(0)
    for name, first, second, channels in (("mri_pet", "mri", "pet", 3), ("multi_exposure", "over", "under", 1)):
        for stem in "abc":
            for folder, planes in ((first, 1), (second, channels)):
                file = tmp_path / "sets" / name / folder / f"{stem}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                pixels = rng.integers(70, 180, (48, 64, planes), dtype=np.uint8)
                Image.fromarray(pixels.squeeze()).save(file)
    return tmp_path / "sets"


def test_a_table_and_pictures_for_every_task_that_is_there(sets: Path) -> None:
    shown = call("-e", "general", "--methods", "mean,max,ir*", "--metrics", "SF,MI")
    out = Path("reports/general")
    assert {file.name for file in out.glob("quality_*.md")} >= {"quality_mri_pet.md", "quality_multi_exposure.md"}
    table = (out / "quality_mri_pet.md").read_text()
    assert "MRI and PET" in table
    assert "Mean" in table
    assert "Infrared" not in table, "a control by its source has no place in another task"
    assert "left out: msrs" in shown.output
    page = (out / "index.html").read_text()
    for words in (
        'data-title="PET"',
        "Over-exposed",
        "Under-exposed",
        "MRI and PET: side by side",
        "msrs: not in place",
    ):
        assert words in page
    identities = re.findall(r'\bid="([^"]+)"', page)
    assert len(identities) == len(set(identities))
    results = json.loads(Path("runs/experiments/general/quality.json").read_text())
    assert [(s["dataset"]["name"], s["task"]) for s in results["sets"]] == [
        ("mri_pet", "medical"),
        ("multi_exposure", "multi-exposure"),
    ]
    pictures = results["sets"][0]["shown"]
    assert list(pictures) == ["a", "b", "c"]
    assert list(pictures["a"]) == ["mean", "max"]


def test_pictures_have_the_colour_that_fuse_gives_them(sets: Path, tmp_path: Path) -> None:
    call(
        "--task", "medical", "--data", "mri_pet", "--methods", "mean", "--metrics", "SF", "--pictures", 2, "--name", "q"
    )
    shown = json.loads(Path("runs/experiments/q/quality.json").read_text())["sets"][0]["shown"]
    assert list(shown) == ["a", "c"]
    FusionRunner(build_method("mean")).run(open_dataset(sets / "mri_pet", task="medical").records, tmp_path / "fused")
    for stem, files in shown.items():
        picture, fused = (np.asarray(Image.open(file)) for file in (files["mean"], tmp_path / "fused" / f"{stem}.png"))
        assert picture.ndim == 3
        np.testing.assert_allclose(picture.astype(int), fused, atol=1)  # the luma was rounded once more
    call("--first", sets / "multi_exposure/over", "--second", sets / "multi_exposure/under", "--task", "multi-exposure",
         "--methods", "mean", "--metrics", "SF", "--pictures", 1, "--name", "grey")  # fmt: skip
    shown = json.loads(Path("runs/experiments/grey/quality.json").read_text())["sets"][0]["shown"]
    assert Image.open(shown["a"]["mean"]).mode == "L"


def test_the_printed_rows_of_smc_mamba(sets: Path, tmp_path: Path) -> None:
    (sets / "mri_pet").rename(sets / "msrs")
    (sets / "msrs" / "mri").rename(sets / "msrs" / "ir")
    (sets / "msrs" / "pet").rename(sets / "msrs" / "vi")
    call("-e", "general", "--methods", "mean,max", "--metrics", "MI,SF,VIF,Qabf,MS_SSIM", "--name", "g")
    table = (tmp_path / "reports/g/quality_msrs_published.md").read_text()
    assert "SMC-Mamba (AAAI 2026)" in table
    assert "12.211" in table
    assert "4.490" in table
    assert "0.522" in table, "what was printed is said where a figure was doubled"
    assert "unofficial" in table


def test_the_shipped_settings() -> None:
    settings = load_command_settings(QualitySettings, "quality", "general")
    assert settings.quality.metrics[:5] == TABLES["SMC-Mamba"].columns
    assert {s.task for s in settings.sets} == set(TASKS)
    assert {s.data.source for s in settings.sets} <= read_cards().keys()
    with pytest.raises(ConfigError, match="did you mean medical"):
        settings.with_changes({"sets": ({"data": {"source": "x"}, "task": "medcal"},)})


def test_spread() -> None:
    assert spread([1, 2, 3, 4, 5], 2) == [1, 5]  # type: ignore[list-item, comparison-overlap]
    assert spread([1, 2, 3], 7) == [1, 2, 3]  # type: ignore[list-item, comparison-overlap]
    assert spread([1, 2, 3], 1) == [1]  # type: ignore[list-item, comparison-overlap]
    assert spread([1, 2, 3], 0) == spread([], 3) == []
