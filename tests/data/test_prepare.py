"""Archives: good ones end in place, hostile and damaged ones leave nothing behind."""

from __future__ import annotations

import hashlib
import stat
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from pairs_on_disk import write_m3fd

from fusion_det.data import open_dataset
from fusion_det.data import prepare as prepare_module
from fusion_det.data.cards import Archive, DatasetCard, read_cards
from fusion_det.data.prepare import extract_safely, prepare
from fusion_det.errors import ConfigError, DatasetError


def zip_folder(folder: Path, archive: Path, prefix: str = "") -> Path:
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as content:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                content.write(file, f"{prefix}{file.relative_to(folder)}")
    return archive


def card_for(archive: Path, pairs: int | None = None) -> DatasetCard:
    sha256 = hashlib.sha256(archive.read_bytes()).hexdigest()
    return replace(read_cards()["m3fd"], pairs=pairs, archives=(Archive(archive.name, sha256),))


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return zip_folder(write_m3fd(tmp_path / "source", 4), tmp_path / "a.zip", prefix="M3FD_Detection/")


def leftovers(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in tmp_path.iterdir() if path.name not in ("source", "a.zip"))


def test_a_good_archive_ends_in_place(tmp_path: Path, archive: Path) -> None:
    out = tmp_path / "deep" / "pairs"
    dataset = prepare(card_for(archive, pairs=4), archive, out)
    assert len(dataset) == 4 and leftovers(tmp_path) == ["deep"] and [p.name for p in out.parent.iterdir()] == ["pairs"]
    assert open_dataset(out).content_digest == open_dataset(tmp_path / "source").content_digest
    with pytest.raises(DatasetError, match="nothing is overwritten"):
        prepare(card_for(archive), archive, out)


def test_macos_clutter_is_left_out(tmp_path: Path, archive: Path) -> None:
    with zipfile.ZipFile(archive, "a") as content:
        content.writestr("__MACOSX/M3FD_Detection/Ir/._00000.png", b"x")
        content.writestr("M3FD_Detection/.DS_Store", b"x")
    prepare(card_for(archive), archive, tmp_path / "out")
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["M3FD_Detection"]


def test_wrong_checksum(tmp_path: Path, archive: Path) -> None:
    card = card_for(archive)
    with archive.open("ab") as handle:
        handle.write(b"x")
    with pytest.raises(DatasetError, match=r"not the official archive(.|\n)*sha256 is(.|\n)*--no-checksum"):
        prepare(card, archive, tmp_path / "out")
    assert leftovers(tmp_path) == []
    prepare(card, archive, tmp_path / "out", checksum=False)
    with pytest.raises(ConfigError, match="No checksum is known"):
        prepare(replace(card, archives=()), archive, tmp_path / "other")


def test_the_archive_of_another_dataset_is_recognised(
    tmp_path: Path, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cards = read_cards()
    sha256 = hashlib.sha256(archive.read_bytes()).hexdigest()
    other = replace(cards["m3fd_fusion"], archives=(Archive("M3FD_Fusion.zip", sha256),))
    monkeypatch.setattr(prepare_module, "read_cards", lambda: {**cards, "m3fd_fusion": other})
    with pytest.raises(DatasetError, match=r"This is M3FD_Fusion\.zip: use `fusion-det data prepare m3fd_fusion"):
        prepare(cards["m3fd"], archive, tmp_path / "out")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("../evil.png", "leaves the folder"),
        ("Ir/../../evil.png", "leaves the folder"),
        ("/etc/evil", "absolute path"),
        ("C:/evil", "absolute path"),
        ("Ir\\..\\..\\evil", "backslash"),
        ("m3fd_detection/IR/00000.PNG", "is there twice"),
    ],
)
def test_hostile_names(tmp_path: Path, archive: Path, name: str, reason: str) -> None:
    with zipfile.ZipFile(archive, "a") as content:
        content.writestr(name, b"x")
    with pytest.raises(DatasetError, match=f"not safe to extract(.|\n)*{reason}"):
        prepare(card_for(archive), archive, tmp_path / "out")
    assert leftovers(tmp_path) == [] and not (tmp_path.parent / "evil.png").exists()


def test_links_and_encryption(tmp_path: Path, archive: Path) -> None:
    link = zipfile.ZipInfo("M3FD_Detection/Ir/link.png")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(archive, "a") as content:
        content.writestr(link, "/etc/passwd")
    with pytest.raises(DatasetError, match="is a link"):
        prepare(card_for(archive), archive, tmp_path / "out")
    raw = bytearray(archive.read_bytes())
    raw[raw.index(b"PK\x01\x02") + 8] |= 1
    archive.write_bytes(raw)
    with pytest.raises(DatasetError, match="is encrypted"):
        prepare(card_for(archive), archive, tmp_path / "out")


