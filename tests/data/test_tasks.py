"""Pairs of other tasks: found by their folders' names, called by their own, and never mistaken for another task's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fusion_det.data import open_dataset, open_folders
from fusion_det.data.layout import find_layout
from fusion_det.errors import ConfigError, DatasetError
from fusion_det.tasks import TASKS, find_task, split_task


def write(file: Path, size: tuple[int, int] = (8, 6), mode: str = "L") -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, 90).save(file)


def dataset(root: Path, first: str, second: str) -> Path:
    write(root / first / "1.png")
    write(root / second / "1.jpg", mode="RGB")
    return root


@pytest.mark.parametrize("task", TASKS.values(), ids=lambda task: task.name)
def test_every_name_of_a_source_is_found_and_the_first_source_comes_first(task, tmp_path: Path) -> None:
    for i, first in enumerate(task.folders[0]):
        for j, second in enumerate(task.folders[1]):
            root = dataset(tmp_path / f"{i}{j}", first.upper(), second.capitalize())
            found = open_dataset(root, task=task.name)
            (record,) = found.records
            assert (record.ir.parent.name, record.vi.parent.name) == (first.upper(), second.capitalize())
            assert found.task == record.task == task.name
            assert found.classes == ()


def test_names_of_tasks_are_told_apart() -> None:
    for i in range(2):
        own = [set(task.folders[i]) - set(TASKS["multi-focus"].folders[i][1:]) for task in TASKS.values()]
        assert sum(map(len, own)) == len(set().union(*own))
    for task in TASKS.values():
        assert not set(task.folders[0]) & set(task.folders[1])


def test_the_error_says_which_task_the_folders_are_of(tmp_path: Path) -> None:
    root = dataset(tmp_path / "atlas", "MRI", "PET")
    with pytest.raises(DatasetError, match=r"no infrared and visible folder .*\n.*--task medical\."):
        open_dataset(root)
    with pytest.raises(DatasetError, match=r"no near-focused and far-focused folder .*\n.*--first DIR --second DIR"):
        open_dataset(root, task="multi-focus")
    with pytest.raises(DatasetError, match=r"Name the folder that holds over/ and under/"):
        find_layout(tmp_path / "none", TASKS["multi-exposure"])


def test_several_folders_for_one_source_are_no_obstacle_to_the_hint_at_another_task(tmp_path: Path) -> None:
    root = dataset(tmp_path / "atlas", "MRI", "PET")
    write(root / "SPECT" / "1.png", mode="RGB")
    with pytest.raises(DatasetError, match=r"no infrared and visible folder .*\n.*--task medical\."):
        open_dataset(root)
    with pytest.raises(DatasetError, match="several folders for the same thing") as caught:
        open_dataset(root, task="medical")
    assert "or name the two folders: --first DIR --second DIR" in str(caught.value)
    assert len(open_folders(root / "MRI", root / "SPECT", task="medical")) == 1


@pytest.mark.parametrize(
    ("task", "place", "folder", "title"),
    [
        ("ivif", 0, "Ir", "Infrared"),
        ("medical", 0, "mri", "MRI"),
        ("medical", 1, "pet", "PET"),
        ("medical", 1, "SPECT", "SPECT"),
        ("medical", 1, "second", "PET, SPECT or CT"),
        ("multi-focus", 1, "far", "Far-focused"),
    ],
)
def test_titles_of_pictures(task: str, place: int, folder: str, title: str) -> None:
    assert TASKS[task].called(place, folder) == title


def test_several_datasets_below_one_folder(tmp_path: Path) -> None:
    dataset(tmp_path / "a", "mri", "pet")
    dataset(tmp_path / "b", "mri", "ct")
    with pytest.raises(DatasetError, match="several datasets") as caught:
        open_dataset(tmp_path, task="medical")
    assert [problem.file.name for problem in caught.value.problems] == ["a", "b"]


def test_problems_are_told_in_the_words_of_the_task(tmp_path: Path) -> None:
    root = dataset(tmp_path, "mri", "ct")
    write(root / "mri" / "2.png")
    write(root / "ct" / "3.png")
    with pytest.raises(DatasetError, match=r"has no PET, SPECT or CT twin 2\.\*") as caught:
        open_dataset(root, task="medical")
    assert "has no MRI twin 3.*" in str(caught.value)
    (root / "mri" / "2.png").unlink()
    (root / "ct" / "3.png").unlink()
    write(root / "ct" / "1.jpg", size=(9, 6))
    with pytest.raises(DatasetError, match=r"its MRI twin 1\.png is 8×6"):
        open_dataset(root, task="medical")


def test_two_folders_of_any_names(tmp_path: Path) -> None:
    root = dataset(tmp_path, "left", "right")
    found = open_folders(root / "left", root / "right", task="multi-focus")
    assert found.task == found.records[0].task == "multi-focus"
    with pytest.raises(DatasetError, match=r"\(--second\) does not exist"):
        open_folders(root / "left", root / "none", task="multi-focus")
    with pytest.raises(DatasetError, match=r"1\.png \(--first\) is a file\.\nfusion-det quality .* take folders"):
        open_folders(root / "left" / "1.png", root / "right" / "1.jpg", task="multi-focus")


def test_boxes_are_for_infrared_and_visible_pairs_alone(tmp_path: Path) -> None:
    root = dataset(tmp_path, "near", "far")
    (root / "notes.json").write_text("{}")
    assert open_dataset(root, task="multi-focus").classes == ()


def test_the_content_of_a_pair_does_not_depend_on_its_task(tmp_path: Path) -> None:
    """What a network has learnt from is recognised whatever it was called."""
    root = dataset(tmp_path, "first", "second")
    contents = {open_dataset(root, task=task).records[0].content for task in ("medical", "multi-focus")}
    assert len(contents) == 1


def test_task_names() -> None:
    assert split_task("medical:data/mri_pet=0.5") == ("medical", "data/mri_pet=0.5")
    assert split_task("roadscene=0.7") == (None, "roadscene=0.7")
    assert split_task("C:/pairs") == (None, "C:/pairs")
    assert split_task("/data/a:b") == (None, "/data/a:b")
    with pytest.raises(ConfigError, match=r"^--data medcal:data/mri_pet: .* did you mean medical\?") as caught:
        split_task("medcal:data/mri_pet")
    assert str(caught.value).endswith("A folder of that name is ./medcal:data/mri_pet")
    assert split_task("./medcal:data/mri_pet") == (None, "./medcal:data/mri_pet")
    with pytest.raises(ConfigError, match="the tasks are ivif, medical, multi-focus, multi-exposure"):
        find_task("sharpening")


SHARED = Path(__file__).resolve().parents[3] / "shared" / "data" / "general"
KINDS = {
    "mri_ct": ("medical", 13, (False, False)),
    "mri_pet": ("medical", 30, (False, True)),
    "mri_spect": ("medical", 55, (False, True)),
    "multi_focus": ("multi-focus", 8, (True, True)),
    "multi_exposure": ("multi-exposure", 8, (False, False)),
}


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared pairs are not here")
@pytest.mark.parametrize("name", KINDS)
def test_real_pairs(name: str) -> None:
    task, count, colour = KINDS[name]
    found = open_dataset(SHARED / name, task=task)
    assert len(found) == count
    for record in found:
        for file, in_colour in zip((record.ir, record.vi), colour, strict=True):
            pixels = np.asarray(Image.open(file).convert("RGB"))
            assert bool(np.ptp(pixels, axis=2).any()) == in_colour
