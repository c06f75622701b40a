"""Finding the weights of learned methods, and making sure they are the right ones.

Order: the file named by ``--weights METHOD=FILE``; the official one, at ``$FUSION_DET_WEIGHTS/METHOD/FILE`` or
``weights/METHOD/FILE``; the one that this project trained and ships beside the method's code. An official file must have
the digest of the published one; a named file may be anybody's own training. What is published is a method's first
configuration. For the others one's own training is looked for in the same folders, as ``CONFIG.safetensors``.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

from fusion_det.errors import MethodError
from fusion_det.files import remembered_digest
from fusion_det.fusion.method import MethodCard
from fusion_det.fusion.registry import default_registry
from fusion_det.fusion.spec import NamedWeights, parse_assignments
from fusion_det.fusion.training_card import TrainingCard, read_training_card

WEIGHTS_ENV = "FUSION_DET_WEIGHTS"
SHIPPED_FILE = "shipped.safetensors"
"""In the package of a method; its card is ``shipped.json``."""

WeightsChoice = Path | NamedWeights | Literal["auto"] | None
"""A file; "official" or "shipped" for these; "auto" for the first that there is; "trained" for a file that an experiment has yet
to make; None for an untrained network."""


@dataclass(frozen=True)
class FoundWeights:
    """A file of weights and where it comes from: the authors, this package, a training within the experiment, or somebody."""

    file: Path
    source: Literal["official", "shipped", "trained", "own"]

    @cached_property
    def training(self) -> TrainingCard | None:
        """What the file says of its training; None if nothing."""
        return None if self.source == "official" else read_training_card(self.file)

    def text(self, card: MethodCard) -> str:
        """What a table says of them; ``card``: of their method."""
        trained = ""
        if self.training is not None:
            variant = self.training.config not in (None, *card.configs[:1])
            trained = f"trained {self.training.summary}" + f" (configuration {self.training.config})" * variant
        if self.source == "shipped":
            return f"shipped, not the authors': {trained or 'trained'}, by this project"
        if self.source == "trained":
            return f"{trained or 'trained'}, in this experiment"
        if self.source == "own":
            return f"{self.file}: {trained or 'it does not say what it was trained on'}"
        return str(self.file)


def weights_places(card: MethodCard, config: str | None = None) -> list[Path]:
    """Where the weights of a method's configuration are looked for, in order; none for a method that learns nothing."""
    if card.weights is None:
        return []
    roots = [Path(text).expanduser() for text in [os.environ.get(WEIGHTS_ENV, "")] if text] + [Path("weights")]
    file = card.weights.file if _is_published(card, config) else f"{config}.safetensors"
    return [root / card.name / file for root in roots]


def _is_published(card: MethodCard, config: str | None) -> bool:
    return config in (None, *card.configs[:1])


def single_files(card: MethodCard) -> list[MethodCard]:
    """The card once for each file that its weights were published as, the first one first, as if there were no other."""
    info = card.weights
    if info is None:
        return []
    others = (
        replace(info, file=part.file, git_blob=part.git_blob, sha256=part.sha256, url=part.url, beside=())
        for part in info.beside
    )
    return [replace(card, weights=single) for single in (replace(info, beside=()), *others)]


def files_of(card: MethodCard, file: Path) -> list[Path]:
    """``file``, and what lies beside it of weights published as several files. A ``.safetensors`` file is always the whole."""
    if card.weights is None or file.suffix == ".safetensors":
        return [file]
    beside = (file.with_name(part.file) for part in card.weights.beside)
    return [file, *(other for other in beside if other.is_file() and other != file)]


def _missing_beside(card: MethodCard, file: Path) -> list[Path]:
    parts = () if card.weights is None else card.weights.beside
    return [other for part in parts if part.needed and not (other := file.with_name(part.file)).is_file()]


def find_weights(card: MethodCard, choice: WeightsChoice = "auto", config: str | None = None) -> FoundWeights | None:
    """The file to load, or None when there is none to be found (or none is wanted). At most digests and cards are read."""
    if choice is None or choice == "trained" or card.weights is None:
        return None
    if isinstance(choice, Path):
        if not choice.is_file():
            return None
        return FoundWeights(choice, "official" if _is_official(card, choice) else "own")
    if choice != "shipped":
        published = _is_published(card, config)
        place = next(
            (
                place
                for place in weights_places(card, config)
                if place.is_file() and not (published and _missing_beside(card, place))
            ),
            None,
        )
        if place is not None and (choice == "auto" or published):
            return FoundWeights(place, "official" if published else "own")
    return None if choice == "official" else _shipped(card, config)


