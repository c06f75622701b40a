"""The YOLO tree: read back by hand, by ultralytics, and after the tree was moved."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pairs_on_disk import write_image, write_m3fd

from fusion_det.data import Boxes, PairDataset, PairRecord, Split, export_yolo, make_split, open_dataset
from fusion_det.data.yolo_export import label_text
from fusion_det.errors import DatasetError

Exported = tuple[PairDataset, Split, Path]


@pytest.fixture
def fused(tmp_path: Path) -> Exported:
    objects = lambda i: [] if i == 3 else [("Truck", 1, 1, 40, 30), ("People", 3, 4, 3 + i, 9)]  # noqa: E731
    dataset = open_dataset(write_m3fd(tmp_path / "d", 10, objects=objects))
    for i in range(10):
        write_image(tmp_path / "fused" / f"{i:05d}.png", seed=i)
    return dataset, make_split(dataset), tmp_path / "fused"


def test_tree(fused: Exported, tmp_path: Path) -> None:
    dataset, split, images = fused
    data = export_yolo(dataset, split, images, tmp_path / "out")
    assert data == tmp_path / "out" / "data.yaml"
    content = yaml.safe_load(data.read_text())
    assert content["names"] == {0: "People", 1: "Car", 2: "Bus", 3: "Motorcycle", 4: "Lamp", 5: "Truck"}
    assert "path" not in content
    for part, stems in split.ids.items():
        folder = tmp_path / "out" / content[part]
        assert sorted(file.stem for file in folder.iterdir()) == list(stems)
        labels = tmp_path / "out" / "labels" / part
        assert sorted(file.stem for file in labels.iterdir()) == list(stems)
        for file in folder.iterdir():
            assert file.samefile(images / file.name)  # a link, not a copy
    part = next(part for part, stems in split.ids.items() if "00003" in stems)
    assert (tmp_path / "out" / "labels" / part / "00003.txt").read_text() == ""


@given(
    st.integers(1, 5000),
    st.integers(1, 5000),
    st.lists(st.tuples(*[st.floats(0, 1)] * 4).filter(lambda b: abs(b[0] - b[1]) > 1e-4 and abs(b[2] - b[3]) > 1e-4)),
)
def test_labels_lose_nothing_worth_a_thousandth_of_a_pixel(
    width: int, height: int, raw: list[tuple[float, float, float, float]]
) -> None:
    corners = np.array(
        [[min(a, b) * width, min(c, d) * height, max(a, b) * width, max(c, d) * height] for a, b, c, d in raw]
    )
    boxes = Boxes(corners.reshape(-1, 4), np.arange(len(raw)))
    text = label_text(PairRecord("s", Path(), Path(), width, height, boxes))
    rows = np.array([[float(v) for v in line.split()] for line in text.splitlines()]).reshape(-1, 5)
    assert ((rows[:, 1:] >= 0) & (rows[:, 1:] <= 1)).all()
    scale = np.array([width, height])
    centre, size = rows[:, 1:3] * scale, rows[:, 3:] * scale
    np.testing.assert_array_equal(rows[:, 0], boxes.labels)
    np.testing.assert_allclose(np.hstack([centre - size / 2, centre + size / 2]), boxes.xyxy, atol=1e-3)


def test_ultralytics_reads_it_also_after_a_move(
    fused: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("YOLO_CONFIG_DIR", str(tmp_path / "config"))
    ultralytics = pytest.importorskip("ultralytics.data.utils")
    dataset, split, images = fused
    export_yolo(dataset, split, images, tmp_path / "out")
    (tmp_path / "moved").mkdir()
    (tmp_path / "out").rename(tmp_path / "moved" / "here")
    monkeypatch.chdir(tmp_path / "config")
    found = ultralytics.check_det_dataset(str(tmp_path / "moved" / "here" / "data.yaml"), autodownload=False)
    assert Path(found["train"]) == tmp_path / "moved" / "here" / "images" / "train"
    assert list(found["names"].values()) == list(dataset.classes)
    record = next(r for r in dataset.select(split.ids["train"]) if r.boxes is not None and len(r.boxes))
    image = tmp_path / "moved" / "here" / "images" / "train" / f"{record.stem}.png"
    label = ultralytics.img2label_paths([str(image)])[0]
    result = ultralytics.verify_image_label((str(image), label, "", False, 6, 0, 0, False))
    rows, shape = result[1], result[2]
    assert shape == (30, 40) and record.boxes is not None
    np.testing.assert_array_equal(rows[:, 0], record.boxes.labels)
    centre, size = rows[:, 1:3] * [40, 30], rows[:, 3:] * [40, 30]
    np.testing.assert_allclose(np.hstack([centre - size / 2, centre + size / 2]), record.boxes.xyxy, atol=1e-4)


def test_an_earlier_export_is_replaced_but_nothing_else(fused: Exported, tmp_path: Path) -> None:
    dataset, split, images = fused
    export_yolo(dataset, split, images, tmp_path / "out")
    (tmp_path / "out" / "labels" / "train.cache").write_bytes(b"stale")
    export_yolo(dataset, make_split(dataset, seed=1), images, tmp_path / "out")
    assert not (tmp_path / "out" / "labels" / "train.cache").exists()
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.tex").write_text("years of work")
    with pytest.raises(DatasetError, match="is not an export"):
        export_yolo(dataset, split, images, tmp_path / "thesis")
    assert (tmp_path / "thesis" / "chapter1.tex").exists()


def test_missing_wrong_and_broken_images_are_all_named(fused: Exported, tmp_path: Path) -> None:
    dataset, split, images = fused
    (images / "00000.png").unlink()
    write_image(images / "00001.png", (39, 30))
    (images / "00002.png").write_bytes(b"x")
    with pytest.raises(DatasetError) as caught:
        export_yolo(dataset, split, images, tmp_path / "out")
    assert {problem.file.name for problem in caught.value.problems} == {"00000.png", "00001.png", "00002.png"}
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".out*"))


def test_copies_where_links_are_impossible(fused: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    dataset, split, images = fused
    export_yolo(dataset, split, images, tmp_path / "out")
    stem = split.ids["test"][0]
    assert (tmp_path / "out/images/test" / f"{stem}.png").read_bytes() == (images / f"{stem}.png").read_bytes()
