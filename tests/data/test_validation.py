"""Everything that can be wrong with a dataset is found, all at once, each with its file."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from pairs_on_disk import coco_content, voc_text, write_coco, write_image, write_m3fd

from fusion_det.data import open_dataset
from fusion_det.errors import DatasetError

BOMB = """<?xml version="1.0"?><!DOCTYPE a [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>
<annotation><object><name>&b;</name></object></annotation>"""


def problems_of(root: Path) -> list[tuple[str, str]]:
    with pytest.raises(DatasetError) as caught:
        open_dataset(root)
    for problem in caught.value.problems[:50]:
        assert str(problem) in str(caught.value)
    return [(str(problem.file.relative_to(root.absolute())), problem.message) for problem in caught.value.problems]


def annotate(text: str) -> Callable[[Path], None]:
    return lambda root: (root / "Annotation" / "00001.xml").write_text(text) and None


def box(*corners: int, name: str = "Car") -> Callable[[Path], None]:
    return annotate(voc_text([(name, *corners)]))  # type: ignore[list-item]


def remove(name: str) -> Callable[[Path], None]:
    return lambda root: (root / name).unlink()


def cut(root: Path) -> None:
    content = (root / "Ir" / "00001.png").read_bytes()
    (root / "Ir" / "00001.png").write_bytes(content[:-40])


FAULTS: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "missing visible twin": (remove("Vis/00001.png"), "Ir/00001.png", "has no visible twin"),
    "missing infrared twin": (remove("Ir/00001.png"), "Vis/00001.png", "has no infrared twin"),
    "missing annotation": (remove("Annotation/00001.xml"), "Annotation/00001.xml", "is missing"),
    "annotation without images": (
        lambda r: (r / "Annotation" / "00099.xml").write_text(voc_text([])),
        "Annotation/00099.xml",
        "has no complete pair",
    ),
    "truncated image": (cut, "Ir/00001.png", "corrupt or truncated"),
    "not an image": (lambda r: (r / "Vis" / "00001.png").write_text("hello"), "Vis/00001.png", "not a readable image"),
    "empty file": (lambda r: (r / "Vis" / "00001.png").write_bytes(b""), "Vis/00001.png", "0 bytes"),
    "sizes differ": (lambda r: write_image(r / "Vis" / "00001.png", (41, 30)), "Vis/00001.png", "is 41×30"),
    "annotation's size differs": (annotate(voc_text([], (1024, 768))), "Annotation/00001.xml", "says 1024×768"),
    "duplicate stem": (lambda r: write_image(r / "Ir" / "00001.jpg"), "Ir/00001.png", "same stem as 00001.jpg"),
    "duplicate annotation": (
        lambda r: (r / "Annotation" / "00001.XML").write_text(voc_text([])),
        "Annotation/00001.xml",
        "same stem",
    ),
    "unknown class": (box(2, 2, 9, 9, name="people"), "Annotation/00001.xml", "did you mean 'People'"),
    "box outside": (box(50, 2, 60, 9), "Annotation/00001.xml", "outside the 40×30 image"),
    "box beyond the edge": (box(2, 2, 43, 9), "Annotation/00001.xml", "3 px outside"),
    "negative box": (box(-2, 2, 20, 9), "Annotation/00001.xml", "3 px outside"),
    "empty box": (box(9, 2, 8, 9), "Annotation/00001.xml", "is empty"),
    "reversed box": (box(9, 20, 12, 9), "Annotation/00001.xml", "is empty"),
    "fractional VOC box": (
        annotate(voc_text([("Car", 2, 2, 9, 9)]).replace(">2<", ">2.5<", 1)),
        "Annotation/00001.xml",
        "not a whole number",
    ),
    "word for a number": (
        annotate(voc_text([("Car", 2, 2, 9, 9)]).replace(">2<", ">two<", 1)),
        "Annotation/00001.xml",
        "'two', not a whole number",
    ),
    "infinite number": (
        annotate(voc_text([("Car", 2, 2, 9, 9)]).replace(">2<", ">1e999<", 1)),
        "Annotation/00001.xml",
        "not a whole number",
    ),
    "no corner": (
        annotate(voc_text([("Car", 2, 2, 9, 9)]).replace("<ymax>9</ymax>", "")),
        "Annotation/00001.xml",
        "<ymax> is missing",
    ),
    "no name": (annotate(voc_text([("", 2, 2, 9, 9)])), "Annotation/00001.xml", "has no <name>"),
    "malformed XML": (annotate("<annotation><object>"), "Annotation/00001.xml", "not well-formed XML"),
    "empty XML": (annotate(" "), "Annotation/00001.xml", "not well-formed XML"),
    "another XML": (annotate("<html></html>"), "Annotation/00001.xml", "its root is <html>"),
    "entity bomb": (annotate(BOMB), "Annotation/00001.xml", "declares XML entities, which are refused"),
    "unknown encoding": (
        annotate('<?xml version="1.0" encoding="klingon"?><annotation/>'),
        "Annotation/00001.xml",
        "not well-formed XML",
    ),
    "broken scene table": (lambda r: (r / "scenes.json").write_text('{"pairs": []}'), "scenes.json", "scene table"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_found_with_its_file(tmp_path: Path, fault: str) -> None:
    root = write_m3fd(tmp_path / "d", 3)
    spoil, file, message = FAULTS[fault]
    spoil(root)
    found = problems_of(root)
    assert any(where == file and message in what for where, what in found), found


def test_all_faults_are_listed_together(tmp_path: Path) -> None:
    root = write_m3fd(tmp_path / "d", 8)
    (root / "Vis" / "00000.png").unlink()
    (root / "Ir" / "00001.png").write_bytes(b"")
    write_image(root / "Vis" / "00002.png", (10, 10))
    (root / "Annotation" / "00003.xml").write_text(
        voc_text([("Dog", 2, 2, 9, 9), ("Car", 0, 0, 90, 9), ("Car", 9, 9, 2, 2)])
    )
    (root / "Annotation" / "00004.xml").write_text("<annotation")
    (root / "Annotation" / "00005.xml").unlink()
    found = problems_of(root)
    assert {Path(file).stem for file, _ in found} == {f"{i:05d}" for i in range(6)}
    assert sum(file == "Annotation/00003.xml" for file, _ in found) == 3


def test_more_than_fifty_problems_are_counted_and_kept(tmp_path: Path) -> None:
    root = write_m3fd(tmp_path / "d", 60)
    for file in (root / "Vis").iterdir():
        file.write_bytes(b"")
    with pytest.raises(DatasetError, match="and 10 more") as caught:
        open_dataset(root)
    assert len(caught.value.problems) == 60


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable_files(tmp_path: Path) -> None:
    root = write_m3fd(tmp_path / "d", 2)
    (root / "Ir" / "00000.png").chmod(0)
    (root / "Annotation" / "00001.xml").chmod(0)
    assert {file for file, what in problems_of(root) if "Permission" in what} == {
        "Ir/00000.png",
        "Annotation/00001.xml",
    }


def test_dangling_link_is_unreadable(tmp_path: Path) -> None:
    root = write_m3fd(tmp_path / "d", 2)
    (root / "Ir" / "00001.png").unlink()
    (root / "Ir" / "00001.png").symlink_to(tmp_path / "gone.png")
    assert problems_of(root) == [("Ir/00001.png", "cannot be read: No such file or directory")]


def test_empty_and_missing_datasets(tmp_path: Path) -> None:
    for name in ("Ir", "Vis", "Annotation"):
        (tmp_path / "d" / name).mkdir(parents=True)
    assert "the dataset is empty" in problems_of(tmp_path / "d")[0][1]
    with pytest.raises(DatasetError, match="does not exist"):
        open_dataset(tmp_path / "nowhere")
    (tmp_path / "bare").mkdir()
    with pytest.raises(DatasetError, match="no infrared and visible folder side by side"):
        open_dataset(tmp_path / "bare")
    (tmp_path / "file.zip").write_bytes(b"PK")
    with pytest.raises(DatasetError, match="data prepare"):
        open_dataset(tmp_path / "file.zip")


COCO_FAULTS: dict[str, tuple[Callable[[dict[str, list[dict[str, object]]]], object], str]] = {
    "unknown image": (lambda c: c["annotations"][0].update(image_id=77), "image_id 77 is not in images"),
    "unhashable image": (lambda c: c["annotations"][0].update(image_id=[1]), "is not in images"),
    "unknown category": (lambda c: c["annotations"][0].update(category_id=1), "category_id 1 is not in categories"),
    "short box": (lambda c: c["annotations"][0].update(bbox=[1, 2, 3]), "not four numbers"),
    "text box": (lambda c: c["annotations"][0].update(bbox=["1", 2, 3, 4]), "not four numbers"),
    "NaN box": (lambda c: c["annotations"][0].update(bbox=[float("nan"), 2, 3, 4]), "not finite"),
    "no width": (lambda c: c["annotations"][0].update(bbox=[1, 2, 0, 4]), "is empty"),
    "outside": (lambda c: c["annotations"][0].update(bbox=[35, 2, 10, 4]), "5 px outside"),
    "image twice": (lambda c: c["images"].append({"id": 9, "file_name": "a.jpg"}), "has the stem of another image"),
    "id twice": (lambda c: c["images"].append({"id": 0, "file_name": "z.jpg"}), "image id 0 is there twice"),
    "image without pair": (lambda c: c["images"].append({"id": 9, "file_name": "zz.png"}), "'zz' has no complete pair"),
    "no file name": (lambda c: c["images"].append({"id": 9}), "needs an id and a file_name"),
    "category twice": (lambda c: c["categories"].append({"id": 7, "name": "x"}), "is there twice"),
    "category without name": (lambda c: c["categories"].append({"id": 8}), "needs an integer id and a name"),
    "size": (lambda c: c["images"][0].update(width=41), "says 41×30"),
    "no list": (lambda c: c.update(images={}), "no list named images"),
    "annotation is no object": (lambda c: c["annotations"].append(3), "is not an object"),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("fault", COCO_FAULTS)
def test_each_coco_fault_is_found(tmp_path: Path, fault: str) -> None:
    root = write_coco(tmp_path / "d", {"det": ["a", "b"]})
    spoil, message = COCO_FAULTS[fault]
    content = coco_content(["a", "b"])
    spoil(content)
    (root / "det.json").write_text(json.dumps(content))
    found = problems_of(root)
    assert all(file == "det.json" for file, _ in found)
    assert any(message in what for _, what in found), found


@pytest.mark.parametrize("text", ["{", "[]", "[" * 100_000, "\udce4", '{"images": [], "annotations": []}'])
def test_malformed_json(tmp_path: Path, text: str) -> None:
    root = write_coco(tmp_path / "d", {"det": ["a"]})
    (root / "det.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    assert problems_of(root)[0][0] == "det.json"


def test_json_files_that_disagree_about_classes(tmp_path: Path) -> None:
    root = write_coco(tmp_path / "d", {"train": ["a"], "test": ["b"]})
    (root / "test.json").write_text(json.dumps(coco_content(["b"], ("person", "dog"))))
    assert any("person, dog" in what for _, what in problems_of(root))
