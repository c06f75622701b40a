"""The tasks of image fusion, as data: what the two sources of a pair are, and which of them gives the colour.

The rest of this project speaks of infrared (``ir``) and visible (``vi``) images, its first task. In every other task the first
source stands in the place of ``ir`` and the second in that of ``vi``: methods and losses see two images and no names.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from fusion_det.errors import ConfigError

IVIF = "ivif"


@dataclass(frozen=True)
class Task:
    """What pairs of a task are.

    sources: what the two images are called, in the place of ``ir`` and of ``vi``.
    folders: names of their folders in a dataset, the usual one first, in lower case; any case is accepted.
    joint_chroma: both images give the colour of the fused one. Otherwise the second does, whatever the first one's colour.
    """

    name: str
    title: str
    sources: tuple[str, str]
    folders: tuple[tuple[str, ...], tuple[str, ...]]
    joint_chroma: bool = False

    @property
    def options(self) -> tuple[str, str]:
        """What the two sources are called on the command line."""
        return ("--ir", "--vi") if self.name == IVIF else ("--first", "--second")

    def called(self, place: int, folder: str) -> str:
        """What the images of a folder are called under a picture: of "PET, SPECT or CT" the one that the folder is named after.

        place: 0 for the first source, 1 for the second.
        """
        title = self.sources[place]
        named = (name for name in re.split(", | or ", title) if name.lower() == folder.lower() != title)
        return next(named, title[0].upper() + title[1:])


_FIRST = ("first", "source_1", "source1")
_SECOND = ("second", "source_2", "source2")

TASKS: Mapping[str, Task] = MappingProxyType(
    {
        task.name: task
        for task in (
            Task(
                IVIF,
                "infrared and visible",
                ("infrared", "visible"),
                (("ir", "infrared", "thermal", "lwir"), ("vi", "vis", "visible", "rgb")),
            ),
            Task(
                "medical",
                "MRI with PET, SPECT or CT",
                ("MRI", "PET, SPECT or CT"),
                (("mri", "mr", *_FIRST), ("pet", "spect", "ct", *_SECOND)),
            ),
            Task(
                "multi-focus",
                "multi-focus",
                ("near-focused", "far-focused"),
                (("near", *_FIRST), ("far", *_SECOND)),
                joint_chroma=True,
            ),
            Task(
                "multi-exposure",
                "multi-exposure",
                ("over-exposed", "under-exposed"),
                (("over", "oe", *_FIRST), ("under", "ue", *_SECOND)),
                joint_chroma=True,
            ),
        )
    }
)
"""By name, the project's own first."""


def find_task(name: str) -> Task:
    """ConfigError for a name that is none, with the nearest one."""
    if name in TASKS:
        return TASKS[name]
    raise ConfigError(f"--task {name}: {_the_tasks(name)}")


def split_task(text: str) -> tuple[str | None, str]:
    """``"medical:data/mri_pet"`` as ("medical", "data/mri_pet"); (None, text) if it begins with no word and colon.

    Raises:
        ConfigError: the word is no task.
    """
    word, colon, rest = text.partition(":")
    if not colon or not re.fullmatch(r"[A-Za-z][A-Za-z-]+", word):  # a single letter is a drive
        return None, text
    if word not in TASKS:
        known = _the_tasks(word)
        end = "" if known.endswith("?") else "."
        raise ConfigError(f"--data {text}: {word} is no task; {known}{end} A folder of that name is ./{text}")
    return word, rest


def _the_tasks(name: str) -> str:
    """All of them, and the nearest one to a name that is none."""
    near = difflib.get_close_matches(name.lower(), TASKS, n=1)
    return f"the tasks are {', '.join(TASKS)}" + (f"; did you mean {near[0]}?" if near else "")
