"""What ``fusion-det quality`` leaves behind: the document its report is made from, and nothing else is read for it.

``runs/experiments/<name>/quality.json`` holds a :class:`QualityResults`. Paths in it are absolute.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from fusion_det.files import write_text
from fusion_det.pipeline.results import DatasetInfo, MethodInfo, QualityRows
from fusion_det.tasks import IVIF

SCHEMA_VERSION = 1


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PublishedFigures(_Frozen):
    """Figures somebody printed, to stand beside ours."""

    name: str
    """"S4Fusion paper, Table II"."""
    columns: tuple[str, ...]
    rows: dict[str, tuple[float, ...]]
    """Method as printed → a figure for each column."""
    years: dict[str, int | None] = Field(default_factory=dict)
    notes: tuple[str, ...] = ()
    """What a reader must know before comparing."""


class QualitySet(_Frozen):
    """Every method on one set of pairs."""

    dataset: DatasetInfo
    title: str
    methods: tuple[MethodInfo, ...]
    """In table order; ``images`` is the folder of fused images."""
    quality: QualityRows
    """Of losslessly saved images: what methods are compared by."""
    sources: dict[str, tuple[Path, Path]]
    """Stem → infrared and visible file (of other tasks first and second source), for pictures."""
    published: PublishedFigures | None = None
    as_published: QualityRows | None = None
    """Of images saved as those of ``published`` were, where that differs: compared with them and with nothing else."""
    task: str = IVIF
    shown: dict[str, dict[str, Path]] = Field(default_factory=dict)
    """Stem → method → fused picture, of the pairs that are shown side by side; in colour where the sources have some."""


class QualityResults(_Frozen):
    schema_version: int = SCHEMA_VERSION
    experiment: str
    title: str
    sets: tuple[QualitySet, ...]
    missing: dict[str, str] = Field(default_factory=dict)
    """Dataset that was asked for and is not in place → what to do."""
    provenance: dict[str, Any] = Field(default_factory=dict)

    def save(self, path: Path) -> None:
        write_text(path, self.model_dump_json(indent=1) + "\n")