def test_bombs_and_full_disks(tmp_path: Path, archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepare_module, "MAX_UNPACKED", 100)
    with pytest.raises(DatasetError, match="decompression bomb"):
        prepare(card_for(archive), archive, tmp_path / "out")
    monkeypatch.undo()
    with zipfile.ZipFile(tmp_path / "zeros.zip", "w", zipfile.ZIP_DEFLATED) as content:
        content.writestr("zeros", bytes(300 * 2**20))
    with pytest.raises(DatasetError, match="decompression bomb"):
        prepare(card_for(tmp_path / "zeros.zip"), tmp_path / "zeros.zip", tmp_path / "out")
    (tmp_path / "zeros.zip").unlink()

    class Full:
        free = 10

    monkeypatch.setattr(prepare_module.shutil, "disk_usage", lambda _: Full)
    with pytest.raises(DatasetError, match=r"Not enough disk space(.|\n)*--out"):
        prepare(card_for(archive), archive, tmp_path / "out")
    assert leftovers(tmp_path) == []


def test_a_header_that_lies_about_its_size(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "liar.zip", "w", zipfile.ZIP_DEFLATED) as content:
        content.writestr("a.txt", b"x" * 100_000)
    raw = (tmp_path / "liar.zip").read_bytes().replace((100_000).to_bytes(4, "little"), (10).to_bytes(4, "little"))
    (tmp_path / "liar.zip").write_bytes(raw)
    (tmp_path / "out").mkdir()
    with pytest.raises(DatasetError, match="damaged"):
        extract_safely(tmp_path / "liar.zip", tmp_path / "out")


def test_damaged_archives(tmp_path: Path, archive: Path) -> None:
    raw = bytearray(archive.read_bytes())
    (tmp_path / "out").mkdir()
    for damage in ("cut", "flipped", "not a zip", "empty"):
        bad = bytearray(raw)
        if damage == "cut":
            bad = bad[: len(bad) // 2]
        elif damage == "flipped":
            bad[len(bad) // 3] ^= 0xFF
        else:
            bad = bytearray(b"hello" if damage == "not a zip" else b"")
        archive.write_bytes(bad)
        with pytest.raises(DatasetError, match="damaged or not a zip"):
            prepare(card_for(archive), archive, tmp_path / "out")
    archive.unlink()
    with pytest.raises(DatasetError, match="does not exist"):
        prepare(read_cards()["m3fd"], archive, tmp_path / "out")


def test_a_compression_python_lacks(tmp_path: Path, archive: Path) -> None:
    raw = bytearray(archive.read_bytes())
    raw[8] = raw[raw.index(b"PK\x01\x02") + 10] = 9  # Deflate64
    archive.write_bytes(raw)
    with pytest.raises(DatasetError, match=r"compression is not supported(.|\n)*7z"):
        prepare(card_for(archive), archive, tmp_path / "out")


def test_a_place_that_cannot_be_made(tmp_path: Path, archive: Path) -> None:
    with pytest.raises(DatasetError, match=r"cannot be created(.|\n)*--out"):
        prepare(card_for(archive), archive, tmp_path / "a.zip" / "out")


def test_contents_that_are_no_dataset(tmp_path: Path, archive: Path) -> None:
    (tmp_path / "source" / "Vis" / "00001.png").write_bytes(b"broken")
    zip_folder(tmp_path / "source", archive, prefix="M3FD_Detection/")
    with pytest.raises(DatasetError, match=r"Unpacked, but not usable") as caught:
        prepare(card_for(archive), archive, tmp_path / "out")
    assert [str(p.file) for p in caught.value.problems] == ["M3FD_Detection/Vis/00001.png"]
    with zipfile.ZipFile(archive, "w") as content:
        content.writestr("readme.txt", "nothing here")
    with pytest.raises(DatasetError, match="no infrared and visible folder") as caught:
        prepare(card_for(archive), archive, tmp_path / "out")
    assert ".partial" not in str(caught.value)
    zipfile.ZipFile(archive, "w").close()
    with pytest.raises(DatasetError, match="holds no files"):
        prepare(card_for(archive), archive, tmp_path / "out")
    assert leftovers(tmp_path) == []


def test_a_part_of_the_dataset_is_not_the_dataset(tmp_path: Path, archive: Path) -> None:
    with pytest.raises(DatasetError, match="holds 4 pairs, m3fd has 4200"):
        prepare(card_for(archive, pairs=4200), archive, tmp_path / "out")
    assert leftovers(tmp_path) == []
