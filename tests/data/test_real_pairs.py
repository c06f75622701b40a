"""The developers' real pairs (skipped elsewhere): their READMEs' counts, and M3FD's known leakage."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from fusion_det.data import (
    M3FD_CLASSES,
    PairDataset,
    Split,
    leakage,
    load_pair,
    make_split,
    open_annotations,
    open_dataset,
    open_folders,
)
from fusion_det.data.m3fd import capture_runs, run_of

PAIRS = [
    ("roadscene", 154, 74, {"person": 172, "bike": 21, "car": 327}, {"day": 42, "night": 32}),
    ("flir60", 60, 60, {"person": 171, "bike": 39, "car": 304}, {"day": 30, "night": 30}),
    ("llvip12", 12, 12, {"person": 26}, {}),
    ("flir_extra3", 3, 3, {"person": 4, "bike": 0, "car": 12}, {"day": 2, "night": 1}),
    (
        "m3fd_sample",
        5,
        5,
        {"People": 31, "Car": 26, "Bus": 0, "Motorcycle": 0, "Lamp": 9, "Truck": 0},
        {"overcast": 4, "night": 1},
    ),
]


@pytest.fixture(scope="module")
def m3fd(shared_data: Path) -> PairDataset:
    return open_annotations(shared_data / "m3fd_annotations")


@pytest.mark.parametrize(("name", "pairs", "labelled", "boxes", "conditions"), PAIRS)
def test_counts(
    shared_data: Path, name: str, pairs: int, labelled: int, boxes: dict[str, int], conditions: dict[str, int]
) -> None:
    dataset = open_dataset(shared_data / name)
    assert (dataset.name, len(dataset), len(dataset.labelled())) == (name, pairs, labelled)
    assert dataset.class_counts() == boxes
    found = {c: sum(r.condition == c for r in dataset) for c in conditions}
    assert found == conditions
    pair = load_pair(dataset.records[-1])
    assert pair.vi.shape == (3, dataset.records[-1].height, dataset.records[-1].width)


def test_flir60_official_split(shared_data: Path) -> None:
    dataset = open_dataset(shared_data / "flir60")
    split = make_split(dataset, "official")
    assert split.counts() == {"train": 35, "val": 5, "test": 20}
    assert dataset.class_counts(split.ids["test"]) == {"person": 69, "bike": 6, "car": 75}


def test_general_pairs(shared_data: Path) -> None:
    general = shared_data / "general"
    counts = [
        len(open_folders(general / folder / ir, general / folder / vi))
        for folder, ir, vi in [
            ("mri_ct", "mri", "ct"),
            ("mri_pet", "mri", "pet"),
            ("mri_spect", "mri", "spect"),
            ("multi_focus", "near", "far"),
            ("multi_exposure", "over", "under"),
        ]
    ]
    assert counts == [13, 30, 55, 8, 8]


def test_m3fd_sample_xml_agrees_with_its_coco_conversion(shared_data: Path) -> None:
    root = shared_data / "m3fd_sample"
    voc, coco = open_dataset(root), open_dataset(root, reader="coco", annotations=root / "annotations.json")
    assert voc.classes == coco.classes == M3FD_CLASSES
    for a, b in zip(voc, coco, strict=True):
        assert a.boxes is not None and b.boxes is not None
        np.testing.assert_array_equal(a.boxes.xyxy, b.boxes.xyxy)
        np.testing.assert_array_equal(a.boxes.labels, b.boxes.labels)


def test_m3fd_annotations(m3fd: PairDataset, shared_data: Path) -> None:
    assert m3fd.name == "m3fd" and len(m3fd) == 4200
    assert sum(m3fd.class_counts().values()) == 34407 and m3fd.class_counts()["Lamp"] == 2405
    scenes = {1: "day", 2: "night", 3: "overcast", 4: "challenge", 0: None}
    for part in ("train", "val", "test"):
        content = json.loads((shared_data / "m3fd_annotations" / f"m3fd-{part}.json").read_text())
        assert {i["id"]: scenes[i["scene"]] for i in content["images"]} == {
            r.stem: r.condition for r in m3fd.select([i["id"] for i in content["images"]])
        }


def test_m3fd_runs_are_the_scenario_file(shared_data: Path) -> None:
    scenario = json.loads((shared_data / "m3fd_annotations" / "scenario.json").read_text())
    ranges = [(r["min"], r["max"]) for c in scenario for s in c["scene"] for r in s["range"]]
    for low, high in ranges:  # no range is parted
        assert len({run_of(f"{i:05d}") for i in range(low, high + 1)}) == 1
    covered = {i for low, high in ranges for i in range(low, high + 1)}
    assert covered == {i for i in range(4200) if run_of(f"{i:05d}") is not None} and len(covered) == 4089
    assert len(capture_runs()) == 99


def test_m3fd_known_leakage_of_random_splits(m3fd: PairDataset) -> None:
    found = [leakage(m3fd, make_split(m3fd, "random-712", seed)) for seed in range(20)]
    neighbour, run = (float(np.mean([f[key] for f in found])) for key in ("neighbour", "run"))
    assert neighbour == pytest.approx(0.91, abs=0.01) and run == pytest.approx(0.97, abs=0.01)


def test_m3fd_scene_split(m3fd: PairDataset) -> None:
    split = make_split(m3fd, "scene-712", 0)
    assert split.digest.startswith("979e28c7")  # for ever
    assert leakage(m3fd, split)["run"] == 0 and leakage(m3fd, split)["neighbour"] < 0.05
    for part, share in (("train", 0.7), ("val", 0.1), ("test", 0.2)):
        assert len(split.ids[part]) / 4200 == pytest.approx(share, abs=0.02)
        assert all(m3fd.class_counts(split.ids[part]).values())


def test_m3fd_published_text_split(m3fd: PairDataset, shared_data: Path) -> None:
    split = Split.load(shared_data / "m3fd_annotations", m3fd)
    assert split.counts() == {"train": 2727, "val": 633, "test": 840}
    assert split.digest == make_split(m3fd, "official").digest
