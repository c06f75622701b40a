"""Finding the weights of learned methods, and making sure they are the right ones.

Order: the file named by ``--weights METHOD=FILE``; ``$FUSION_DET_WEIGHTS/METHOD/FILE``; ``weights/METHOD/FILE``. A file
that is found rather than named must have the digest of the published one; a named file may be anybody's own training. What is
published is a method's first configuration. The others have nothing but one's own training, looked for in the same
folders as ``CONFIG.safetensors``.
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
from fusion_det.fusion.spec import parse_assignments

WEIGHTS_ENV = "FUSION_DET_WEIGHTS"

WeightsChoice = Path | Literal["auto"] | None
"""A file; "auto" for the first that lies in one of the places; None for an untrained network."""


def weights_places(card: MethodCard, config: str | None = None) -> list[Path]:
    """Where the weights of a method's configuration are looked for, in order; none for a method that learns nothing."""
    if card.weights is None:
        return []
    roots = [Path(text).expanduser() for text in [os.environ.get(WEIGHTS_ENV, "")] if text] + [Path("weights")]
    file = card.weights.file if _is_published(card, config) else f"{config}.safetensors"
    return [root / card.name / file for root in roots]


def _is_published(card: MethodCard, config: str | None) -> bool:
    return config in (None, *card.configs[:1])


def find_weights(card: MethodCard, choice: WeightsChoice = "auto", config: str | None = None) -> Path | None:
    """The file to load, or None when there is none to be found (or none is wanted). Nothing is read."""
    if choice is None or card.weights is None:
        return None
    if choice != "auto":
        return Path(choice) if Path(choice).is_file() else None
    return next((place for place in weights_places(card, config) if place.is_file()), None)


def require_weights(card: MethodCard, choice: WeightsChoice = "auto", config: str | None = None) -> Path:
    """The file to load, its digest checked.

    Raises:
        MethodError: no file; the message says where it was looked for and how to get it. Or a wrong one.
    """
    if card.weights is None:
        raise MethodError(f"{card.name} learns nothing; leave out --weights {card.name}=…")
    file = find_weights(card, choice, config)
    if file is None and choice != "auto":
        raise MethodError(f"--weights {card.name}={choice}: there is no such file")
    if file is None:
        looked = "".join(f"\n  - {place}" for place in weights_places(card, config))
        raise MethodError(
            f"the weights of {card.name} are missing; looked for{looked}\n{how_to_get_weights(card, config)} and put it there, "
            f"or use --weights {card.name}=FILE"
            + ("" if os.environ.get(WEIGHTS_ENV) else f" (${WEIGHTS_ENV} may name the folder of all weights)")
        )
    if choice == "auto" and _is_published(card, config):
        _check_digest(card, file)
    return file


def how_to_get_weights(card: MethodCard, config: str | None = None) -> str:
    """What a person without the weights of a method's configuration can do, as the beginning of a sentence."""
    if card.weights is None:
        return "nothing is needed"
    if not _is_published(card, config):
        return f"nobody has published the configuration {config}: train it"
    return f"get {card.weights.file} from {card.weights.origin} (licence: {card.weights.licence})"


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
