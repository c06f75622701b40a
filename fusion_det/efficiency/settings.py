"""What ``fusion-det efficiency`` measures and how, as data: ``pipelines/efficiency.yaml`` is an instance."""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from fusion_det.config import checked
from fusion_det.fusion.method import Precision

SIDE_LIMIT = 16384
"""Pixels."""


class EfficiencySettings(BaseModel):
    """Every setting and its default."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    command: Literal["efficiency"] = "efficiency"
    """Whose settings a file holds, so that ``fusion_det.run`` can tell them from an experiment of its own."""
    title: str = ""
    methods: tuple[str, ...] = Field(default=("all",), min_length=1)
    """Registered names, globs and "all"."""
    configs: dict[str, str] = Field(default_factory=dict)
    """Method → variant, where it is not the default one."""
    all_configs: bool = False
    """A row for every variant of the methods that have some."""
    size: tuple[int, int] = (480, 640)
    """Height and width of the pair; "480x640" in a file. The default is that of MSRS, as in the paper."""
    device: str = "auto"
    dtype: Precision = "float32"
    threads: int | None = Field(default=None, ge=1)
    """CPU threads; None for one a core."""
    warmup: int = Field(default=3, ge=1)
    repeats: int = Field(default=20, ge=1)
    seconds: float = Field(default=60.0, gt=0)
    """No further call of a method is timed after so many."""
    measure: bool = True
    """False: only count; no process is started and nothing is timed."""

    @field_validator("size", mode="before")
    @classmethod
    def _size_from_text(cls, value: Any) -> Any:
        if isinstance(value, str):
            found = re.fullmatch(r"\s*(\d+)\s*[x×]\s*(\d+)\s*", value)
            if found is None:
                raise ValueError(f"{value!r} is no size; write HEIGHTxWIDTH, as in 480x640")
            return int(found[1]), int(found[2])
        return value

    @field_validator("size")
    @classmethod
    def _size_in_range(cls, value: tuple[int, int]) -> tuple[int, int]:
        if not all(1 <= side <= SIDE_LIMIT for side in value):
            raise ValueError(f"{value[0]}x{value[1]}: sides are 1 to {SIDE_LIMIT} pixels")
        return value

    def with_changes(self, changes: dict[str, Any]) -> EfficiencySettings:
        """A copy with settings replaced, checked like a file. ConfigError for an impossible value."""
        return checked(
            EfficiencySettings, {**self.model_dump(), **changes}, "the options given", "fusion-det efficiency"
        )
