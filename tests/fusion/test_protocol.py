"""The official protocol: stored pixels go in, and what comes back is written as it is."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from PIL import Image
from typer.testing import CliRunner, Result

from fusion_det.cli.fuse import fuse
from fusion_det.cli.methods import methods
from fusion_det.config import FusionConfig
from fusion_det.data.pair import PairRecord
from fusion_det.errors import ConfigError, DatasetError, FusionDetError, MethodError
from fusion_det.fusion import (
    FusionMethod,
    FusionRunner,
    MethodCard,
    MethodSpec,
    build_method,
    get_card,
    list_cards,
    method_identity,
)
from fusion_det.fusion.protocol import load_stored_pair, own_protocol, read_stored
from fusion_det.fusion.registry import Registry
from fusion_det.pipeline.stages import fuse_stage

OWN_WAY = Path(__file__).with_name("outside") / "ownway.py"

app = typer.Typer()
app.command()(methods)
app.command()(fuse)


class OwnWay(FusionMethod):
    """Its published procedure is any function: by itself it turns the visible image upside down."""

    card = MethodCard("ownway", "OwnWay", "Own", "Probe", "cnn", "luma", official="Upside down.")

    def __init__(self, procedure: Callable[[np.ndarray, np.ndarray], object] = lambda ir, vi: vi[::-1]) -> None:
        self.procedure, self.given = procedure, list[tuple[np.ndarray, np.ndarray]]()

    def fuse(self, ir: torch.Tensor, vi: torch.Tensor) -> torch.Tensor:
        raise AssertionError("the common protocol was not asked for")

    def fuse_officially(self, ir: np.ndarray, vi: np.ndarray) -> np.ndarray:
        self.given.append((ir, vi))
        return self.procedure(ir, vi)  # type: ignore[return-value]


def pixels(file: Path) -> np.ndarray:
    return np.asarray(Image.open(file))


def call(*arguments: object) -> Result:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if isinstance(result.exception, FusionDetError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result


def test_stored_pixels_in_and_out(records: list[PairRecord], tmp_path: Path) -> None:
    method = OwnWay()
    summary = FusionRunner(method, batch_size=4, protocol="official").run(records, tmp_path / "out")
    assert summary.written == len(records)
    assert summary.seconds_per_pair is not None
    assert len(method.given) == len(records)
    by_size = {ir.shape: (ir, vi) for ir, vi in method.given}
    for record in records:
        assert by_size[record.height, record.width][1].dtype == np.uint8
        np.testing.assert_array_equal(pixels(tmp_path / "out" / f"{record.stem}.png"), pixels(record.vi)[::-1])
    assert FusionRunner(method, protocol="official").run(records, tmp_path / "out").written == 0


def test_grey_results_are_written_grey_and_colour_is_reduced_where_asked(
    records: list[PairRecord], tmp_path: Path
) -> None:
    grey = FusionRunner(OwnWay(lambda ir, vi: ir), protocol="official")
    grey.run(records, tmp_path / "grey")
    assert grey.run(records, tmp_path / "grey").skipped == len(records)
    reduced = FusionRunner(OwnWay(), color="gray", protocol="official")
    reduced.run(records, tmp_path / "reduced")
    for record in records:
        np.testing.assert_array_equal(pixels(tmp_path / "grey" / f"{record.stem}.png"), pixels(record.ir))
        exact = pixels(record.vi)[::-1].astype(float) @ [0.299, 0.587, 0.114]
        assert np.abs(pixels(tmp_path / "reduced" / f"{record.stem}.png") - exact).max() <= 0.5 + 1e-9


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            lambda ir, vi: vi / 255,
            r"returned float64 \(14, 20, 3\) for 00000; an image of the pair's size, uint8 \(14, 20\)",
        ),
        (lambda ir, vi: vi[1:], r"returned uint8 \(13, 20, 3\)"),
        (lambda ir, vi: vi[..., :1], r"returned uint8 \(14, 20, 1\)"),
        (lambda ir, vi: None, "returned NoneType"),
    ],
    ids=["floats", "size", "channels", "nothing"],
)
def test_what_is_no_image_is_refused(records: list[PairRecord], tmp_path: Path, wrong: object, message: str) -> None:
    with pytest.raises(MethodError, match=message):
        FusionRunner(OwnWay(wrong), protocol="official").run(records, tmp_path / "out")  # type: ignore[arg-type]


def test_methods_without_a_procedure_and_other_mistakes(records: list[PairRecord]) -> None:
    with pytest.raises(MethodError, match="mean: no inference procedure of its own was published"):
        FusionRunner(build_method("mean"), protocol="official")
    images = build_method(MethodSpec("theirs", records[0].vi.parent))
    with pytest.raises(MethodError, match="theirs: no inference procedure of its own"):
        FusionRunner(images, protocol="official")
    with pytest.raises(ConfigError, match="--protocol offical: use common or official"):
        FusionRunner(build_method("mean"), protocol="offical")  # type: ignore[arg-type]
    halved = OwnWay()
    halved.dtype = torch.bfloat16
    with pytest.raises(ConfigError, match="--dtype bfloat16: published procedures compute in float32"):
        FusionRunner(halved, protocol="official")


def test_reading_what_is_stored(records: list[PairRecord], tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    for name, image in {
        "grey.png": rng.integers(0, 256, (5, 6), dtype=np.uint8),
        "colour.png": rng.integers(0, 256, (5, 6, 3), dtype=np.uint8),
        "grey_in_colour.bmp": np.repeat(rng.integers(0, 256, (5, 6, 1), dtype=np.uint8), 3, axis=2),
    }.items():
        Image.fromarray(image).save(tmp_path / name)
        np.testing.assert_array_equal(read_stored(tmp_path / name), image)
    deep = tmp_path / "deep.png"
    Image.fromarray(rng.integers(0, 65536, (5, 6), dtype=np.uint16)).save(deep)
    with pytest.raises(DatasetError, match=r"deep\.png.* has more than 8 bits.*use the common protocol"):
        read_stored(deep)
    Image.fromarray(np.zeros((3, 3), np.uint8)).save(records[1].ir)
    with pytest.raises(DatasetError, match="is 3×3 now, was 20×14"):
        load_stored_pair(records[1])


def test_identity_tells_the_protocol(tmp_path: Path) -> None:
    common, official = method_identity("u2fusion"), method_identity("u2fusion", protocol="official")
    assert official["protocol"] == "official"
    assert "protocol" not in common  # so that images made before there was a choice stay valid
    assert official["code"] != common["code"]


def test_stage_of_an_experiment(records: list[PairRecord]) -> None:
    config = FusionConfig(protocol="official")
    assert fuse_stage(MethodSpec("u2fusion"), records, config).identity["method"]["protocol"] == "official"
    assert (
        fuse_stage(MethodSpec("mean"), records, config).identity
        == fuse_stage(MethodSpec("mean"), records, FusionConfig()).identity
    )
    assert own_protocol(get_card("u2fusion"), "common") == "common"


def test_command(
    records: list[PairRecord], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh_registry: Registry
) -> None:
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "out"
    pairs = ("--ir", records[0].ir.parent, "--vi", records[0].vi.parent)
    command = ("fuse", "--method-module", OWN_WAY, *pairs, "--out", out)
    told = call(*command, "-m", "ownway", "--protocol", "official").output
    assert "6 images written" in told
    assert "published procedure: mirrored" in told
    np.testing.assert_array_equal(pixels(out / "00000.png"), pixels(records[0].vi)[:, ::-1])
    with pytest.raises(
        ConfigError, match="fused by ownway with --protocol official, not common; choose another folder"
    ):
        call(*command, "-m", "ownway")
    assert "6 images written" in call(*command, "-m", "ownway", "--overwrite").output
    assert "protocol" not in json.loads((out / "fusion.json").read_text())["method"]
    with pytest.raises(MethodError, match=r"cannot fuse yet:\n  - mean: no inference procedure of its own"):
        call(*command, "-m", "ownway,mean", "--protocol", "official", "--overwrite")
    shown = call(*command, "-m", "ownway,m*", "--protocol", "official", "--overwrite").output
    assert "left out: mean: no inference procedure" in shown
    assert sorted(folder.name for folder in out.iterdir() if folder.is_dir()) == ["ownway"]


def test_details_of_a_method() -> None:
    shown = " ".join(call("methods", "u2fusion", "mean").output.split())
    assert "multiplied until its own maximum" in shown
    assert "none of its own: --protocol official is not for it" in shown
    document = json.loads(call("methods", "u2fusion", "--json").stdout)
    assert [entry["name"] for entry in document["methods"]] == ["u2fusion"]
    assert document["methods"][0]["official"]


OWN_SIZES = {"ddfm": (32, 64), "crossfuse": (137, 141)}
"""Of published scripts that take no small images, or crop others than these, which is refused."""


@pytest.mark.parametrize("card", [card for card in list_cards() if card.official], ids=lambda card: card.name)
def test_every_published_procedure(card: MethodCard) -> None:
    """Grey and colour files, odd sizes: an 8-bit image of the pair's size, the same every time, and sources left alone."""
    if card.name == "semla":
        pytest.skip("it registers the pair first, which takes weights that have learnt: tests/fusion/semla")
    rng = np.random.default_rng(0)
    config = "tiny" if "tiny" in card.configs else None
    method = build_method(card.name, weights=None, config=config)
    assert isinstance(method, FusionMethod)
    size = OWN_SIZES.get(card.name, (37, 45))
    for channels in ((), (3,)):
        ir = rng.integers(0, 256, (*size, *channels), dtype=np.uint8)
        vi = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
        before = ir.copy(), vi.copy()
        fused = method.fuse_officially(ir, vi)
        assert fused.dtype == np.uint8
        assert fused.shape in (size, (*size, 3))
        np.testing.assert_array_equal(fused, method.fuse_officially(ir, vi))
        np.testing.assert_array_equal(ir, before[0])
        np.testing.assert_array_equal(vi, before[1])
