"""What ``fusion-det quality`` measures, as data: ``pipelines/quality.yaml`` and ``pipelines/general.yaml`` are instances."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from fusion_det.config import DataConfig, FusionConfig, QualityConfig, checked
from fusion_det.errors import ConfigError
from fusion_det.tasks import IVIF, find_task


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class MeasuredSet(_Section):
    """Pairs to measure on."""

    data: DataConfig
    ids: tuple[str, ...] = ()
    """Only these pairs, by stem; empty: all. Those that the dataset does not have are named in the report."""
    synonyms: dict[str, str] = Field(default_factory=dict)
    """Beginning of an id → beginning of the stem to look for where there is no such stem."""
    paper_table: Literal["I", "II", "III", "IV", "SMC-Mamba"] | None = None
    """Set the rows of this table of the S4Fusion paper, or those printed for SMC-Mamba, beside ours."""
    task: str = IVIF
    """What the pairs are, see :data:`fusion_det.tasks.TASKS`."""
    title: str = ""
    """In headings; the dataset's name if there is none."""
    pictures: int = Field(default=0, ge=0)
    """How many pairs are shown as every method fuses them, side by side."""

    @field_validator("task")
    @classmethod
    def _known_task(cls, value: str) -> str:
        try:
            return find_task(value).name
        except ConfigError as error:
            raise ValueError(str(error)) from error


class QualitySettings(_Section):
    """Every setting and its default."""

    command: Literal["quality"] = "quality"
    """Whose settings a file holds, so that ``fusion_det.run`` can tell them from an experiment of its own."""
    name: str = Field(default="quality", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    title: str = ""
    sets: tuple[MeasuredSet, ...] = ()
    methods: tuple[str, ...] = ("all",)
    """Registered names, globs, "all"; ``NAME@official``, ``NAME@shipped`` and ``NAME@FILE`` for certain weights; ``NAME=FOLDER``
    for somebody's fused images (measured where they lie)."""
    fusion: FusionConfig = FusionConfig(color="gray")
    """Grey by default: it is what the metrics look at, and no rounding of colours comes between."""
    quality: QualityConfig = QualityConfig()
    as_published: bool = False
    """Also measure images saved as the paper's were, for the comparison with its rows and for nothing else."""

    @model_validator(mode="after")
    def _consistent(self) -> QualitySettings:
        if not self.methods:
            raise ValueError("methods: needs at least one name")
        return self

    def with_changes(self, changes: dict[str, Any]) -> QualitySettings:
        """A copy with settings replaced, checked like a file. ConfigError for an impossible value."""
        return checked(QualitySettings, {**self.model_dump(), **changes}, "the options given", "fusion-det quality")
