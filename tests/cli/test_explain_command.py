"""``fusion-det explain`` as a user sees it, on small pairs and a network with its initial weights."""

from __future__ import annotations

import csv
import json
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from PIL import Image
from typer.testing import CliRunner

from fusion_det.cli.explain import explain
from fusion_det.data import load_pair, open_folders
from fusion_det.errors import ConfigError, DatasetError, FusionDetError, MethodError
from fusion_det.fusion import build_method
from fusion_det.fusion.checkpoint import save_checkpoint
from fusion_det.fusion.explanation import explain_pair

SIZES = {"00001": (40, 31), "00002": (26, 13), "odd name": (50, 26)}
"""Stem → (width, height)."""

app = typer.Typer()
app.command()(explain)

Call = Callable[..., str]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command keeps a cache below the working directory, and looks for weights there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FUSION_DET_WEIGHTS", raising=False)


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for stem, (width, height) in SIZES.items():
        for modality, shape in (("ir", (height, width)), ("vi", (height, width, 3))):
            (tmp_path / "pairs" / modality).mkdir(parents=True, exist_ok=True)
            image = Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8))
            image.save(tmp_path / "pairs" / modality / f"{stem}.png")
    return tmp_path / "pairs"


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    network = build_method("s4fusion", weights=None).network
    assert network is not None
    file = tmp_path_factory.mktemp("weights") / "own.safetensors"
    save_checkpoint(file, network.state_dict(), {"method": "s4fusion", "config": "released"})
    return file


@pytest.fixture
def call(pairs: Path, weights: Path, tmp_path: Path) -> Call:
    def run(*arguments: object, sources: bool = True, method: str = "s4fusion") -> str:
        given = ["--ir", pairs / "ir", "--vi", pairs / "vi"] if sources else []
        common = ["-m", method, "--out", tmp_path / "out", "--device", "cpu"]
        result = CliRunner().invoke(app, [str(item) for item in (*common, *given, *arguments)])
        if isinstance(result.exception, FusionDetError):
            raise result.exception
        assert result.exit_code == 0, result.output
        return result.output

    return lambda *a, **k: run("--weights", weights, *a, **k) if k.pop("weighted", True) else run(*a, **k)


def rows_of(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle))


def test_everything_is_written(call: Call, pairs: Path, weights: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shown = call()
    assert "layer 2, block 3" in shown
    assert "−19.811" in shown
    assert f"The explanation is in {out}" in shown.replace("\n", "")
    assert sorted(path.name for path in out.iterdir()) == [
        "features",
        "step_sizes.csv",
        "step_sizes.json",
        "step_sizes.md",
        "step_sizes_by_pair.csv",
    ]
    assert "| layer 1 (unused) |" in (out / "step_sizes.md").read_text()
    document = json.loads((out / "step_sizes.json").read_text())
    assert document["stems"] == list(SIZES)
    assert document["method"]["name"] == "s4fusion"
    assert document["method"]["config"] == "released"
    assert (document["schema"], document["stage"]) == ("fusion_det/step_sizes", "projected")
    averages, single = rows_of(out / "step_sizes.csv"), rows_of(out / "step_sizes_by_pair.csv")
    assert len(averages) == len(document["rows"]) == 72
    key = ("layer", "block", "modality", "stage", "used")
    for row, exact in zip(averages, document["rows"], strict=True):
        means = [float(one["mean"]) for one in single if all(one[name] == row[name] for name in key)]
        assert len(means) == len(SIZES)
        assert exact["mean"] == pytest.approx(statistics.fmean(means), rel=1e-4, abs=1e-9)
        assert exact["spread"] == pytest.approx(statistics.stdev(means), abs=1e-5 * abs(exact["mean"]) + 1e-9)
        assert float(row["mean"]) == pytest.approx(exact["mean"], rel=1e-5)
    method = build_method("s4fusion", weights)
    records = open_folders(pairs / "ir", pairs / "vi").records
    expected = [explain_pair(method, load_pair(record)) for record in records]
    assert document["rows"][0]["mean"] == pytest.approx(statistics.fmean(e.steps[0].mean for e in expected), abs=1e-7)
    for record, explanation in zip(records, expected, strict=True):
        folder = out / "features" / record.stem
        with np.load(folder / "features.npz") as arrays:
            assert len(arrays.files) == 2 + 3 * 2 * 2
            assert arrays["size"].tolist() == [record.height, record.width]
            left, right, top, bottom = arrays["padding"].tolist()
            assert (left + record.width + right) % 12 == (top + record.height + bottom) % 12 == 1
            for layer in explanation.features:
                for i, modality in enumerate(("ir", "vi")):
                    found = arrays[f"layer{layer.layer}_{modality}_after"]
                    assert found.dtype == np.float32
                    np.testing.assert_allclose(found, layer.after[i], atol=1e-5)
                    np.testing.assert_allclose(
                        arrays[f"layer{layer.layer}_{modality}_before"], layer.before[i], atol=1e-5
                    )
        assert len(list(folder.glob("*.png"))) == 3 * (1 + 4)
        for name in ("layer1_ir_before", "layer2_vi_after", "layer3_ir_after"):
            assert Image.open(folder / f"{name}.png").size == SIZES[record.stem]
        assert Image.open(folder / "layer2.png").width == 2 * 640 + 8
        shown_maps = json.loads((folder / "maps.json").read_text())["maps"]
        assert all(0 <= entry["share"] <= 1 and entry["low"] <= entry["high"] for entry in shown_maps.values())


def test_an_earlier_explanation_is_replaced(call: Call, tmp_path: Path) -> None:
    call("--stem", "odd name", "--stem", "00001", "--stem", "00001", "--scale", "shared")
    out = tmp_path / "out"
    assert sorted(path.name for path in (out / "features").iterdir()) == ["00001", "odd name"]
    assert json.loads((out / "step_sizes.json").read_text())["stems"] == ["odd name", "00001"]
    maps = json.loads((out / "features" / "00001" / "maps.json").read_text())
    assert maps["scale"] == "shared"
    assert maps["maps"]["layer2_ir_before"]["high"] == maps["maps"]["layer2_ir_after"]["high"]
    shown = call("--limit", 2, "--features", 1, "--stage", "step")
    assert "(feature maps of the first 1 of 2 pairs)" in shown
    assert "paper" not in shown
    assert [path.name for path in (out / "features").iterdir()] == ["00001"]
    call("--limit", 1, "--features", 0)
    assert not (out / "features").exists()
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".out")]


