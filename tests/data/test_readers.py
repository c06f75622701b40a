"""The readers: what they make of sound datasets, in every accepted shape."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from pairs_on_disk import coco_content, voc_text, write_coco, write_image, write_m3fd

from fusion_det.data import M3FD_CLASSES, open_annotations, open_dataset, open_folders
from fusion_det.data.m3fd import family_of
from fusion_det.errors import ConfigError, DatasetError


def test_voc_corners_become_zero_based_and_exclusive(tmp_path: Path) -> None:
    root = write_m3fd(tmp_path / "d", 3, objects=lambda _: [("Truck", 1, 1, 40, 30), ("People", 12, 7, 12, 7)])
    boxes = open_dataset(root).records[0].boxes
    assert boxes is not None
    np.testing.assert_array_equal(boxes.xyxy, [[0, 0, 40, 30], [11, 6, 12, 7]])  # the whole image; a single pixel
    np.testing.assert_array_equal(boxes.labels, [M3FD_CLASSES.index("Truck"), 0])
    assert boxes.xyxy.dtype == np.float64 and boxes.labels.dtype == np.int64


def test_m3fd_layout_facts(m3fd_root: Path) -> None:
    dataset = open_dataset(m3fd_root)
    assert dataset.name == "pairs" and dataset.classes == M3FD_CLASSES and len(dataset) == 12
    assert [record.stem for record in dataset] == [f"{i:05d}" for i in range(12)]
    assert dataset.class_counts() == {"People": 6, "Car": 12, "Bus": 0, "Motorcycle": 0, "Lamp": 0, "Truck": 0}
    assert (dataset.records[0].width, dataset.records[0].height) == (40, 30)
    assert not dataset.synthetic
    # Numbers like M3FD's do not make it M3FD: no conditions or runs are invented.
    assert all(record.condition is None and record.run is None for record in dataset)


@pytest.mark.parametrize(
    "names",
    [
        ("Ir", "Vis", "Annotation"),
        ("INFRARED", "Visible", "Annotations"),
        ("ir", "vi", "labels"),
        ("Thermal", "RGB", "Labels"),
    ],
)
def test_folder_names_in_any_case(tmp_path: Path, names: tuple[str, str, str]) -> None:
    assert len(open_dataset(write_m3fd(tmp_path / "d", 3, names=names)).labelled()) == 3


def test_nested_archive_folders_are_found(tmp_path: Path) -> None:
    write_m3fd(tmp_path / "d" / "M3FD_Detection" / "M3FD_Detection", 3)
    assert len(open_dataset(tmp_path / "d")) == 3


def test_two_datasets_side_by_side_are_ambiguous(tmp_path: Path) -> None:
    write_m3fd(tmp_path / "d" / "a", 1)
    write_m3fd(tmp_path / "d" / "b", 1)
    with pytest.raises(DatasetError, match="several datasets"):
        open_dataset(tmp_path / "d")


def test_two_folders_for_one_modality_are_ambiguous(tmp_path: Path) -> None:
    root = write_m3fd(tmp_path / "d", 1)
    shutil.copytree(root / "Ir", root / "infrared")
    with pytest.raises(DatasetError, match="several folders for the same thing"):
        open_dataset(root)


def test_stems_pair_across_formats_and_clutter_is_ignored(tmp_path: Path) -> None:
    root = write_m3fd(tmp_path / "d", 2)
    (root / "Vis" / "00000.png").unlink()
    write_image(root / "Vis" / "00000.JPG")
    for clutter in ("Thumbs.db", "._00001.png", "notes.txt"):
        (root / "Ir" / clutter).write_bytes(b"x")
    assert len(open_dataset(root)) == 2


def test_empty_annotation_is_labelled_and_size_may_be_left_out(tmp_path: Path) -> None:
    root = write_m3fd(tmp_path / "d", 3, objects=lambda _: [])
    (root / "Annotation" / "00001.xml").write_text(voc_text([("Lamp", 2, 2, 4, 4)], size=None))
    (root / "Annotation" / "00002.xml").write_text(voc_text([], size=(0, 0)))
    dataset = open_dataset(root)
    assert len(dataset.labelled()) == 3
    assert [len(record.boxes or ()) for record in dataset] == [0, 1, 0]


def test_boxes_up_to_two_pixels_outside_are_clipped(tmp_path: Path) -> None:
    root = write_m3fd(tmp_path / "d", 1, objects=lambda _: [("Car", 0, -1, 42, 32)])
    boxes = open_dataset(root).records[0].boxes
    assert boxes is not None
    np.testing.assert_array_equal(boxes.xyxy, [[0, 0, 40, 30]])


def test_whole_numbers_may_be_written_with_a_point(tmp_path: Path) -> None:
    root = write_m3fd(tmp_path / "d", 1)
    text = voc_text([("Car", 5, 6, 20, 18)]).replace("<xmin>5<", "<xmin> 5.0 <")
    (root / "Annotation" / "00000.xml").write_text(text)
    boxes = open_dataset(root).records[0].boxes
    assert boxes is not None and boxes.xyxy[0, 0] == 4


def test_scenes_file_gives_condition_run_and_synthetic(tmp_path: Path) -> None:
    dataset = open_dataset(write_m3fd(tmp_path / "d", 8, runs=4))
    assert dataset.synthetic and dataset.name == "demo"
    assert [record.run for record in dataset] == [f"r{i // 2:03d}" for i in range(8)]
    assert [record.condition for record in dataset] == ["day", "day", "night", "night"] * 2


def test_a_folder_named_m3fd_gets_its_conditions_and_runs(tmp_path: Path) -> None:
    dataset = open_dataset(write_m3fd(tmp_path / "M3FD_sample", 61))
    assert dataset.records[0].condition == "overcast" and dataset.records[0].run == "lake-00000"
    assert dataset.records[60].run == "square-00060"
    assert dataset.name == "m3fd_sample"


def test_a_part_of_m3fd_is_not_called_m3fd(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert open_dataset(write_m3fd(tmp_path / "m3fd", 3)).name == "m3fd_partial"
    assert "3 of M3FD's 4200 pairs" in caplog.text


def test_file_names_with_folders_dots_and_no_suffix(tmp_path: Path) -> None:
    root = write_coco(tmp_path / "d", {"det": ["a.1", "b"]})
    content = coco_content(["a.1", "b"])
    content["images"][0]["file_name"] = "images\\a.1"
    content["images"][1]["file_name"] = "train/b.PNG"
    (root / "det.json").write_text(json.dumps(content))
    assert [record.stem for record in open_dataset(root).labelled()] == ["a.1", "b"]


def test_crowd_regions_are_left_out(tmp_path: Path) -> None:
    root = write_coco(tmp_path / "d", {"det": ["a", "b"]})
    content = coco_content(["a", "b"])
    content["annotations"][0]["iscrowd"] = 1
    (root / "det.json").write_text(json.dumps(content))
    assert [len(record.boxes or ()) for record in open_dataset(root)] == [0, 1]


def test_coco_keeps_fractions_and_leaves_the_unmentioned_unannotated(tmp_path: Path) -> None:
    dataset = open_dataset(write_coco(tmp_path / "d", {"det": ["a", "b"]}, extra=["c"]))
    assert dataset.classes == ("person", "car")
    assert [record.boxes is None for record in dataset] == [False, False, True]
    boxes = dataset.records[0].boxes
    assert boxes is not None
    np.testing.assert_array_equal(boxes.xyxy, [[2.5, 3, 12.5, 15.25]])
    assert [record.condition for record in dataset] == ["day", "night", None]
    assert dataset.official_splits == {}


def test_coco_per_split_becomes_the_official_split(tmp_path: Path) -> None:
    dataset = open_dataset(write_coco(tmp_path / "d", {"train": ["b", "a"], "test": ["c"]}))
    assert dataset.official_splits == {"train": ("a", "b"), "test": ("c",)}


def test_coco_with_m3fd_names_in_another_order_is_mapped_by_name(tmp_path: Path) -> None:
    root = write_coco(tmp_path / "d", {"annotations": ["a"]})
    (root / "annotations.json").write_text(json.dumps(coco_content(["a"], ("Truck", "Lamp", "People"))))
    dataset = open_dataset(root)
    assert dataset.classes == M3FD_CLASSES
    assert dataset.class_counts()["Truck"] == 1  # category id 7 is Truck there


def test_category_order_is_by_id_not_by_position(tmp_path: Path) -> None:
    root = write_coco(tmp_path / "d", {"det": ["a"]})
    content = coco_content(["a"])
    content["categories"].reverse()
    (root / "det.json").write_text(json.dumps(content))
    assert open_dataset(root).classes == ("person", "car")


def test_annotations_may_lie_elsewhere(tmp_path: Path) -> None:
    root = write_coco(tmp_path / "d", {"det": ["a"]})
    elsewhere = (root / "det.json").rename(tmp_path / "boxes.json")
    assert len(open_dataset(root).labelled()) == 0
    assert len(open_dataset(root, annotations=elsewhere).labelled()) == 1


def test_several_json_files_are_ambiguous(tmp_path: Path) -> None:
    root = write_coco(tmp_path / "d", {"one": ["a"], "two": ["b"]})
    with pytest.raises(DatasetError, match=r"several candidates(.|\n)*one\.json(.|\n)*two\.json"):
        open_dataset(root)


def test_folders_of_any_name(tmp_path: Path) -> None:
    write_image(tmp_path / "mri" / "1.png", mode="L")
    write_image(tmp_path / "pet" / "1.png")
    dataset = open_folders(tmp_path / "mri", tmp_path / "pet", name="MRI & PET")
    assert dataset.name == "mri_pet" and len(dataset) == 1 and dataset.records[0].boxes is None
    with pytest.raises(DatasetError, match="same folder"):
        open_folders(tmp_path / "mri", tmp_path / "mri")
    with pytest.raises(DatasetError, match=r"--vi"):
        open_folders(tmp_path / "mri", tmp_path / "none")


def test_limit_takes_the_first_labelled_pairs(tmp_path: Path) -> None:
    root = write_coco(tmp_path / "d", {"det": ["b", "d", "e"]}, extra=["a", "c"])
    dataset = open_dataset(root, limit=2)
    assert [record.stem for record in dataset] == ["b", "d"] and dataset.limit == 2
    with pytest.raises(DatasetError, match="--limit 1"):
        open_dataset(root, limit=0)


def test_forced_and_unknown_reader(m3fd_root: Path) -> None:
    assert open_dataset(m3fd_root, reader="folder").classes == ()
    with pytest.raises(ConfigError, match="known: m3fd, demo, coco, folder"):
        open_dataset(m3fd_root, reader="voc")


def test_content_digest_follows_content_not_place_or_spelling(tmp_path: Path) -> None:
    first = open_dataset(write_m3fd(tmp_path / "a", 3))
    moved = write_m3fd(tmp_path / "b", 3, names=("infrared", "visible", "labels"))
    (moved / "labels" / "00000.xml").write_text("\n" + voc_text([("Car", 5, 6, 20, 18)]) + "\n")
    assert open_dataset(moved).content_digest == first.content_digest
    (moved / "labels" / "00000.xml").write_text(voc_text([("Car", 5, 6, 20, 19)]))
    box_moved = open_dataset(moved).content_digest
    write_image(moved / "infrared" / "00002.png", mode="L", seed=99)
    infrared_changed = open_dataset(moved).content_digest
    write_image(moved / "visible" / "00002.png", seed=98)
    visible_changed = open_dataset(moved).content_digest
    assert len({first.content_digest, box_moved, infrared_changed, visible_changed}) == 4


def test_annotations_without_images_can_be_counted(tmp_path: Path) -> None:
    root = write_coco(tmp_path / "d", {"train": ["a", "b"], "test": ["c"]})
    dataset = open_annotations(root)
    assert len(dataset) == 3 and dataset.class_counts() == {"person": 3, "car": 0}
    (root / "test.json").write_text(json.dumps(coco_content(["a"])))
    with pytest.raises(DatasetError, match=r"'a' is in test\.json as well|'a' is in train\.json as well"):
        open_annotations(root)


@pytest.mark.parametrize(
    ("name", "stems", "family"),
    [
        ("m3fd_partial", ["00003", "04199"], "m3fd"),
        ("m3fd_sample", ["00000"], "m3fd"),
        ("pairs", [f"{i:05d}" for i in range(4200)], "m3fd"),
        ("pairs", ["00000"], "pairs"),
        ("m3fd_fusion", ["00000"], "m3fd_fusion"),
        ("like_m3fd", ["FLIR_1"], "like_m3fd"),
    ],
)
def test_family(name: str, stems: list[str], family: str) -> None:
    assert family_of(name, stems) == family
