"""Cards, and finding a dataset by its id."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pairs_on_disk import write_m3fd

from fusion_det.data import M3FD_CLASSES, open_dataset
from fusion_det.data import locate as locate_module
from fusion_det.data.cards import read_card, read_cards
from fusion_det.data.locate import data_folders, find_dataset, locate
from fusion_det.data.readers import READERS
from fusion_det.errors import ConfigError, DatasetError


@pytest.fixture
def datasets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository's datasets/ of this test's own: what lies in the developers' one must not matter."""
    folder = tmp_path / "repository" / "datasets"
    folder.mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.setattr(locate_module, "cards_dir", lambda: folder)
    return folder


def test_every_card_is_sound() -> None:
    cards = read_cards()
    assert {"m3fd", "m3fd_fusion", "roadscene", "flir_aligned", "llvip", "demo"} <= cards.keys()
    for card in cards.values():
        assert card.layout in READERS and card.title and card.licence
        assert "\n---\n# " in card.file.read_text(encoding="utf-8")
        assert all(re.fullmatch(r"[0-9a-f]{64}", archive.sha256) for archive in card.archives)
    assert cards["m3fd"].classes == cards["demo"].classes == M3FD_CLASSES
    sha = {archive.name: archive.sha256 for card in cards.values() for archive in card.archives}
    assert sha["M3FD_Detection.zip"].startswith("62780f67") and sha["M3FD_Fusion.zip"].startswith("ec33d031")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("# only text", "begins with YAML"),
        ("---\n- a\n---\n", "begins with YAML"),
        ("---\na: [\n---\n", "is not YAML"),
        ("---\ntitle: x\n---\n", "lacks layout, classes, licence, origin"),
    ],
)
def test_bad_cards(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "bad.md").write_text(text)
    with pytest.raises(ConfigError, match=r"bad\.md.*" + message):
        read_card(tmp_path / "bad.md")


def test_places_are_searched_in_order(datasets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FUSION_DET_DATA", str(tmp_path / "env"))
    assert data_folders() == [datasets, Path.cwd() / "datasets", tmp_path / "env"]
    assert find_dataset("toy") is None
    in_env = write_m3fd(tmp_path / "env" / "toy", 1)
    assert find_dataset("toy") == in_env
    (datasets / "toy").mkdir()
    assert find_dataset("toy") == in_env  # an empty folder is not a dataset
    in_repository = write_m3fd(datasets / "toy", 1)
    assert find_dataset("toy") == in_repository
    assert open_dataset("toy").root == in_repository


def test_the_variable_may_name_the_dataset_itself(
    datasets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    itself = write_m3fd(tmp_path / "M3FD_Detection", 1)
    monkeypatch.setenv("FUSION_DET_DATA", str(itself))
    assert locate("m3fd") == (itself, "m3fd")
    assert find_dataset("roadscene") is None
    unnamed = tmp_path / "data"
    for folder in ("Ir", "Vis"):
        (unnamed / folder).mkdir(parents=True)
        for i in range(4200):
            (unnamed / folder / f"{i:05d}.png").touch()
    monkeypatch.setenv("FUSION_DET_DATA", str(unnamed))
    assert find_dataset("m3fd") == unnamed
    (unnamed / "Ir" / "04199.png").unlink()
    assert find_dataset("m3fd") is None


def test_paths_and_names(datasets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_m3fd(tmp_path / "My Pairs-2", 1)
    assert locate(root) == (root, "my_pairs_2")
    monkeypatch.chdir(root)
    assert locate(".") == (Path(), "my_pairs_2")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "toy").mkdir()
    assert locate("toy") == (Path("toy"), "toy")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("m3fd", r"is not in place(.|\n)*m3fd\.md says how to get it"),
        ("roadscnee", r"Did you mean 'roadscene'"),
        ("zzz", r"Known ids: demo"),
        ("./zzz", r"folder zzz does not exist"),
        ("", "empty name"),
    ],
)
def test_what_is_not_there(datasets: Path, source: str, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        locate(source)
