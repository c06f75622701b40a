"""A stage: a pure function of what identifies it, into one folder of the store."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from fusion_det.files import digest_json
from fusion_det.progress import Progress


@dataclass(frozen=True)
class Slot:
    """A place where one heavy stage runs at a time: a GPU, or a share of the CPU's cores."""

    device: str
    threads: int


@dataclass(frozen=True)
class StageContext:
    """What a running stage gets.

    work: its folder, kept from try to try until the stage is complete. inputs: role → finished folder of an input stage.
    cancelled: set when the run is being stopped; long stages look at it.
    """

    work: Path
    inputs: Mapping[str, Path]
    slot: Slot
    progress: Progress
    cancelled: threading.Event


@dataclass(frozen=True)
class Estimate:
    """A rough guess for ``--dry-run``: seconds on this machine, bytes on disk."""

    seconds: float = 0.0
    bytes: int = 0


@dataclass(frozen=True)
class Stage:
    """One node of the plan.

    kind, label: "train", "gff seed 0". identity: JSON-able facts that decide the result (parameters, digests of data and
    code, versions of libraries); inputs: role → stage whose result it reads. run: does the work in ``context.work`` and
    returns facts for the manifest. heavy: needs a slot of its own (fusing, training, detecting).
    """

    kind: str
    label: str
    identity: Mapping[str, Any]
    inputs: Mapping[str, Stage]
    run: Callable[[StageContext], dict[str, Any]]
    heavy: bool = False
    estimate: Estimate = field(default_factory=Estimate)

    @cached_property
    def digest(self) -> str:
        """sha256 of label, identity and the inputs' digests: equal digests, equal results."""
        return digest_json(
            {
                "kind": self.kind,
                "label": self.label,
                "identity": self.identity,
                "inputs": {role: stage.digest for role, stage in self.inputs.items()},
            }
        )

    @property
    def slug(self) -> str:
        return "".join(c if c.isalnum() or c in "._-" else "-" for c in self.label)

    @property
    def key(self) -> str:
        """Folder name in the store, below ``kind``."""
        return f"{self.slug}-{self.digest[:16]}"


StageState = Literal["done", "cached", "failed", "skipped"]


@dataclass(frozen=True)
class Outcome:
    """How a stage ended. folder: its result. reason: why it failed or was skipped, in words for a table."""

    state: StageState
    folder: Path | None = None
    seconds: float = 0.0
    reason: str = ""
