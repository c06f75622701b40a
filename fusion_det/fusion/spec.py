"""The rows of a table: which names are allowed, and what a list such as ``all,s4fusion@shipped,ours=/data/ours`` stands for."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from fusion_det.errors import MethodError

if TYPE_CHECKING:
    from fusion_det.fusion.method import MethodCard
    from fusion_det.fusion.registry import Registry

RESERVED_NAMES = frozenset({"all"})
_SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_SEPARATED = re.compile(r"([^=@]*)([=@])(.*)", re.DOTALL)
_OF_EVERY_TRAINING = frozenset({"best", "last"})
"""Stems of the files that every training writes: its folder tells more."""

NamedWeights = Literal["official", "shipped", "trained"]
"""What may stand behind ``NAME@``: the authors' file, the one in this package, or weights trained within the experiment."""


@dataclass(frozen=True)
class MethodSpec:
    """A row somebody asked for: a registered method, perhaps with certain weights, or a folder of images fused elsewhere.

    name: of the row, unique among its rows and safe in file names: the method's, or "s4fusion-shipped".
    folder: absolute, for ``NAME=FOLDER``.
    method: the registered method; the row's name unless it is given.
    weights: which of them; "auto" is the official file where it lies, else the shipped one. A path is absolute.
    named: whether the user wrote this row's name, rather than ``all`` or a glob that takes it in.
    """

    name: str
    folder: Path | None = None
    method: str = ""
    weights: NamedWeights | Literal["auto"] | Path = "auto"
    named: bool = field(default=False, compare=False)

    def __post_init__(self) -> None:
        if not self.method:
            object.__setattr__(self, "method", self.name)

    def qualifier(self, source: str) -> str:
        """What is added to the method's name in print, so that nobody takes the weights for the authors'; "" for theirs.

        source: where the row's weights come from (:attr:`fusion_det.fusion.weights.FoundWeights.source`), "" without any.
        """
        if self.weights != "official" and self.name != self.method:
            return self.name.removeprefix(f"{self.method}-")
        return {"shipped": "shipped", "trained": "trained", "own": "own weights"}.get(source, "")


def is_safe_name(name: str) -> bool:
    """Whether ``name`` may name a method, and so a folder and a column: letters, digits, ``.``, ``_``, ``-``; not ``all``."""
    return _SAFE.fullmatch(name) is not None and name.casefold() not in RESERVED_NAMES and not name.endswith(".")


def expand_methods(items: str | Iterable[str] = ("all",), *, registry: Registry | None = None) -> list[MethodSpec]:
    """What the user's list of methods stands for, in its order, each row once.

    Args:
        items: any mixture of names, globs (``g*``), ``all`` (every registered method, in table order), each of them perhaps
            with ``@official``, ``@shipped`` or ``@trained`` (which leaves methods without weights as they are), ``NAME@FILE``
            for weights of one's own, and ``NAME=FOLDER``; each string may hold several, separated by commas. (A folder or file
            whose path holds a comma is given in a string of its own.)

    Raises:
        MethodError: an unknown name (with "did you mean"), a glob that matches nothing, no method at all, weights for a method
            that learns nothing, a file that is not there, or a ``NAME=FOLDER`` whose name is registered, unsafe or used for two
            folders, or whose folder is not there.
    """
    from fusion_det.fusion.registry import default_registry

    table = default_registry() if registry is None else registry
    specs: dict[str, MethodSpec] = {}
    for item in _split(items):
        for spec in _rows(item, table, specs):
            taken = {key.casefold(): other for key, other in specs.items()}.get(spec.name.casefold())
            if taken is not None and taken != spec:
                raise MethodError(
                    f"{item}: the name {spec.name!r} is given to {_told(taken)} as well; choose two names"
                )
            if taken is None or spec.named:
                specs[spec.name] = spec
    if not specs:
        raise MethodError("no fusion method was named: use --methods all, names, globs or NAME=FOLDER")
    return list(specs.values())


