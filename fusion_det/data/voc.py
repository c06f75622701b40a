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

_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_PARTS = ("name", "bndbox")


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
    # One walk over the children: find() walks anew for every tag, and M3FD has 34407 objects.
    texts = {child.tag: child.text or "" for part in element for child in (part, *part) if part.tag in _PARTS}
    name = texts.get("name", "").strip()
    if not name:
        problems.append(Problem(path, f"{where}: has no <name>"))
    corners = [_integer(texts.get(key)) for key in _CORNERS]
    for key, value in zip(_CORNERS, corners, strict=True):
        if value is None:
            shown = f"{texts[key].strip()!r}, not a whole number" if key in texts else "missing"
            problems.append(Problem(path, f"{where}: <{key}> is {shown}"))
    x_min, y_min, x_max, y_max = corners
    if not name or x_min is None or y_min is None or x_max is None or y_max is None:
        return None
    return RawBox(name, x_min - 1, y_min - 1, x_max, y_max, where)


def _integer(text: str | None) -> int | None:
    """A whole number, also when written 12.0; None for anything else."""
    try:
        if text is not None and text.isdecimal():  # nearly always; and never through a float
            return int(text)
        value = float(text or "")
        return int(value) if value == int(value) else None
    except (ValueError, OverflowError):
        return None


def _size(root: Element, key: str) -> int | None:
    """Width or height the file declares; missing, unreadable or 0 (some tools write that) means it does not say."""
    return _integer(root.findtext(f"size/{key}")) or None
