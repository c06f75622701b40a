"""The names of methods: which are allowed, and what a list such as ``all,g*,ours=/data/ours`` stands for."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fusion_det.errors import MethodError

if TYPE_CHECKING:
    from fusion_det.fusion.registry import Registry

RESERVED_NAMES = frozenset({"all"})
_SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True)
class MethodSpec:
    """A method somebody asked for: a registered one by its name, or a folder of images fused elsewhere under a name."""

    name: str
    folder: Path | None = None
    """Absolute, for ``NAME=FOLDER``."""


def is_safe_name(name: str) -> bool:
    """Whether ``name`` may name a method, and so a folder and a column: letters, digits, ``.``, ``_``, ``-``; not ``all``."""
    return _SAFE.fullmatch(name) is not None and name.casefold() not in RESERVED_NAMES and not name.endswith(".")


def expand_methods(items: str | Iterable[str] = ("all",), *, registry: Registry | None = None) -> list[MethodSpec]:
    """What the user's list of methods stands for, in its order, each method once.

    Args:
        items: any mixture of names, globs (``g*``), ``all`` (every registered method, in table order) and
            ``NAME=FOLDER``; each string may hold several, separated by commas. (A folder whose path holds a comma is
            given in a string of its own.)

    Raises:
        MethodError: an unknown name (with "did you mean"), a glob that matches nothing, no method at all, a
            ``NAME=FOLDER`` whose name is registered, unsafe or used for two folders, or whose folder is not there.
    """
    from fusion_det.fusion.registry import default_registry, unknown_method

    table = default_registry() if registry is None else registry
    names = [card.name for card in table.cards()]
    specs: dict[str, MethodSpec] = {}
    for item in _split(items):
        if "=" in item:
            spec = _external(item, names)
            taken = {key.casefold(): other for key, other in specs.items()}.get(spec.name.casefold())
            if taken is not None and taken != spec:
                raise MethodError(
                    f"{item}: the name {spec.name!r} is given to {taken.folder} as well; choose two names"
                )
            specs.setdefault(spec.name, spec)
            continue
        matches = names if item == "all" else fnmatch.filter(names, item)
        if not matches and any(c in item for c in "*?["):
            raise MethodError(f"no fusion method matches {item!r}; known methods: {', '.join(names)}")
        if not matches:
            raise unknown_method(item, table)
        for name in matches:
            specs.setdefault(name, MethodSpec(name))
    if not specs:
        raise MethodError("no fusion method was named: use --methods all, names, globs or NAME=FOLDER")
    return list(specs.values())


def _split(items: str | Iterable[str]) -> list[str]:
    parts: list[str] = []
    for item in [items] if isinstance(items, str) else items:
        _, equals, folder = item.partition("=")
        whole = equals and "," in folder and Path(folder).expanduser().is_dir()
        parts += [item] if whole else item.split(",")
    return [part.strip() for part in parts if part.strip()]


def parse_assignments(
    option: str, metavar: str, items: Iterable[str], known: Iterable[str], only: str | None = None
) -> list[tuple[str, str]]:
    """Values of an option of the form METHOD=VALUE, as pairs, each method at most once.

    Args:
        option, metavar: for messages: "--weights" and "FILE". known: the methods that may be named.
        only: the method that a bare VALUE is meant for; None if there is not exactly one that it could be.

    Raises:
        MethodError: no value, a bare one without ``only``, an unknown method, or one named twice.
    """
    names, parsed = set(known), dict[str, str]()
    for item in items:
        name, equals, value = item.partition("=")
        if only is not None and item and (not equals or not is_safe_name(name)):
            name, value = only, item
        if not value:
            raise MethodError(f"{option} {item}: write METHOD={metavar}")
        if name not in names:
            raise MethodError(f"{option} {item}: {name!r} is none of the methods ({', '.join(sorted(names))})")
        if name in parsed:
            raise MethodError(f"{option} names {name} twice: {parsed[name]} and {value}")
        parsed[name] = value
    return list(parsed.items())


def _external(item: str, registered: list[str]) -> MethodSpec:
    name, _, text = (part.strip() for part in item.partition("="))
    if not is_safe_name(name):
        raise MethodError(
            f"{item}: {name!r} cannot name a method; use 1–64 letters, digits, '.', '_' or '-', beginning with a letter "
            f"or digit, and not {', '.join(sorted(RESERVED_NAMES))}"
        )
    if name.casefold() in {known.casefold() for known in registered}:
        raise MethodError(
            f"{item}: {name!r} is a registered fusion method; choose another name for the images of {text}"
        )
    folder = Path(text).expanduser()
    if not text or not folder.is_dir():
        raise MethodError(
            f"{item}: {text or '(nothing)'} is not a folder; NAME=FOLDER takes a folder of fused images, STEM.png"
        )
    return MethodSpec(name, folder.resolve())