def test_two_files(call: Call, pairs: Path, tmp_path: Path) -> None:
    (pairs / "ir" / "00002.png").rename(pairs / "thermal.png")
    call("--ir", pairs / "thermal.png", "--vi", pairs / "vi" / "00002.png", sources=False)
    assert (tmp_path / "out" / "features" / "00002" / "layer2.png").is_file()
    with pytest.raises(DatasetError, match=r"00001\.png"):
        call("--ir", pairs / "thermal.png", "--vi", pairs / "vi" / "00001.png", sources=False)
    with pytest.raises(ConfigError, match="two images or two folders, not one of each"):
        call("--ir", pairs / "thermal.png", "--vi", pairs / "vi", sources=False)
    with pytest.raises(ConfigError, match=r"^--vi \S+none\.png: there is no such file or folder$"):
        call("--ir", pairs / "thermal.png", "--vi", pairs / "none.png", sources=False)


def test_dataset(call: Call, pairs: Path, tmp_path: Path) -> None:
    call("--data", pairs, "--stem", "00002", "--dtype", "bfloat16", sources=False)
    document = json.loads((tmp_path / "out" / "step_sizes.json").read_text())
    assert document["dataset"]["name"] == "pairs"
    assert document["method"]["dtype"] == "bfloat16"
    assert document["rows"][0]["spread"] is None


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("--stem", "0001"), ConfigError, "--stem 0001: folders has no such pair; did you mean 00001"),
        (("--stem", "zzz"), ConfigError, "its 3 pairs begin with 00001"),
        (("--stem", "00001", "--limit", 2), ConfigError, "leave out --limit"),
        (("--data", "m3fd"), ConfigError, "say which pairs"),
        (("--config", "cnn"), MethodError, "configuration"),
        (("--config", "rnn"), MethodError, "s4fusion has no configuration 'rnn'"),
        (("--device", "cuda:99"), ConfigError, "--device cuda:99"),
    ],
    ids=str,
)
def test_mistakes(call: Call, tmp_path: Path, arguments: tuple[object, ...], error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        call(*arguments)
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("nothing_shipped")
def test_methods_that_cannot(call: Call) -> None:
    with pytest.raises(MethodError, match=r"gff offers no explanation; use --method with one that does: .*s4fusion"):
        call(method="gff", weighted=False)
    with pytest.raises(MethodError, match="one method at a time, not "):
        call(method="gff,s4fusion", weighted=False)
    with pytest.raises(MethodError, match=r"s4fusion: missing: weights/s4fusion/model\.pkl"):
        call(weighted=False)


def test_other_files_are_not_touched(call: Call, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    call("--limit", 1, "--features", 0)
    (out / "step_sizes.json").unlink()
    with pytest.raises(ConfigError, match=r"holds other files .*choose another folder"):
        call("--limit", 1)
    assert (out / "step_sizes.md").is_file()
    for path in out.iterdir():
        path.unlink()
    out.rmdir()
    out.write_text("a file")
    with pytest.raises(ConfigError, match="is a file; name a folder"):
        call("--limit", 1)


def test_a_failure_leaves_the_earlier_explanation(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    call("--limit", 1, "--features", 0)
    before = (tmp_path / "out" / "step_sizes.json").read_bytes()

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(ConfigError, match="cannot be written: No space left on device; make room"):
        call("--limit", 1)
    assert (tmp_path / "out" / "step_sizes.json").read_bytes() == before
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".out")]


def test_help_has_examples_and_importing_is_light() -> None:
    assert "--stem 00388" in CliRunner().invoke(app, ["--help"], env={"COLUMNS": "200"}).output
    program = "import sys, fusion_det.cli.explain; print('torch' in sys.modules, 'numpy' in sys.modules)"
    root = Path(__file__).resolve().parents[2]
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=root)
    assert shown.stdout.split() == ["False", "False"]
