"""``fusion-det quality`` as a user sees it."""

from __future__ import annotations

import csv
import json
import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner, Result

from fusion_det.assessment.published import COLUMNS, TABLES
from fusion_det.assessment.settings import QualitySettings
from fusion_det.cli.quality import quality
from fusion_det.config import load_command_settings, load_experiment
from fusion_det.errors import ConfigError, FusionDetError
from fusion_det.quality.table import find_metric

app = typer.Typer()
app.command()(quality)


def invoke(*arguments: object) -> Result:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if isinstance(result.exception, FusionDetError):
        raise result.exception
    return result


def call(*arguments: object) -> Result:
    result = invoke(*arguments)
    assert result.exit_code == 0, result.output
    return result


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command keeps runs/ and reports/ below the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FUSION_DET_DATA", str(tmp_path / "sets"))


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    return draw(tmp_path / "pairs", ["a", "b", "c"])


def draw(folder: Path, stems: list[str]) -> Path:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:48, 0:64]
    for stem in stems:
        ir = (120 + 90 * np.sin(x / 5 + rng.uniform(0, 6)) + rng.normal(0, 5, (48, 64))).clip(0, 255).astype(np.uint8)
        vi = (120 + 90 * np.cos(y / 4 + rng.uniform(0, 6)) + rng.normal(0, 5, (48, 64))).clip(0, 255).astype(np.uint8)
        for name, image in (("ir", ir), ("vi", np.stack([vi] * 3, axis=-1)), ("fused", ir // 2 + vi // 2)):
            (folder / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(folder / name / f"{stem}.png")
    return folder


def sources(pairs: Path) -> tuple[str, ...]:
    return "--ir", str(pairs / "ir"), "--vi", str(pairs / "vi")


def test_folders_of_fused_images_and_methods_in_one_table(pairs: Path) -> None:
    shown = call(
        *sources(pairs), "--fused", f"ours={pairs / 'fused'}", "--methods", "mean,vi", "--metrics", "SF,Qabf,MSE"
    )
    assert "ours" in shown.stdout
    assert "profile “paper”" in " ".join(shown.stdout.split())
    out = Path("reports/quality-pairs")
    assert (out / "index.html").is_file()
    images = list(csv.DictReader((out / "quality_per_image.csv").open()))
    assert {(r["method"], r["stem"]) for r in images} == {(m, s) for m in ("ours", "mean", "vi") for s in "abc"}
    document = json.loads((out / "quality.json").read_text())
    ours = next(m for m in document["methods"] if m["method"] == "ours")
    figures = [float(r["SF"]) for r in images if r["method"] == "ours"]
    assert ours["mean"]["SF"] == pytest.approx(statistics.mean(figures), rel=1e-4)
    assert ours["std"]["SF"] == pytest.approx(statistics.stdev(figures), rel=1e-3)
    assert document["profile"] == "paper"
    again = call(
        *sources(pairs), "--fused", f"ours={pairs / 'fused'}", "--methods", "mean,vi", "--metrics", "SF,Qabf,MSE"
    )
    assert "nothing to do" in again.stdout


def test_two_files_are_told_from_folders_that_are_not_there(pairs: Path) -> None:
    files = ("--task", "medical", "--first", pairs / "ir/a.png", "--second", pairs / "vi/a.png")
    with pytest.raises(FusionDetError, match=r"a\.png \(--first\) is a file\.\nfusion-det quality .* take folders"):
        call(*files, "--fused", pairs / "fused")


def test_printed_rows_and_their_saving_habit(tmp_path: Path) -> None:
    draw(tmp_path / "sets" / "roadscene", ["FLIR_00060", "FLIR_video_00122", "FLIR_77777"])
    call("-e", "quality", "--methods", "mean,max", "--metrics", "SF,AG", "--as-published")
    out = Path("reports/quality")
    compared, printed = (out / "quality.md").read_text(), (out / "quality_published.md").read_text()
    assert "saved losslessly" in compared
    assert "saved as JPEG of quality 75" in printed
    assert "12.410" in printed
    assert "Mean, ours" in printed
    assert "65 of these pairs are not in" in printed
    assert "2 of 67 pairs asked for" in compared
    page = (out / "index.html").read_text()
    assert "tno: not in place" in page
    assert "msrs: not in place" in page
    stems = {r["stem"] for r in csv.DictReader((out / "quality_per_image.csv").open())}
    assert stems == {"FLIR_00060", "FLIR_video_00122"}


def test_methods_are_compared_losslessly_whatever_is_asked(tmp_path: Path) -> None:
    draw(tmp_path / "sets" / "roadscene", ["a"])
    data = ("--data", "roadscene", "--methods", "mean", "--metrics", "SF", "--paper-table", "II")
    figures = []
    for name, more in (("plain", ()), ("habit", ("--as-published",))):
        call(*data, "--name", name, *more)
        figures.append((Path("reports") / name / "quality.csv").read_text())
    assert figures[0] == figures[1].replace("habit", "plain")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "say what to measure on"),
        (("--ir", "pairs/ir"), "go together"),
        (("--data", "x", "-e", "quality"), "say what to measure on"),
        (("--ir", "pairs/ir", "--vi", "pairs/vi"), "--fused DIR"),
        (("--ir", "pairs/ir", "--vi", "pairs/vi", "--fused", "nowhere"), "no folder nowhere"),
        (("--ir", "pairs/ir", "--vi", "pairs/vi", "--fused", "all=pairs/fused"), "cannot name a method"),
        (("--ir", "pairs/ir", "--vi", "pairs/vi", "--methods", "laplacain"), "laplacian"),
        (("--ir", "pairs/ir", "--vi", "pairs/vi", "--methods", "mean", "--metrics", "SSMI"), "SSIM"),
        (("--ir", "pairs/ir", "--vi", "pairs/vi", "--methods", "mean", "--profile", "papers"), "profile"),
        (("--ir", "pairs/ir", "--vi", "pairs/vi", "--methods", "mean", "--paper-table", "IX"), "paper_table"),
        (("-e", "quality", "--methods", "mean"), "none of the datasets"),
        (("-e", "table_vi", "--methods", "mean"), "not for quality"),
        (("-e", "quality", "--limit", "3"), "--limit"),
        (("-e", "quality", "--task", "medical"), "leave out --task"),
        (("--data", "x", "--task", "medicine", "--methods", "mean"), "did you mean medical"),
        (("--task", "medical", "--first", "pairs/ir"), "--first and --second go together"),
    ],
)
def test_wrong_options_are_named_with_a_cure(pairs: Path, arguments: tuple[str, ...], words: str) -> None:
    with pytest.raises(FusionDetError, match=words):
        invoke(*arguments)


