"""What a checkpoint says of its own training: on which pairs, for how long. Read without torch.

``fusion-det train-fusion`` puts this card into the header of the ``.safetensors`` file and again beside it, as ``.json``
(:func:`fusion_det.fusion.training.records.write_checkpoint`).
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fusion_det.files import remembered_digest

_LONGEST_HEADER = 100_000_000
"""Bytes; what the safetensors format allows."""


@dataclass(frozen=True)
class LearntPairs:
    """What was used of one dataset. train: stems learnt from; validation: stems that the best weights were chosen by."""

    name: str
    family: str
    content_digest: str
    synthetic: bool
    train: frozenset[str]
    validation: frozenset[str]


@dataclass(frozen=True)
class TrainingCard:
    """A training, as far as a table tells of it.

    families: datasets whose images were learnt from. synthetic: demo pictures were among them. steps: of the optimiser.
    """

    method: str
    config: str | None
    families: tuple[str, ...]
    synthetic: bool
    steps: int
    data: tuple[LearntPairs, ...]

    @property
    def summary(self) -> str:
        """ "12000 steps on roadscene", "60 steps on demo scenes"."""
        where = "demo scenes" if self.synthetic else ", ".join(self.families) or "unnamed pairs"
        return f"{self.steps} step{'s' * (self.steps != 1)} on {where}"


def read_training_card(file: Path) -> TrainingCard | None:
    """The card of a checkpoint: of its header, else of the ``.json`` beside it that names the file's digest; None without one."""
    tree = _in_header(file) if file.suffix == ".safetensors" else None
    if tree is None:
        tree = _beside(file)
    try:
        return None if tree is None else _card(tree)
    except (KeyError, TypeError, ValueError, AttributeError):
        return None  # JSON of another kind: it says nothing of a training


def _card(tree: dict[str, Any]) -> TrainingCard:
    return TrainingCard(
        method=str(tree["method"]),
        config=None if tree.get("config") is None else str(tree["config"]),
        families=tuple(map(str, tree["trained_on"])),
        synthetic=bool(tree.get("synthetic", False)),
        steps=int(tree["step"]),
        data=tuple(
            LearntPairs(
                name=str(origin["name"]),
                family=str(origin["family"]),
                content_digest=str(origin["content_digest"]),
                synthetic=bool(origin["synthetic"]),
                train=frozenset(map(str, origin["train"])),
                validation=frozenset(map(str, origin["validation"])),
            )
            for origin in tree["data"]
        ),
    )


def _in_header(file: Path) -> dict[str, Any] | None:
    """``card`` among the strings in a .safetensors file (8 bytes of length, then JSON); None if there is none to be read."""
    try:
        with file.open("rb") as handle:
            (length,) = struct.unpack("<Q", handle.read(8))
            if length > _LONGEST_HEADER:
                return None
            header = json.loads(handle.read(length))
        tree = json.loads(header["__metadata__"]["card"])
    except (OSError, struct.error, ValueError, KeyError, TypeError):
        return None
    return tree if isinstance(tree, dict) else None


def _beside(file: Path) -> dict[str, Any] | None:
    try:
        tree = json.loads(file.with_suffix(".json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    whole = isinstance(tree, dict) and tree.get("sha256") == remembered_digest(file)
    return tree if whole else None
