"""The commands ``data`` and ``splits`` as a user calls them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from pairs_on_disk import write_coco, write_m3fd
from typer import Typer
from typer.testing import CliRunner, Result

from fusion_det.cli import data as data_cli
from fusion_det.cli import splits as splits_cli
from fusion_det.cli.console import console
from fusion_det.data import Split
from fusion_det.errors import ConfigError, DatasetError


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands keep their cache below the working folder."""
    monkeypatch.setenv("COLUMNS", "200")
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")


def call(app: Typer, *arguments: object, fails: bool = False) -> Result:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert (result.exit_code != 0) is fails, result.output
    return result


@pytest.mark.parametrize("app", [data_cli.app, splits_cli.app])
def test_every_command_has_help_with_an_example(app: Typer) -> None:
    for command in app.registered_commands:
        name = command.name or (command.callback.__name__ if command.callback else "")
        text = call(app, name, "--help").output
        assert "Example" in text and "fusion-det" in text


def test_list() -> None:
    rows = json.loads(call(data_cli.app, "list", "--json").stdout)
    assert {row["id"] for row in rows} >= {"m3fd", "demo"} and all("place" in row for row in rows)
    assert "M3FD (detection set)" in call(data_cli.app, "list").stdout


def test_check_prints_the_census(tmp_path: Path) -> None:
    root = write_m3fd(tmp_path / "d", 8, runs=4)
    text = call(data_cli.app, "check", root).stdout
    for expected in ("8 pairs", "4 capture runs", "8 × 40x30", "People", "night", "synthetic"):
        assert expected in text
    counts = json.loads(call(data_cli.app, "check", root, "--json").stdout)
    assert counts["ok"] and counts["boxes"]["Car"] == 8 and counts["conditions"]["day"]["pairs"] == 4
    assert Path("runs/cache").is_dir()
    limited = json.loads(call(data_cli.app, "check", root, "--json", "--limit", 3).stdout)
    assert limited["pairs"] == limited["limit"] == 3


def test_check_lists_every_problem(tmp_path: Path) -> None:
    root = write_m3fd(tmp_path / "d", 60)
    for file in (root / "Vis").iterdir():
        file.write_bytes(b"")
    result = call(data_cli.app, "check", root, fails=True)
    assert result.exit_code == 1 and result.output.count("0 bytes") == 60
    content = json.loads(call(data_cli.app, "check", root, "--json", fails=True).stdout)
    assert not content["ok"] and len(content["problems"]) == 60
    assert content["problems"][0]["file"].endswith("Vis/00000.png")


def test_check_of_what_does_not_exist_is_a_mistake_of_the_command_line() -> None:
    assert isinstance(call(data_cli.app, "check", "m3df", fails=True).exception, DatasetError)


def test_tables_fit_a_narrow_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    console.cache_clear()
    monkeypatch.setenv("COLUMNS", "50")
    root = write_m3fd(tmp_path / "d", 40, runs=10)
    for output in (call(data_cli.app, "check", root).stdout, call(splits_cli.app, "show", root).stdout):
        assert "…" not in output and "Motorcycle" in output
    console.cache_clear()


def test_names_with_brackets_are_not_markup(tmp_path: Path) -> None:
    root = write_coco(tmp_path / "d", {"det": ["a"]})
    text = (root / "det.json").read_text().replace('"person"', '"[red]person"')
    (root / "det.json").write_text(text)
    assert "[red]person" in call(data_cli.app, "check", root).stdout
    assert isinstance(call(data_cli.app, "prepare", "m3df", "--zip", root, fails=True).exception, ConfigError)


def test_prepare_refuses_a_foreign_archive(tmp_path: Path) -> None:
    (tmp_path / "x.zip").write_bytes(b"PK")
    result = call(data_cli.app, "prepare", "m3fd", "--zip", tmp_path / "x.zip", "--out", tmp_path / "o", fails=True)
    assert isinstance(result.exception, DatasetError) and "62780f67" in str(result.exception)


def test_splits_show_and_make(tmp_path: Path) -> None:
    root = write_m3fd(tmp_path / "d", 40, runs=10)
    shown = json.loads(call(splits_cli.app, "show", root, "--split", "scene-712", "--json").stdout)
    assert sum(shown["images"].values()) == 40 and shown["leakage"]["run"] == 0
    assert sum(sum(classes.values()) for classes in shown["boxes"].values()) == 60
    text = call(splits_cli.app, "show", root, "--seed", 4).stdout
    assert "random-712, seed 4" in text and "whose capture run is in train" in text
    call(splits_cli.app, "make", root, "--seed", 4, "--out", tmp_path / "s.json")
    split = Split.load(tmp_path / "s.json")
    assert split.digest[:16] in text
    again = json.loads(call(splits_cli.app, "show", root, "--split-file", tmp_path / "s.json", "--json").stdout)
    assert again["digest"] == split.digest and again["name"] == "random-712" and again["seed"] == 4
    refused = call(splits_cli.app, "make", root, "--out", tmp_path / "s.json", fails=True)
    assert "--force" in str(refused.exception) and Split.load(tmp_path / "s.json").digest == split.digest
    call(splits_cli.app, "make", root, "--out", tmp_path / "s.json", "--force")


def test_splits_of_annotations_without_images(tmp_path: Path) -> None:
    root = write_coco(tmp_path / "d", {"train": [f"a{i}" for i in range(16)], "test": ["b1", "b2"]})
    for folder in ("ir", "vi"):
        for file in (root / folder).iterdir():
            file.unlink()
        (root / folder).rmdir()
    shown = json.loads(call(splits_cli.app, "show", root, "--split", "official", "--json").stdout)
    assert shown["images"] == {"train": 14, "val": 2, "test": 2} and "1 in 8" in shown["note"]


def test_demo_refuses_a_full_folder(tmp_path: Path) -> None:
    (tmp_path / "o").mkdir()
    (tmp_path / "o" / "x").write_text("")
    assert isinstance(call(data_cli.app, "demo", "--out", tmp_path / "o", fails=True).exception, DatasetError)


def test_commands_start_without_heavy_libraries() -> None:
    code = (
        "import sys, fusion_det.cli.data, fusion_det.cli.splits\n"
        "heavy = {'torch', 'ultralytics', 'cv2', 'pandas', 'matplotlib', 'numpy', 'PIL'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "import fusion_det.data\n"
        "heavy = {'torch', 'ultralytics', 'cv2', 'pandas', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
