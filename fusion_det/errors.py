"""The errors a user can mend. Every message names the file or the option, and the cure.

Anything else that escapes is a defect of this program and keeps its traceback.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


class FusionDetError(Exception):
    """Base of all errors that the command line prints without a traceback (exit code 2)."""


class ConfigError(FusionDetError):
    """An option, an experiment file or a combination of them that makes no sense."""


class MethodError(FusionDetError):
    """An unknown fusion method, one without weights, or one that returned something that is not an image."""


class QualityError(FusionDetError):
    """An unknown quality metric or profile, images a metric is not defined on, or a learned metric without its weights."""


class StageError(FusionDetError):
    """A stage of the pipeline (a training subprocess, say) did not finish; the message names its log."""


@dataclass(frozen=True)
class Problem:
    """One thing wrong with one file of a dataset."""

    file: Path
    message: str

    def __str__(self) -> str:
        return f"{self.file}: {self.message}"


class DatasetError(FusionDetError):
    """A dataset that cannot be used as it is; carries *every* problem found, not only the first."""

    def __init__(self, headline: str, problems: Iterable[Problem] = (), cure: str = "") -> None:
        self.headline, self.problems, self.cure = headline, tuple(problems), cure
        shown = [f"  - {p}" for p in self.problems[:50]]
        if len(self.problems) > 50:
            shown.append(f"  … and {len(self.problems) - 50} more (fusion-det data check lists them all)")
        super().__init__("\n".join([headline, *shown, *([cure] if cure else [])]))
