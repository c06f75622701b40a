"""Finding the weights of learned methods, and making sure they are the right ones.

Order: the file named by ``--weights METHOD=FILE``; ``$FUSION_DET_WEIGHTS/METHOD/FILE``; ``weights/METHOD/FILE``. A file
that is found rather than named must have the digest of the published one; a named file may be anybody's own training.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from fusion_det.errors import MethodError
from fusion_det.files import digest_file
from fusion_det.fusion.method import MethodCard

WEIGHTS_ENV = "FUSION_DET_WEIGHTS"

WeightsChoice = Path | Literal["auto"] | None
"""A file; "auto" for the first that lies in one of the places; None for an untrained network."""


def weights_places(card: MethodCard) -> list[Path]:
    """Where the published weights of a method are looked for, in order; none for a method that learns nothing."""
    if card.weights is None:
        return []
    roots = [Path(text).expanduser() for text in [os.environ.get(WEIGHTS_ENV, "")] if text] + [Path("weights")]
    return [root / card.name / card.weights.file for root in roots]


def find_weights(card: MethodCard, choice: WeightsChoice = "auto") -> Path | None:
    """The file to load, or None when there is none to be found (or none is wanted). Nothing is read."""
    if choice is None or card.weights is None:
        return None
    if choice != "auto":
        return Path(choice) if Path(choice).is_file() else None
    return next((place for place in weights_places(card) if place.is_file()), None)


def require_weights(card: MethodCard, choice: WeightsChoice = "auto") -> Path:
    """The file to load, its digest checked.

    Raises:
        MethodError: no file; the message says where it was looked for and how to get it. Or a wrong one.
    """
    if card.weights is None:
        raise MethodError(f"{card.name} learns nothing; leave out --weights {card.name}=…")
    file = find_weights(card, choice)
    if file is None and choice != "auto":
        raise MethodError(f"--weights {card.name}={choice}: there is no such file")
    if file is None:
        looked = "".join(f"\n  - {place}" for place in weights_places(card))
        raise MethodError(
            f"the weights of {card.name} ({card.weights.file}) are missing; looked for{looked}\n"
            f"get them from {card.weights.origin} (licence: {card.weights.licence}) and put them there, or use "
            f"--weights {card.name}=FILE"
            + ("" if os.environ.get(WEIGHTS_ENV) else f" (${WEIGHTS_ENV} may name the folder of all weights)")
        )
    if choice == "auto":
        _check_digest(card, file)
    return file


def _check_digest(card: MethodCard, file: Path) -> None:
    info = card.weights
    if info is None:
        return
    pairs = [("sha256", info.sha256, digest_file), ("git blob id", info.git_blob, git_blob_id)]
    for kind, published, digest in pairs:
        if published is not None and digest(file) != published.lower():
            raise MethodError(
                f"{file} is not the published weights file of {card.name}: its {kind} is {digest(file)}, not {published}; "
                f"get it again from {info.origin}, or say --weights {card.name}={file} if this file is what you mean"
            )


def git_blob_id(file: Path) -> str:
    """The id git gives to a file of these bytes: SHA-1 over ``blob SIZE\\0`` and the bytes."""
    digest = hashlib.sha1(f"blob {file.stat().st_size}\0".encode(), usedforsecurity=False)
    with file.open("rb") as handle:
        while block := handle.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def parse_weights(items: Iterable[str], known: Iterable[str]) -> dict[str, Path]:
    """``["ddfm=/w/a.pt", …]`` (values of ``--weights``) as method → file. MethodError for anything else."""
    names, parsed = set(known), dict[str, Path]()
    for item in items:
        name, equals, text = item.partition("=")
        file = Path(text).expanduser()
        if not equals or not text:
            raise MethodError(f"--weights {item}: write METHOD=FILE")
        if name not in names:
            raise MethodError(f"--weights {item}: {name!r} is none of the methods ({', '.join(sorted(names))})")
        if not file.is_file():
            raise MethodError(f"--weights {item}: there is no file {file}")
        if name in parsed:
            raise MethodError(f"--weights names {name} twice: {parsed[name]} and {file}")
        parsed[name] = file.resolve()
    return parsed