def with_files(specs: Iterable[MethodSpec], files: Mapping[str, Path]) -> list[MethodSpec]:
    """The rows with the files of ``--weights`` (method → file), in the rows whose weights were not chosen otherwise.

    Raises:
        MethodError: all rows of a method that is named have weights of their own.
    """
    rows = list(specs)
    for method, file in files.items():
        weights = [spec.weights for spec in rows if spec.method == method]
        if weights and "auto" not in weights:
            raise MethodError(
                f"--weights {method}={file}: every row of {method} says itself which weights it has; add {method}@{file}"
            )
    return [
        replace(spec, weights=files[spec.method]) if spec.weights == "auto" and spec.method in files else spec
        for spec in rows
    ]


def _rows(item: str, table: Registry, before: Mapping[str, MethodSpec]) -> Iterator[MethodSpec]:
    """The rows that one item stands for. before: those of the items in front of it."""
    separated = _SEPARATED.fullmatch(item)
    if separated is None:
        pattern, weights = item, ""
    else:
        pattern, separator, weights = (part.strip() for part in separated.groups())
        if separator == "=":
            yield _external(item, pattern, weights, [card.name for card in table.cards()])
            return
        if not weights:
            raise MethodError(f"{item}: write {pattern}@{'|'.join(get_args(NamedWeights))}, or {pattern}@FILE")
    cards = _matching(pattern, table)
    named = pattern == cards[0].name
    for card in cards:
        if not weights or (card.weights is None and not named):
            yield MethodSpec(card.name, named=named)
        elif card.weights is None:
            raise MethodError(f"{item}: {card.name} learns nothing, so there are no weights to choose")
        elif weights in get_args(NamedWeights):
            yield MethodSpec(f"{card.name}-{weights}", method=card.name, weights=weights, named=named)  # type: ignore[arg-type]
        elif not named:
            raise MethodError(f"{item}: a file holds the weights of one method; name it")
        else:
            yield _own(item, card, Path(weights).expanduser(), before)


def _matching(pattern: str, table: Registry) -> list[MethodCard]:
    """Cards of a name, a glob or ``all``; at least one."""
    from fusion_det.fusion.registry import unknown_method

    cards = table.cards()
    found = [card for card in cards if pattern == "all" or fnmatch.fnmatchcase(card.name, pattern)]
    if not found and any(c in pattern for c in "*?["):
        known = ", ".join(card.name for card in cards)
        raise MethodError(f"no fusion method matches {pattern!r}; known methods: {known}")
    if not found:
        raise unknown_method(pattern, table)
    return found


def _own(item: str, card: MethodCard, file: Path, before: Mapping[str, MethodSpec]) -> MethodSpec:
    """A row with weights of one's own, named after the file, and after its folders as far as that takes to tell it apart."""
    if not file.is_file():
        choices = ", ".join(get_args(NamedWeights))
        raise MethodError(f"{item}: there is no file {file}; behind the @ goes {choices}, or a file of weights")
    file = file.resolve()
    words = [file.stem]
    for folder in file.parents:
        name = re.sub(r"[^A-Za-z0-9._-]+", "_", "-".join((card.name, *words))).rstrip(".")
        same = before.get(name)
        if (
            is_safe_name(name)
            and words[0] not in _OF_EVERY_TRAINING
            and same in (None, MethodSpec(name, None, card.name, file))
        ):
            return MethodSpec(name, method=card.name, weights=file, named=True)
        words.insert(0, folder.name)
    raise MethodError(f"{item}: no row can be named after this file beside the others; give it another name")


def _told(spec: MethodSpec) -> str:
    return str(
        spec.folder or (spec.weights if isinstance(spec.weights, Path) else f"{spec.method} ({spec.weights} weights)")
    )


def _split(items: str | Iterable[str]) -> list[str]:
    parts: list[str] = []
    for item in [items] if isinstance(items, str) else items:
        separated = _SEPARATED.fullmatch(item)
        path = separated[3] if separated is not None else ""
        whole = "," in path and Path(path).expanduser().exists()
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


def _external(item: str, name: str, text: str, registered: list[str]) -> MethodSpec:
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
    return MethodSpec(name, folder.resolve(), named=True)