def test_unusable_fused_images_are_named_and_the_others_measured(pairs: Path) -> None:
    (pairs / "fused" / "b.png").unlink()
    Image.fromarray(np.zeros((24, 32), np.uint8)).save(pairs / "fused" / "c.png")
    ended = invoke(*sources(pairs), "--fused", f"ours={pairs / 'fused'}", "--methods", "mean", "--metrics", "SF")
    assert ended.exit_code == 1
    assert "has no image b.*" in ended.stderr
    assert "c.png: is 32×24, but its pair is 64×48" in ended.stderr
    table = Path("reports/quality-pairs/quality.md").read_text()
    assert "ours: no figures" in table
    assert "| Mean |" in table


def test_the_shipped_settings_are_tables_one_to_four_and_no_experiment() -> None:
    settings = load_command_settings(QualitySettings, "quality", "quality")
    assert [s.paper_table for s in settings.sets] == ["I", "II", "III", "IV"]
    assert [s.data.source for s in settings.sets] == [
        TABLES[s.paper_table].dataset for s in settings.sets if s.paper_table
    ]
    assert [len(s.ids) for s in settings.sets] == [0, 67, 0, 90]
    assert settings.quality.metrics[:6] == COLUMNS
    assert not settings.as_published
    with pytest.raises(ConfigError, match="use fusion-det quality -e"):
        load_experiment("quality")


def test_printed_figures_are_whole_and_plausible() -> None:
    for table in TABLES.values():
        assert len(table.rows) == (10 if table.columns == COLUMNS else 4)
        for row in table.rows:
            for name, value in zip(table.columns, row.values, strict=True):
                assert find_metric(name).low <= value <= find_metric(name).high
                assert name != "MUSIQ" or 25 < value < 56
    assert dict(zip(COLUMNS, TABLES["III"].rows[1].values, strict=True))["VIF"] == 0.529  # U2Fusion on TNO


def test_a_run_in_which_all_failed_is_not_called_cached(pairs: Path) -> None:
    (pairs / "fused" / "a.png").unlink()
    command = [sys.executable, "-m", "fusion_det.cli", "quality", *sources(pairs), "--fused", f"ours={pairs / 'fused'}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert "has no image a" in done.stderr
    assert "nothing was measured" in done.stdout


def test_a_folder_that_cannot_be_written_is_named_without_a_traceback(pairs: Path) -> None:
    file = pairs / "a_file"
    file.touch()
    command = [sys.executable, "-m", "fusion_det.cli", "quality", *sources(pairs), "--fused", f"ours={pairs / 'fused'}"]
    done = subprocess.run([*command, "--reports", str(file)], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert str(file) in done.stderr
    assert "Traceback" not in done.stderr
