"""``fusion-det fuse --method s4fusion``: its weights, configurations and precisions as a user names them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from PIL import Image
from typer.testing import CliRunner

from fusion_det.cli.fuse import fuse
from fusion_det.cli.methods import methods
from fusion_det.data.pair import PairRecord
from fusion_det.errors import ConfigError, FusionDetError, MethodError
from fusion_det.fusion import build_method, method_identity, weights_status
from fusion_det.fusion.checkpoint import save_checkpoint
from fusion_det.fusion.methods.s4fusion.network import S4FusionNet

app = typer.Typer()
app.command()(methods)
app.command()(fuse)


pytestmark = pytest.mark.usefixtures("nothing_shipped")


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    monkeypatch.delenv("FUSION_DET_WEIGHTS", raising=False)


@pytest.fixture
def checkpoint(tmp_path: Path, filled_network: Callable[[], S4FusionNet]) -> Path:
    """A file in the layout of the published one."""
    file = tmp_path / "model.pkl"
    torch.save({"model": filled_network().state_dict()}, file)
    return file


Call = Callable[..., str]


@pytest.fixture
def call(records: list[PairRecord], tmp_path: Path) -> Call:
    def run(*arguments: object, out: Path = tmp_path / "out") -> str:
        sources = ("--ir", records[0].ir.parent, "--vi", records[0].vi.parent, "--out", out, "--device", "cpu")
        result = CliRunner().invoke(app, ["fuse", *map(str, (*arguments, *sources))])
        if isinstance(result.exception, FusionDetError):
            raise result.exception
        assert result.exit_code == 0, result.output
        return result.output

    return run


def identity(out: Path) -> dict[str, str]:
    return json.loads((out / "fusion.json").read_text())["method"]


def test_a_bare_file_is_for_the_only_learned_method(
    call: Call, checkpoint: Path, records: list[PairRecord], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert "6 images written" in call("-m", "s4fusion,mean", "--weights", checkpoint)
    assert "0 images written" in call("-m", "s4fusion", "--weights", f"s4fusion={checkpoint}", out=out / "s4fusion")
    for record in records:
        image = Image.open(out / "s4fusion" / f"{record.stem}.png")
        assert image.size == (record.width, record.height)
        assert np.asarray(image).std() > 0 or record.width == 1


def test_configurations_and_precisions_are_part_of_what_a_folder_holds(
    call: Call, checkpoint: Path, tmp_path: Path
) -> None:
    own = tmp_path / "own.safetensors"
    unmarked = build_method("s4fusion", None, "no_mark")
    save_checkpoint(own, unmarked.network.state_dict(), {"method": "s4fusion", "config": "no_mark"})
    call("-m", "s4fusion", "--weights", checkpoint, "--limit", 2)
    assert identity(tmp_path / "out")["config"] == "released"
    assert identity(tmp_path / "out")["dtype"] == "float32"
    command = ("-m", "s4fusion", "--limit", 2)
    with pytest.raises(ConfigError, match="fused by s4fusion with other weights and config; choose another folder"):
        call(*command, "--weights", own, "--config", "no_mark")
    with pytest.raises(ConfigError, match="fused by s4fusion with other dtype; choose another folder"):
        call(*command, "--weights", checkpoint, "--dtype", "bfloat16")
    assert "2 images written" in call(*command, "--weights", checkpoint, "--dtype", "float16", out=tmp_path / "half")
    assert identity(tmp_path / "half")["dtype"] == "float16"
    for stem in ("00000", "00001"):
        full, half = (np.asarray(Image.open(tmp_path / name / f"{stem}.png"), dtype=int) for name in ("out", "half"))
        assert 0 < np.abs(full - half).max() < 16
    assert "2 images written" in call(
        *command, "--weights", own, "--config", "s4fusion=no_mark", out=tmp_path / "unmarked"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("-m", "s4fusion"),
            r"cannot fuse yet:\n  - s4fusion: missing: weights/s4fusion/model\.pkl; fetch it with .* or get model\.pkl from https://github",
        ),
        (
            ("-m", "s4fusion", "--config", "cnn"),
            r"weights/s4fusion/cnn\.safetensors; nobody has published the configuration cnn",
        ),
        (("-m", "s4fusion", "--config", "rnn"), "s4fusion has no configuration 'rnn'; it has released, paper, add"),
        (("-m", "mean", "--config", "rnn"), "--config rnn: write METHOD=NAME"),
        (("-m", "mean,s4fusion", "--config", "mean=rnn"), "mean has no configuration 'rnn'; it has none"),
        (("-m", "mean", "--weights", "model.pkl"), "--weights model.pkl: write METHOD=FILE"),
        (("-m", "s4fusion", "--weights", "model.pkl"), "--weights s4fusion=model.pkl: there is no file model.pkl"),
        (("-m", "s4fusion", "--weights", "./a=b.pkl"), "--weights s4fusion=a=b.pkl: there is no file"),
    ],
    ids=str,
)
def test_mistakes(call: Call, arguments: tuple[str, ...], message: str) -> None:
    with pytest.raises(MethodError, match=message):
        call(*arguments)


def test_all_means_all_that_can(call: Call, checkpoint: Path, tmp_path: Path) -> None:
    shown = call("-m", "ir,s4*,mean", "--limit", 1)
    assert (
        "left out: s4fusion: missing: weights/s4fusion/model.pkl; fetch it with fusion-det weights get s4fusion"
        in shown
    )
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["ir", "mean"]
    with pytest.raises(MethodError, match="cannot fuse yet"):
        call("-m", "s4*", out=tmp_path / "only")


def test_anothers_file_says_whose(call: Call, tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(2, 2).state_dict(), tmp_path / "model.pkl")
    with pytest.raises(
        MethodError, match=r"\(2 tensors\) does not fit s4fusion, configuration released \(304 tensors\)"
    ) as caught:
        call("-m", "s4fusion", "--weights", tmp_path / "model.pkl")
    assert "it fits" not in str(caught.value)


def test_places_of_weights(checkpoint: Path) -> None:
    published = Path("weights/s4fusion/model.pkl")
    published.parent.mkdir(parents=True)
    published.write_bytes(checkpoint.read_bytes())
    assert weights_status("s4fusion") == (True, str(published))
    with pytest.raises(MethodError, match=r"its git blob id is \w{40}, not ec101bb3e8cd84fab46e12266813687a61f2a82e"):
        build_method("s4fusion")
    assert weights_status("s4fusion", config="no_mark")[0] is False
    with pytest.raises(
        MethodError, match=r"nobody has published the configuration no_mark: train it .*--weights s4fusion=FILE"
    ):
        build_method("s4fusion", config="no_mark")
    own = build_method("s4fusion", None, "no_mark").network.state_dict()
    save_checkpoint(Path("weights/s4fusion/no_mark.safetensors"), own, {"method": "s4fusion", "config": "no_mark"})
    assert build_method("s4fusion", config="no_mark").trained


def test_identity_tells_configurations_and_precisions_apart() -> None:
    variants = [
        method_identity("s4fusion"),
        method_identity("s4fusion", config="no_mark"),
        method_identity("s4fusion", dtype="bfloat16"),
    ]
    assert len({json.dumps(variant) for variant in variants}) == 3
    assert method_identity("s4fusion", config="released") == variants[0]
    assert method_identity("mean", dtype="bfloat16") == method_identity("mean")
    with pytest.raises(ConfigError, match="--dtype int8: use float32, bfloat16, float16"):
        method_identity("s4fusion", dtype="int8")


def test_shown_among_the_methods() -> None:
    shown = json.loads(CliRunner().invoke(app, ["methods", "--json"]).stdout)
    card = {entry["name"]: entry for entry in shown["methods"]}["s4fusion"]
    assert card["ready"] is False
    assert card["weights_status"] == "missing: weights/s4fusion/model.pkl"
    assert card["weights"]["trained_on"] == ["msrs", "m3fd", "roadscene"]
    assert card["table_vi"] == 81.3
    assert card["configs"][:2] == ["released", "paper"]
