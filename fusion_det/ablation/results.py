"""What ``fusion-det ablation`` leaves behind: the document its report is made from, and nothing else is read for it.

``runs/experiments/<name>/ablation.json`` holds an :class:`AblationResults`. Paths in it are absolute.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from fusion_det.files import write_text
from fusion_det.pipeline.quality_results import PublishedFigures

SCHEMA_VERSION = 1


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class VariantInfo(_Frozen):
    name: str
    label: str
    config: str | None
    changes: dict[str, Any] = Field(default_factory=dict)
    """What is different in its training."""
    paper_row: str = ""
    parameters: int | None = None
    parameters_used: int | None = None
    """Those that its output depends on. Both None where they could not be counted."""


class Trial(_Frozen):
    """One training of a variant, and what became of it. Paths and figures are None from the stage on that failed."""

    variant: str
    seed: int
    steps: int | None = None
    seconds: float | None = None
    """Of the training; other programs may have run beside it."""
    device: str = ""
    commit: str = ""
    """Of this program, when it was trained."""
    weights: Path | None = None
    images: Path | None = None
    """Folder of fused images, ``STEM.png``."""
    values: Path | None = None
    """``quality.json``, see :class:`fusion_det.pipeline.results.QualityRows`."""
    entropies: Path | None = None
    """``entropy.json``: ``stems`` and ``nats``."""
    reason: str = ""
    """Why it has no figures, in words."""
    entropy_reason: str = ""


class Budget(_Frozen):
    """How long every variant was trained, and how long the method was by its authors."""

    steps: int | None
    """None where the time is given instead."""
    minutes: float | None
    pairs_a_step: int
    crop: int
    pairs: int
    """Learnt from."""
    paper_epochs: int
    paper_crop: int

    @property
    def epochs(self) -> float | None:
        return None if self.steps is None else self.steps * self.pairs_a_step / self.pairs


class AblationResults(_Frozen):
    schema_version: int = SCHEMA_VERSION
    experiment: str
    title: str
    method: str
    """In print."""
    variants: tuple[VariantInfo, ...]
    reference: str
    trials: tuple[Trial, ...]
    budget: Budget
    learnt_from: str
    """In words: "134 pairs of roadscene"."""
    measured_on: str
    synthetic: bool
    data_digest: str
    metrics: tuple[str, ...]
    profile: str
    color: str
    sources: dict[str, tuple[Path, Path]]
    """Stem → infrared and visible file of every measured pair."""
    shown: tuple[str, ...] = ()
    """Stems of the pairs that pictures are shown of."""
    control: Path | None = None
    """``quality.json`` of the plain mean of both sources, which learns nothing; None if it could not be measured."""
    published: PublishedFigures | None = None
    entropy_of: tuple[str, ...] = ()
    """Variants in the figure of entropy; none: no such figure was asked for."""
    source_entropies: dict[str, Path] = Field(default_factory=dict)
    """"infrared" and "visible" → ``entropy.json``."""
    classifier: str = ""
    provenance: dict[str, Any] = Field(default_factory=dict)

    def save(self, path: Path) -> None:
        write_text(path, self.model_dump_json(indent=1) + "\n")

    @classmethod
    def load(cls, path: Path) -> AblationResults:
        """Raises: OSError, pydantic.ValidationError."""
        return cls.model_validate_json(path.read_text(encoding="utf-8"))