def _shipped(card: MethodCard, config: str | None) -> FoundWeights | None:
    """The weights in the package of a method, if they are of this configuration."""
    entry = default_registry().entries.get(card.name)
    folders = [] if entry is None else getattr(sys.modules.get(entry.module), "__path__", [])
    file = next((file for folder in folders if (file := Path(folder) / SHIPPED_FILE).is_file()), None)
    if file is None:
        return None
    found = FoundWeights(file, "shipped")
    of = None if found.training is None else found.training.config
    return (
        found
        if (of is None and _is_published(card, config)) or of == (config or next(iter(card.configs), None))
        else None
    )


def _is_official(card: MethodCard, file: Path) -> bool:
    info = card.weights
    return info is not None and (info.sha256, info.git_blob) != (None, None) and wrong_digest(card, file) is None


def require_weights(card: MethodCard, choice: WeightsChoice = "auto", config: str | None = None) -> FoundWeights:
    """The file to load, an official one with its digest checked.

    Raises:
        MethodError: no file; the message says where it was looked for and how to get it. Or a wrong one.
    """
    if card.weights is None:
        raise MethodError(f"{card.name} learns nothing; leave out --weights {card.name}=…")
    found = find_weights(card, choice, config)
    if found is None and isinstance(choice, Path):
        raise MethodError(f"--weights {card.name}={choice}: there is no such file")
    if found is None:
        raise MethodError(f"{card.name}: {missing_weights(card, choice, config)}; {how_to_get_weights(card, config)}")
    if found.source == "official" and not isinstance(choice, Path):
        _check_digest(card, found.file)
    return found


def missing_weights(card: MethodCard, choice: WeightsChoice = "auto", config: str | None = None) -> str:
    """Which weights are not there and where they were looked for, in words."""
    if choice is None:
        return "untrained"
    if isinstance(choice, Path):
        return f"{choice} is missing"
    if choice == "trained":
        return "trained weights are made within an experiment of fusion_det.run, and only there"
    if choice == "shipped":
        return "no shipped weights: this project has none of its own training for it"
    places = weights_places(card, config)
    for place in places if _is_published(card, config) else ():
        if place.is_file() and (missing := _missing_beside(card, place)):
            return f"missing beside {place}: {', '.join(file.name for file in missing)}"
    return "missing: " + " or ".join(map(str, places))


def how_to_get_weights(card: MethodCard, config: str | None = None) -> str:
    """What a person without the weights of a method's configuration can do, as a sentence without its end."""
    if card.weights is None:
        return "nothing is needed"
    train = f"train it (fusion-det train-fusion {card.name} …) and name the result with --weights {card.name}=FILE"
    if not _is_published(card, config):
        return f"nobody has published the configuration {config}: {train}"
    others = [part.file for part in card.weights.beside if part.needed]
    files, them = (", ".join((card.weights.file, *others)), "them" if others else "it")
    get = f"get {files} from {card.weights.origin} (licence: {card.weights.licence}) and put {them} there"
    root = "" if os.environ.get(WEIGHTS_ENV) else f", or into {card.name}/ of the folder that ${WEIGHTS_ENV} names"
    fetch = "" if card.weights.url is None else f"fetch it with fusion-det weights get {card.name}, or "
    return f"{fetch}{get}{root}, or {train}"


def _check_digest(card: MethodCard, file: Path) -> None:
    for single in single_files(card):
        info = single.weights
        if info is None:
            continue
        part = file.with_name(info.file)
        wrong = wrong_digest(single, part) if part.is_file() else None
        if wrong is not None:
            raise MethodError(
                f"{part} is not the published weights file of {card.name}: its {wrong}; get it again from {info.origin}, or "
                f"say --weights {card.name}={file} if this file is what you mean"
            )


def wrong_digest(card: MethodCard, file: Path) -> str | None:
    """In which digest a file differs from the published one; None if in none that is known."""
    info = card.weights
    if info is None:
        return None
    pairs = [("sha256", info.sha256, remembered_digest), ("git blob id", info.git_blob, git_blob_id)]
    for kind, published, digest in pairs:
        if published is not None and (found := digest(file)) != published.lower():
            return f"{kind} is {found}, not {published}"
    return None


def git_blob_id(file: Path) -> str:
    """The id git gives to a file of these bytes: SHA-1 over ``blob SIZE\\0`` and the bytes."""
    digest = hashlib.sha1(f"blob {file.stat().st_size}\0".encode(), usedforsecurity=False)
    with file.open("rb") as handle:
        while block := handle.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def parse_weights(items: Iterable[str], known: Iterable[str], only: str | None = None) -> dict[str, Path]:
    """``["ddfm=/w/a.pt", …]`` (values of ``--weights``) as method → file; see :func:`parse_assignments`.

    Raises:
        MethodError: anything that is not METHOD=FILE with a known method and a file that is there.
    """
    files = {name: Path(text).expanduser() for name, text in parse_assignments("--weights", "FILE", items, known, only)}
    for name, file in files.items():
        if not file.is_file():
            problem = "that is a folder" if file.is_dir() else f"there is no file {file}"
            raise MethodError(f"--weights {name}={file}: {problem}")
    return {name: file.resolve() for name, file in files.items()}
