"""Pascal-VOC XML, as M3FD's ``Annotation/NNNNN.xml``.

Corners in VOC are 1-based and inclusive: ``xmin = 1`` is the first column and ``xmax`` still belongs to the object. Here
they become 0-based with an exclusive end: ``x0 = xmin - 1``, ``x1 = xmax`` (Everingham et al., VOC development kit).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree.ElementTree import ParseError

import defusedxml.ElementTree
from defusedxml.common import DefusedXmlException

from fusion_det.data.annotation import Annotation, RawBox
from fusion_det.errors import Problem

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element


def read_voc(path: Path, problems: list[Problem]) -> Annotation | None:
    """Read one file. Each fault adds a problem; None if the file as a whole cannot be understood."""
    try:
        root = defusedxml.ElementTree.fromstring(path.read_bytes())
    except OSError as error:
        problems.append(Problem(path, f"cannot be read: {error.strerror or error}"))
        return None
    except DefusedXmlException:
        problems.append(Problem(path, "declares XML entities, which are refused (they can blow up the memory)"))
        return None
    except (ParseError, ValueError, LookupError) as error:  # LookupError: an encoding Python does not know
        problems.append(Problem(path, f"is not well-formed XML: {error}"))
        return None
    if root.tag != "annotation":
        problems.append(Problem(path, f"is not a Pascal-VOC file: its root is <{root.tag}>, not <annotation>"))
        return None
    boxes = [
        box
        for number, element in enumerate(root.findall("object"), start=1)
        if (box := _box(element, f"object {number}", path, problems)) is not None
    ]
    return Annotation(path, tuple(boxes), _size(root, "width"), _size(root, "height"))


def _box(element: Element, where: str, path: Path, problems: list[Problem]) -> RawBox | None:
    name = (element.findtext("name") or "").strip()
    if not name:
        problems.append(Problem(path, f"{where}: has no <name>"))
    corners: dict[str, int] = {}
    for key in ("xmin", "ymin", "xmax", "ymax"):
        text = element.findtext(f"bndbox/{key}")
        number = _integer(text)
        if number is None:
            shown = "missing" if text is None else f"{text.strip()!r}, not a whole number"
            problems.append(Problem(path, f"{where}: <{key}> is {shown}"))
        else:
            corners[key] = number
    if not name or len(corners) < 4:
        return None
    return RawBox(name, corners["xmin"] - 1, corners["ymin"] - 1, corners["xmax"], corners["ymax"], where)


def _integer(text: str | None) -> int | None:
    """A whole number, also when written 12.0; None for anything else."""
    try:
        value = float(text or "")
        return int(value) if value == int(value) else None
    except (ValueError, OverflowError):
        return None


def _size(root: Element, key: str) -> int | None:
    """Width or height the file declares; missing, unreadable or 0 (some tools write that) means it does not say."""
    return _integer(root.findtext(f"size/{key}")) or None
