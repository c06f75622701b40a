"""COCO ground truth: loaded by pycocotools, and read back by this project's own reader."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path

import numpy as np
import pytest
from pairs_on_disk import write_coco, write_image, write_m3fd

from fusion_det.data import census, coco_ground_truth, open_dataset
from fusion_det.errors import DatasetError


def test_contents(tmp_path: Path) -> None:
    dataset = open_dataset(write_m3fd(tmp_path / "d", 4, runs=2))
    truth = coco_ground_truth(dataset, ["00003", "00000"])
    assert [image["id"] for image in truth["images"]] == ["00003", "00000"]
    assert truth["images"][0] == {
        "id": "00003",
        "file_name": "00003.png",
        "width": 40,
        "height": 30,
        "condition": "night",
        "run": "r001",
    }
    assert [c["name"] for c in truth["categories"]] == list(dataset.classes)
    assert [c["id"] for c in truth["categories"]] == [1, 2, 3, 4, 5, 6]
    first = truth["annotations"][0]
    assert first["bbox"] == [4, 5, 16, 13] and first["area"] == 16 * 13 and first["iscrowd"] == 0
    assert [a["id"] for a in truth["annotations"]] == [1, 2, 3]  # pycocotools treats annotation id 0 as no match
    json.dumps(truth)


def test_pycocotools_loads_it(tmp_path: Path) -> None:
    coco = pytest.importorskip("pycocotools.coco")
    dataset = open_dataset(write_m3fd(tmp_path / "d", 4))
    (tmp_path / "gt.json").write_text(json.dumps(coco_ground_truth(dataset, [r.stem for r in dataset])))
    with contextlib.redirect_stdout(io.StringIO()):
        truth = coco.COCO(str(tmp_path / "gt.json"))
    counts = {truth.cats[c]["name"]: len(truth.getAnnIds(catIds=[c])) for c in truth.cats}
    assert counts == dataset.class_counts()


def test_round_trip_through_the_coco_reader(tmp_path: Path) -> None:
    dataset = open_dataset(write_m3fd(tmp_path / "d", 5, runs=3))
    for record in dataset:
        write_image(tmp_path / "e" / "ir" / f"{record.stem}.png")
        write_image(tmp_path / "e" / "vi" / f"{record.stem}.png")
    (tmp_path / "e" / "annotations.json").write_text(json.dumps(coco_ground_truth(dataset, [r.stem for r in dataset])))
    again = open_dataset(tmp_path / "e")
    assert again.classes == dataset.classes
    for before, after in zip(dataset, again, strict=True):
        assert before.boxes is not None and after.boxes is not None
        np.testing.assert_array_equal(before.boxes.xyxy, after.boxes.xyxy)
        np.testing.assert_array_equal(before.boxes.labels, after.boxes.labels)
        assert before.condition == after.condition


def test_unannotated_pairs_have_no_ground_truth(tmp_path: Path) -> None:
    dataset = open_dataset(write_coco(tmp_path / "d", {"det": ["a", "b"]}, extra=["c"]))
    with pytest.raises(DatasetError, match="no boxes for: c"):
        coco_ground_truth(dataset, ["a", "c"])


def test_census_adds_up(tmp_path: Path) -> None:
    dataset = open_dataset(
        write_m3fd(tmp_path / "d", 12, runs=4, objects=lambda i: [("Car", 1, 1, 5 + i, 9)] * (i % 3))
    )
    counts = census(dataset)
    assert counts["pairs"] == counts["labelled"] == sum(c["pairs"] for c in counts["conditions"].values()) == 12
    assert counts["empty"] == 4 and counts["runs"] == 4 and counts["sizes"] == {"40x30": 12}
    assert counts["boxes"]["Car"] == sum(c["boxes"]["Car"] for c in counts["conditions"].values()) == 12
    assert counts["box_sizes"] == {"small": 12, "medium": 0, "large": 0}
    assert list(counts["conditions"]) == ["day", "night"]
    json.dumps(counts)
