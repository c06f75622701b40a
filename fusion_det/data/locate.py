"""From what a user types (a dataset id or a path) to the folder it means."""

from __future__ import annotations

import difflib
import os
import re
from pathlib import Path

from fusion_det.data.cards import cards_dir, read_cards
from fusion_det.data.layout import find_layout, has_layout, list_images
from fusion_det.data.m3fd import is_complete
from fusion_det.errors import DatasetError

DATA_VARIABLE = "FUSION_DET_DATA"


def data_folders() -> list[Path]:
    """Where dataset ids are looked up: ``datasets/`` of the repository and of the working folder, $FUSION_DET_DATA."""
    folders = [Path.cwd() / "datasets"]
    cards = cards_dir()
    if cards.name == "datasets":
        folders.insert(0, cards)
    variable = os.environ.get(DATA_VARIABLE)
    if variable:
        folders.append(Path(variable).expanduser())
    return list(dict.fromkeys(folders))


def find_dataset(dataset_id: str) -> Path | None:
    """The folder of a dataset id, None if it is in none of the places.

    $FUSION_DET_DATA may also be the dataset's own folder, if its name contains the id ("/data/M3FD_Detection") or it
    holds all of M3FD's ids.
    """
    for folder in data_folders():
        place = folder / dataset_id
        if place.is_dir() and not _is_empty(place):
            return place
    variable = os.environ.get(DATA_VARIABLE)
    if variable:
        itself = Path(variable).expanduser()
        if has_layout(itself) and _looks_like(dataset_id, itself):
            return itself
    return None


def locate(source: str | Path) -> tuple[Path, str]:
    """(folder, dataset name) of an id or a path. An id wins over a folder of that name in the working folder.

    Raises:
        DatasetError: nothing there; says where it looked and how to put a dataset in place.
    """
    text = os.fspath(source)
    if not text:
        raise DatasetError("The dataset is an empty name.", cure="Give a dataset id or a folder.")
    path = Path(text).expanduser()
    bare = isinstance(source, str) and re.fullmatch(r"[\w.-]+", text) is not None and text not in (".", "..")
    if bare:
        found = find_dataset(text)
        if found is not None:
            return found, normal_name(text)
    if path.is_dir():
        return path, normal_name(path.resolve().name) or "dataset"
    if path.exists():
        raise DatasetError(f"The dataset {path} is a file.", cure=_file_cure(path))
    if not bare:
        raise DatasetError(f"The dataset folder {path} does not exist.", cure="Check the path.")
    known = read_cards()
    near = difflib.get_close_matches(text.lower(), known, n=1)
    looked = ", ".join(str(folder / text) for folder in data_folders())
    if text in known:
        raise DatasetError(
            f"The dataset {text} is not in place (looked at {looked}).",
            cure=f"{known[text].file} says how to get it; or give its folder, or set ${DATA_VARIABLE}.",
        )
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise DatasetError(
        f"There is no dataset {text!r} (looked at {looked}).{hint}",
        cure=f"Known ids: {', '.join(known)} (fusion-det data list). Any folder with ir/ and vi/ will do as well.",
    )


def normal_name(name: str) -> str:
    """A dataset's name as it is written into results: lower case, "_" for what is neither letter nor digit."""
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


def _looks_like(dataset_id: str, folder: Path) -> bool:
    if normal_name(dataset_id) in normal_name(folder.resolve().name):
        return True
    return dataset_id == "m3fd" and is_complete(list_images(find_layout(folder).ir, []))


def _is_empty(folder: Path) -> bool:
    try:
        return not any(folder.iterdir())
    except OSError:
        return False  # it is there; what is wrong with it is for the reader to say


def _file_cure(path: Path) -> str:
    if path.suffix.lower() == ".zip":
        return f"Unpack it first: fusion-det data prepare m3fd --zip {path}"
    return "Name the folder that holds ir/ and vi/."
