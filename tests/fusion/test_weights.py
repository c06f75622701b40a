"""Weights: found, checked, never random; shown on a network that is not in the package."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image

from fusion_det.data.pair import PairRecord
from fusion_det.errors import MethodError
from fusion_det.fusion import (
    FusionMethod,
    FusionRunner,
    build_method,
    load_method_modules,
    method_identity,
    parse_weights,
    weights_status,
)
from fusion_det.fusion.registry import Registry
from fusion_det.fusion.weights import git_blob_id

MakeModule = Callable[[str, str], ModuleType]


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """The file that the card of ``onegain`` describes."""
    file = tmp_path / "downloads" / "gain.pth"
    file.parent.mkdir()
    torch.save({"gain": torch.tensor(1.0)}, file)
    return file


@pytest.fixture
def onegain(
    published: Path,
    tmp_path: Path,
    fresh_registry: Registry,
    make_module: MakeModule,
    fake_learned: str,
    monkeypatch: pytest.MonkeyPatch,
) -> str:
    sha = hashlib.sha256(published.read_bytes()).hexdigest()
    make_module(
        "onegain_module", fake_learned.replace("PUBLISHED_SHA256: str | None = None", f"PUBLISHED_SHA256 = {sha!r}")
    )
    load_method_modules(["onegain_module"])
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    monkeypatch.delenv("FUSION_DET_WEIGHTS", raising=False)
    return "onegain"


def place(source: Path, target: Path) -> Path:
    target.parent.mkdir(parents=True)
    target.write_bytes(source.read_bytes())
    return target


def gain(method: object) -> float:
    assert isinstance(method, FusionMethod)
    assert method.network is not None
    return method.network.state_dict()["gain"].item()


def test_missing_weights_say_where_and_how(onegain: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FUSION_DET_WEIGHTS", "/somewhere")
    ready, text = weights_status(onegain)
    assert not ready
    assert text == "missing: /somewhere/onegain/gain.pth or weights/onegain/gain.pth"
    with pytest.raises(MethodError) as caught:
        build_method(onegain)
    for part in ("/somewhere/onegain/gain.pth", "weights/onegain/gain.pth", "https://example.org/onegain", "MIT"):
        assert part in str(caught.value)
    assert method_identity(onegain)["weights"] is None


def test_places_in_order(onegain: str, published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place(published, Path("weights/onegain/gain.pth"))
    assert weights_status(onegain) == (True, "weights/onegain/gain.pth")
    monkeypatch.setenv("FUSION_DET_WEIGHTS", str(tmp_path / "lab"))
    assert weights_status(onegain) == (True, "weights/onegain/gain.pth")
    first = place(published, tmp_path / "lab/onegain/gain.pth")
    assert weights_status(onegain) == (True, str(first))
    method = build_method(onegain)
    assert isinstance(method, FusionMethod)
    assert method.trained
    assert method.weights_file == first
    assert gain(method) == 1
    assert method_identity(onegain)["weights"] == hashlib.sha256(published.read_bytes()).hexdigest()


def test_found_file_must_be_the_published_one_but_a_named_one_need_not(onegain: str, tmp_path: Path) -> None:
    own = tmp_path / "own.pth"
    torch.save({"gain": torch.tensor(0.5)}, own)
    place(own, Path("weights/onegain/gain.pth"))
    with pytest.raises(
        MethodError, match=r"not the published weights file of onegain: its sha256 is .* --weights onegain="
    ):
        build_method(onegain)
    method = build_method(onegain, own)
    assert gain(method) == 0.5
    assert method_identity(onegain, own)["weights"] == hashlib.sha256(own.read_bytes()).hexdigest()


def test_wrong_and_missing_named_files(onegain: str, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.pth"
    torch.save({"loss": torch.tensor(0.5)}, wrong)
    with pytest.raises(MethodError, match=r"(?s)wrong.pth does not fit onegain.*gain"):
        build_method(onegain, wrong)
    with pytest.raises(MethodError, match=r"--weights onegain=.*nowhere.pth: there is no such file"):
        build_method(onegain, tmp_path / "nowhere.pth")
    assert weights_status(onegain, tmp_path / "nowhere.pth")[0] is False
    with pytest.raises(MethodError, match=r"weights of onegain are not there: .*nowhere.pth"):
        method_identity(onegain, tmp_path / "nowhere.pth")


def test_untrained_for_tests_only(onegain: str) -> None:
    method = build_method(onegain, weights=None)
    assert isinstance(method, FusionMethod)
    assert not method.trained
    assert gain(method) == 5
    assert gain(build_method(onegain, weights=None, config="tiny")) == 6
    assert weights_status(onegain, None) == (False, "untrained")
    with pytest.raises(MethodError, match="onegain has no trained weights, and random ones are never used"):
        FusionRunner(method)
    with pytest.raises(MethodError, match="no configuration 'huge'; it has base, tiny"):
        build_method(onegain, config="huge")


def test_fusing_with_weights(onegain: str, published: Path, records: list[PairRecord], tmp_path: Path) -> None:
    """A gain of one is the mean, whatever the padding to multiples of eight does beyond the border."""
    FusionRunner(build_method(onegain, published), batch_size=2).run(records, tmp_path / "a")
    FusionRunner(build_method("mean")).run(records, tmp_path / "b")
    for record in records:
        a, b = (np.asarray(Image.open(tmp_path / x / f"{record.stem}.png")) for x in "ab")
        np.testing.assert_array_equal(a, b)


def test_no_weights_for_what_learns_nothing(published: Path) -> None:
    with pytest.raises(MethodError, match="mean learns nothing"):
        build_method("mean", published)
    method = build_method("mean", None)
    assert isinstance(method, FusionMethod)
    assert method.trained
    with pytest.raises(MethodError, match="takes no weights"):
        method.load_weights(published)
    assert weights_status("mean") == (True, "none needed")


def test_git_blob_id_is_gits(tmp_path: Path) -> None:
    assert git_blob_id_of(tmp_path, b"") == "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"
    content = bytes(range(256)) * 9000
    shown = subprocess.run(["git", "hash-object", "--stdin"], input=content, capture_output=True, check=True)
    assert git_blob_id_of(tmp_path, content) == shown.stdout.decode().strip()


def git_blob_id_of(folder: Path, content: bytes) -> str:
    (folder / "blob").write_bytes(content)
    return git_blob_id(folder / "blob")


def test_parsing_the_option(tmp_path: Path) -> None:
    file = tmp_path / "w=1.pt"
    file.touch()
    assert parse_weights([f"ddfm={file}"], ["ddfm", "ir"]) == {"ddfm": file}
    for item, message in {
        "ddfm": "write METHOD=FILE",
        "ddfm=": "write METHOD=FILE",
        f"dfm={file}": "'dfm' is none of the methods",
        f"ddfm={tmp_path}/x": "there is no file",
        f"ddfm={tmp_path}": "that is a folder",
    }.items():
        with pytest.raises(MethodError, match=message):
            parse_weights([item], ["ddfm", "ir"])
    with pytest.raises(MethodError, match="names ddfm twice"):
        parse_weights([f"ddfm={file}", f"ddfm={file}"], ["ddfm"])
