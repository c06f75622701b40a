"""What a measuring process is told, and what it answers: data that goes through JSON. Does not import torch."""

from __future__ import annotations

import statistics
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Job:
    """What to measure, and how.

    method, config: as for :func:`fusion_det.fusion.build_method`. modules: ``--method-module`` values to load first.
    height, width: of the pair, before the padding that the method asks for. threads: CPU threads of torch and the scans.
    warmup: calls before those that are timed. repeats: calls timed. seconds: after so many no further call is begun.
    """

    method: str
    config: str | None
    modules: tuple[str, ...]
    height: int
    width: int
    device: str
    dtype: str
    threads: int
    warmup: int
    repeats: int
    seconds: float


@dataclass(frozen=True)
class Measurement:
    """What fusing one pair took.

    seconds: of every timed call. memory: bytes at the peak above those taken before (None where the device does not tell).
    memory_peak: bytes at the peak, weights and sources included (on a CPU all of the process). memory_exact: False if the
    system only told an upper bound. trained: whether the network ran with its weights. device: its name. dtype: what the
    method computed in.
    """

    seconds: tuple[float, ...]
    memory: int | None
    memory_peak: int | None
    memory_exact: bool
    trained: bool
    device: str
    dtype: str
    threads: int

    @property
    def quartiles(self) -> tuple[float, float, float]:
        """Lower quartile, median and upper quartile of ``seconds``."""
        if len(self.seconds) == 1:
            return self.seconds[0], self.seconds[0], self.seconds[0]
        low, middle, high = statistics.quantiles(self.seconds, n=4, method="inclusive")
        return low, middle, high

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, tree: dict[str, Any]) -> Measurement:
        return cls(**{**tree, "seconds": tuple(tree["seconds"])})


def job_from_json(tree: dict[str, Any]) -> Job:
    return Job(**{**tree, "modules": tuple(tree["modules"])})
