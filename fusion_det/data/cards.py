"""Dataset cards: Markdown files with YAML front matter in ``datasets/``, the one source of what is known of a dataset."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fusion_det.errors import ConfigError


@dataclass(frozen=True)
class Archive:
    """A file people download. sha256: of the official file. contains: what it unpacks to, in words."""

    name: str
    sha256: str
    contains: str = ""


@dataclass(frozen=True)
class DatasetCard:
    """The front matter of a card.

    pairs, labelled: how many there should be, None if it varies. layout: the reader that fits.
    """

    id: str
    title: str
    layout: str
    classes: tuple[str, ...]
    licence: str
    origin: str
    pairs: int | None
    labelled: int | None
    archives: tuple[Archive, ...]
    file: Path


def cards_dir() -> Path:
    """``datasets/`` of the repository this package runs from, else the copy inside the installed package."""
    package = Path(__file__).resolve().parents[1]
    repository = package.parent / "datasets"
    return repository if (repository / "README.md").is_file() else package / "_datasets"


def read_cards(folder: Path | None = None) -> dict[str, DatasetCard]:
    """All cards by dataset id, sorted.

    Raises:
        ConfigError: a card that is not front matter and text; names the file and what is missing.
    """
    folder = folder or cards_dir()
    files = sorted(file for file in folder.glob("*.md") if file.name != "README.md")
    cards = [read_card(file) for file in files]
    return {card.id: card for card in cards}


def read_card(file: Path) -> DatasetCard:
    """One card; its id is the file's name without ``.md``."""
    import yaml

    head, separator, _ = file.read_text(encoding="utf-8").removeprefix("---\n").partition("\n---\n")
    try:
        front: Any = yaml.safe_load(head) if separator else None
    except yaml.YAMLError as error:
        raise ConfigError(f"{file}: the front matter is not YAML: {error}") from error
    if not isinstance(front, dict):
        raise ConfigError(f"{file}: a dataset card begins with YAML between two lines of ---")
    missing = [key for key in ("title", "layout", "classes", "licence", "origin") if key not in front]
    if missing:
        raise ConfigError(f"{file}: the front matter lacks {', '.join(missing)}")
    return DatasetCard(
        id=file.stem,
        title=str(front["title"]),
        layout=str(front["layout"]),
        classes=tuple(front["classes"]),
        licence=str(front["licence"]).strip(),
        origin=str(front["origin"]).strip(),
        pairs=front.get("pairs"),
        labelled=front.get("labelled"),
        archives=tuple(Archive(**archive) for archive in front.get("archives", [])),
        file=file,
    )
