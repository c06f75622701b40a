"""``fusion-det efficiency`` as a user sees it."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from fusion_det.cli.efficiency import efficiency
from fusion_det.config import load_command_settings
from fusion_det.efficiency.paper import SIZE, TABLE_VII
from fusion_det.efficiency.settings import EfficiencySettings
from fusion_det.errors import ConfigError, FusionDetError, MethodError

app = typer.Typer()
app.command()(efficiency)


def call(*arguments: object, code: int = 0) -> Result:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if isinstance(result.exception, FusionDetError):
        raise result.exception
    assert result.exit_code == code, result.output
    return result


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "table_vii.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_counts_of_every_variant(tmp_path: Path) -> None:
    shown = call("-m", "s4fusion,gff", "--all-configs", "--size", "40x60", "--count-only", "--out", tmp_path).output
    assert "S4Fusion" in shown
    assert "table_vii.md" in shown
    found = {row["config"]: row for row in rows(tmp_path)}
    assert list(found) == ["released", "paper", "add", "cnn", "ca", "sa", "va", "no_mark", ""]
    assert int(found["paper"]["flops"]) > int(found["released"]["flops"]) > int(found["add"]["flops"])
    assert all(row["flops_layers"] == row["flops_by_torch"] for row in found.values())
    assert (found["sa"]["padded_height"], found["sa"]["padded_width"]) == ("49", "61")
    assert found[""]["flops"] == found[""]["seconds"] == ""


def test_measured(tmp_path: Path) -> None:
    options = ("--size", "48x64", "--device", "cpu", "--repeats", 2, "--warmup", 1, "--threads", 1)
    call("-m", "mean,laplacian", *options, "--out", tmp_path / "new")
    found = rows(tmp_path / "new")
    assert [row["method"] for row in found] == ["mean", "laplacian"]
    assert all(float(row["seconds"]) > 0 and row["calls"] == "2" and row["threads"] == "1" for row in found)
    document = json.loads((tmp_path / "new" / "table_vii.json").read_text())
    assert document["provenance"]["versions"]["torch"]


@pytest.mark.parametrize(
    ("network", "words"),
    [
        ("None", "measuring late failed: ValueError: no luck"),
        ("Conv2d(1, 1, 1)", "counting failed: ValueError: no luck"),
    ],
)
def test_one_method_that_fails_costs_the_others_nothing(tmp_path: Path, network: str, words: str) -> None:
    module = tmp_path / "fails_late.py"
    module.write_text(
        "from torch.nn import Conv2d\n"
        "from fusion_det.fusion import FusionMethod, MethodCard, register_method\n"
        "CARD = MethodCard(name='late', label='Late', abbreviation='LAT', title='', family='cnn', fuses='luma')\n"
        "@register_method(CARD)\n"
        "class Late(FusionMethod):\n"
        "    card = CARD\n"
        f"    network = {network}\n"
        "    def fuse(self, ir, vi):\n"
        "        raise ValueError('no luck')\n"
    )
    options = ("--method-module", module, "--size", "48x64", "--repeats", 1, "--warmup", 1, "--out", tmp_path)
    command = ["-m", "fusion_det.cli", "efficiency", "-m", "late,mean", "--device", "cpu", *map(str, options)]
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert f"late: {words}" in done.stderr
    late, mean = rows(tmp_path)
    assert "no luck" in late["problem"]
    assert float(mean["seconds"]) > 0


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("--size", "480"), ConfigError, "HEIGHTxWIDTH"),
        (("--size", "0x9"), ConfigError, "1 to 16384 pixels"),
        (("--dtype", "float8"), ConfigError, "dtype"),
        (("--repeats", "0"), ConfigError, "repeats"),
        (("--device", "abacus"), ConfigError, "--device abacus: this machine has"),
        (("-e", "nothing"), ConfigError, "nothing.yaml does not exist"),
        (("-m", "men"), MethodError, "did you mean mean"),
        (("-m", "mine=."), MethodError, "images of a folder"),
        (("-m", "s4fusion", "--config", "s4fusion=none"), MethodError, "has no configuration 'none'"),
        (("-m", "mean", "--config", "s4fusion=add"), MethodError, "none of the methods"),
    ],
)
def test_mistakes(tmp_path: Path, arguments: tuple[str, ...], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call(*arguments, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_shipped_settings_are_the_papers() -> None:
    shipped = load_command_settings(EfficiencySettings, "efficiency", "efficiency")
    assert shipped.size == SIZE == (480, 640)
    assert shipped.methods == ("all",)
    assert shipped.model_copy(update={"title": ""}) == EfficiencySettings()


def test_files_are_checked(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("detector: {}\n")
    with pytest.raises(ConfigError, match=r"mine\.yaml is not for efficiency, but for fusion-det run"):
        load_command_settings(EfficiencySettings, "efficiency", file)
    file.write_text("command: efficiency\ndetector: {}\n")
    with pytest.raises(ConfigError, match=r"mine\.yaml: not valid for fusion-det efficiency\n  - detector"):
        load_command_settings(EfficiencySettings, "efficiency", file)
    file.write_text("command: efficiency\nsize: 100×200\nmethods: [gff]\n")
    assert load_command_settings(EfficiencySettings, "efficiency", file).size == (100, 200)


def test_the_papers_table() -> None:
    """Table VII, as printed: ten methods, two figures each."""
    gflops = [80.13, 664e3, 66.45, 52.30, 55.09, 73.73, 134.85, 41.53, 1004.50, 48.93]
    assert [figures.gflops for figures in TABLE_VII.values()] == gflops
    parameters = [7.87, 552.70, 7.27, 0.86, 5.32, 0.24, 20.33, 1.51, 325.02, 2.030]
    assert [figures.parameters for figures in TABLE_VII.values()] == parameters


def test_importing_the_command_is_light() -> None:
    program = "import sys, fusion_det.cli.efficiency; print('torch' in sys.modules, 'pydantic' in sys.modules)"
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert shown.stdout.split() == ["False", "False"]
