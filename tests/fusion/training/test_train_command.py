"""``fusion-det train-fusion`` as a person types it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from PIL import Image, ImageOps

pytest.importorskip("lightning", reason="Lightning is not installed")

from training_jobs import LEARNERS, write_pairs

from fusion_det.cli import main
from fusion_det.cli.train_fusion import _open

pytestmark = pytest.mark.usefixtures("fresh_registry")


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pairs(tmp_path_factory.mktemp("made") / "pairs")


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["train-fusion", *map(str, arguments)])
    return int(ended.value.code or 0)


@pytest.fixture
def usual(pairs: Path, tmp_path: Path) -> list[object]:
    return [
        "learner", "--method-module", LEARNERS, "--data", pairs, "--out", tmp_path / "out", "--cache", tmp_path / "cache",
        "--crop", 24, "--batch", 2, "--epochs", 1, "--classifier", "none", "--device", "cpu", "--workers", 0,
        "--set", "weights.gradient=10", "--set", "ema=0.9",
    ]  # fmt: skip


def test_it_trains_and_says_how_to_use_the_result(
    usual: list[object], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    split = tmp_path / "split.json"
    split.write_text(json.dumps({"train": ["05", "06"], "val": ["00"], "test": ["01", "02"]}))
    assert run(*usual, "--validation", 2, "--exclude-split", split) == 0
    captured = capsys.readouterr()
    assert re.search(r"6 pairs to learn from, 2 held out", captured.err)
    assert "3 steps" in captured.out and "--weights" in captured.out
    card = json.loads((tmp_path / "out" / "best.json").read_text())
    assert not {"00", "01", "02"} & {*card["data"][0]["train"], *card["data"][0]["validation"]}
    assert card["settings"]["weights"] == {"perception": 1, "l1": 15, "ssim": 15, "gradient": 10}
    assert card["settings"]["ema"] == 0.9
    assert card["versions"]["torch"] and card["trained_on"] == ["pairs"]
    assert run(*usual, "--validation", 2, "--exclude-split", split) == 0
    assert "went on after step 3" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (["--preset", "large"], "--preset large: use paper or small"),
        (["--set", "clip"], "--set clip: write NAME=VALUE"),
        (["--set", "speed=1"], "speed: no setting of fusion training"),
        (["--set", "intensity=darker"], "intensity"),
        (["--set", "weights.beauty=1"], "weights.beauty"),
        (["--set", "options.width=8"], "options.width: no option"),
        (["--crop", "25"], "--crop 25: learner takes squares of 32"),
        (["--classifier", "vgg"], "--classifier vgg"),
        (["--validation", "11"], "--validation 11"),
        (["--data", "nowhere/at/all"], "nowhere/at/all"),
    ],
)
def test_errors_name_the_option(
    usual: list[object], wrong: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*usual, *wrong) == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_help_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--help") == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "--exclude-split" in shown and "S4Fusion was trained" not in shown


def test_two_tasks_and_two_folders_of_any_names(
    usual: list[object], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = write_pairs(tmp_path / "made", 3)
    left, right = made / "ir", made / "vi"
    for file in made.rglob("*.png"):  # other images: the same ones are not learnt from twice
        ImageOps.invert(Image.open(file)).save(file)
    assert run(*usual, "--data", f"multi-focus:{left},{right}=1") == 0
    captured = capsys.readouterr()
    assert "14 pairs to learn from, 2 tasks in equal shares" in captured.err
    card = json.loads((tmp_path / "out" / "last.json").read_text())
    assert [(origin["name"], origin.get("task")) for origin in card["data"]] == [
        ("pairs", None),
        ("made_ir_vi", "multi-focus"),
    ]


def test_two_folders_are_named_after_both_and_what_holds_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def names(*, parent: str) -> list[str]:
        monkeypatch.setattr("os.path.commonpath", lambda folders: parent)
        pairs = (f"{tmp_path}/d/T1,{tmp_path}/d/PET", f"{tmp_path}/d/T2, {tmp_path}/d/PET")
        return [_open(pair, "medical", None, tmp_path / "cache", None) for pair in pairs]  # type: ignore[arg-type,misc]

    monkeypatch.setattr("fusion_det.data.open_folders", lambda *folders, name, **options: name)
    assert names(parent=f"{tmp_path}/d") == ["d-T1-PET", "d-T2-PET"]
    assert names(parent="/") == ["T1-PET", "T2-PET"]


def test_one_task_for_all_data(usual: list[object], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*usual, "--task", "medical") == 2
    message = " ".join(capsys.readouterr().err.split())
    assert "has no MRI and PET, SPECT or CT folder side by side (folders there: ir, vi)" in message
    assert "--data DIR,DIR" in message and "--task ivif" in message
    assert run(*usual, "--data", "focus:x") == 2
    message = " ".join(capsys.readouterr().err.split())
    assert "--data focus:x: focus is no task; the tasks are ivif, medical, multi-focus, multi-exposure; did" in message
    assert "A folder of that name is ./focus:x" in message
