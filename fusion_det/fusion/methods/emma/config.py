"""What can be chosen about the fusion network of EMMA."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class EMMAConfig:
    """The fusion network's shape.

    widths: channels of each level, the finest first. heads: of its attention.
    """

    widths: tuple[int, int, int, int] = (8, 16, 32, 32)
    heads: int = 8

    def __post_init__(self) -> None:
        if any(width % self.heads for width in self.widths):
            raise ValueError(f"widths {self.widths}: multiples of the {self.heads} heads")


CONFIGS: dict[str, EMMAConfig] = {
    "released": EMMAConfig(),
    "tiny": EMMAConfig(widths=(8, 8, 16, 16)),
}
"""By name. "tiny" is this project's own, for demonstrations: it learns something within a minute."""
