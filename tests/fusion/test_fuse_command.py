"""``fusion-det methods`` and ``fusion-det fuse`` as a user sees them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner, Result

from fusion_det.cli.fuse import fuse
from fusion_det.cli.methods import methods
from fusion_det.data.pair import PairRecord
from fusion_det.errors import ConfigError, FusionDetError, MethodError
from fusion_det.fusion.registry import Registry

app = typer.Typer()
app.command()(methods)
app.command()(fuse)


def call(*arguments: object) -> Result:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if isinstance(result.exception, FusionDetError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The commands keep a cache below the working directory."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def sources(records: list[PairRecord]) -> tuple[str, ...]:
    return "--ir", str(records[0].ir.parent), "--vi", str(records[0].vi.parent)


def test_methods_table(fresh_registry: Registry) -> None:
    shown = call("methods").output
    for name in ("ir", "vi", "mean", "max", "laplacian", "gff"):
        assert name in shown
    assert "Li et al. 2013" in " ".join(shown.split()) or "2013" in shown


def test_methods_as_json(fresh_registry: Registry) -> None:
    document = json.loads(call("methods", "--json").stdout)
    assert document["schema_version"] == 1
    assert document["unavailable"] == {}
    by_name = {entry["name"]: entry for entry in document["methods"]}
    assert by_name["vi"]["table_vi"] == 79.3
    assert by_name["gff"]["ready"] is True
    assert by_name["gff"]["weights_status"] == "none needed"


def test_methods_of_a_module(fresh_registry: Registry) -> None:
    module = Path(__file__).with_name("outside") / "darkest.py"
    assert "darkest" in call("methods", "--method-module", module).output


def test_one_pair_of_two_images(fresh_registry: Registry, records: list[PairRecord], tmp_path: Path) -> None:
    record = records[0]
    ir = tmp_path / "thermal.png"
    ir.write_bytes(record.ir.read_bytes())
    call("fuse", "-m", "mean", "--ir", ir, "--vi", record.vi)
    with Image.open(tmp_path / "fused" / f"{record.vi.stem}.png") as fused:
        assert fused.size == (record.width, record.height) and fused.mode == "RGB"
    with pytest.raises(ConfigError, match="two images or two folders, not one of each"):
        call("fuse", "-m", "mean", "--ir", ir, "--vi", record.vi.parent)


def test_importing_the_commands_is_light() -> None:
    program = (
        "import sys, fusion_det.cli.methods, fusion_det.cli.fuse; print('torch' in sys.modules, 'numpy' in sys.modules)"
    )
    root = Path(__file__).resolve().parents[2]
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=root)
    assert shown.stdout.split() == ["False", "False"]


def test_two_folders(sources: tuple[str, ...], tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert "6 images written" in call("fuse", "-m", "mean", *sources, "--out", out).output
    assert "0 images written" in call("fuse", "-m", "mean", *sources, "--out", out).output
    assert json.loads((out / "fusion.json").read_text())["method"]["name"] == "mean"


def test_several_methods_get_a_folder_each(sources: tuple[str, ...], records: list[PairRecord], tmp_path: Path) -> None:
    out = tmp_path / "out"
    call("fuse", "-m", "vi,max", "-m", f"mine={records[0].vi.parent}", *sources, "--out", out, "--limit", 2)
    assert sorted(path.relative_to(out).as_posix() for path in out.rglob("*.png")) == [
        f"{name}/{stem}.png" for name in ("max", "mine", "vi") for stem in ("00000", "00001")
    ]
    np.testing.assert_array_equal(Image.open(out / "vi" / "00000.png"), Image.open(out / "mine" / "00000.png"))


def test_methods_never_mix_in_one_folder(sources: tuple[str, ...], tmp_path: Path) -> None:
    out = tmp_path / "out"
    call("fuse", "-m", "mean", *sources, "--out", out)
    with pytest.raises(ConfigError, match="fused by mean, not max; choose another folder, or --overwrite"):
        call("fuse", "-m", "max", *sources, "--out", out)
    with pytest.raises(ConfigError, match="fused with --color ycbcr, not gray"):
        call("fuse", "-m", "mean", "--color", "gray", *sources, "--out", out)
    assert "6 images written" in call("fuse", "-m", "max", *sources, "--out", out, "--overwrite").output


def test_datasets_never_mix_in_one_folder(sources: tuple[str, ...], records: list[PairRecord], tmp_path: Path) -> None:
    out, other = tmp_path / "out", tmp_path / "other"
    call("fuse", "-m", "mean", *sources, "--out", out, "--limit", 4)
    assert "2 images written" in call("fuse", "-m", "mean", *sources, "--out", out).output  # it has grown
    for kind, file in (("ir", records[0].ir), ("vi", records[0].vi)):
        (other / kind).mkdir(parents=True)
        image = np.asarray(Image.open(file)) // 2
        Image.fromarray(image).save(other / kind / file.name)
        os.utime(other / kind / file.name, ns=(0, 0))  # older than what was fused: time alone would not tell
    command = ("fuse", "-m", "mean", "--ir", other / "ir", "--vi", other / "vi", "--out", out)
    before = (out / records[0].ir.name).read_bytes()
    with pytest.raises(ConfigError, match=r"other sources of the same names \(00000\.png\)"):
        call(*command)
    assert (out / records[0].ir.name).read_bytes() == before
    assert "1 images written" in call(*command, "--overwrite").output
    assert (out / records[0].ir.name).read_bytes() != before
    assert len(list(out.glob("*.png"))) == 6


def test_foreign_images_are_never_deleted(sources: tuple[str, ...], tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    Image.new("L", (3, 3)).save(out / "holiday.png")
    with pytest.raises(ConfigError, match=r"holds 1 PNG images but no fusion\.json"):
        call("fuse", "-m", "mean", *sources, "--out", out, "--overwrite")
    assert (out / "holiday.png").exists()


def test_source_folder_as_output(sources: tuple[str, ...], records: list[PairRecord]) -> None:
    with pytest.raises(ConfigError, match="holds the source images"):
        call("fuse", "-m", "mean", *sources, "--out", records[0].vi.parent)
    assert not (records[0].vi.parent / "fusion.json").exists()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("-m", "men"), MethodError, "did you mean mean"),
        (
            ("-m", "mean", "--data", "x"),
            ConfigError,
            "say which pairs: --ir and --vi .two images or two folders., or --data",
        ),
        (("-m", "mean", "--device", "abacus"), ConfigError, "--device abacus: this machine has"),
        (("-m", "mean", "--weights", "mean=/no/file"), MethodError, "there is no file /no/file"),
        (("-m", "mean", "--method-module", "no_such_module"), MethodError, "no_such_module cannot be imported"),
    ],
)
def test_mistakes(
    sources: tuple[str, ...],
    tmp_path: Path,
    arguments: tuple[str, ...],
    error: type[Exception],
    message: str,
) -> None:
    with pytest.raises(error, match=message):
        call("fuse", *arguments, *sources, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_methods_without_weights_stop_the_command_first(
    sources: tuple[str, ...], tmp_path: Path, fresh_registry: Registry
) -> None:
    module = Path(__file__).with_name("outside") / "onegain.py"
    with pytest.raises(MethodError, match=r"cannot fuse yet:\n  - onegain: missing: "):
        call("fuse", "-m", "mean,onegain", "--method-module", module, *sources, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()
