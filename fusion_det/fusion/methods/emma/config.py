"""What can be chosen about the EMMA networks."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class EMMAConfig:
    """The networks' shape.

    widths: channels of each level of the fusion network, the finest first. heads: of its attention.
    sensing_width: channels of the finest level of the sensing networks, which training needs; each level has twice those of the
        level above.
    """

    widths: tuple[int, int, int, int] = (8, 16, 32, 32)
    heads: int = 8
    sensing_width: int = 64

    def __post_init__(self) -> None:
        if any(width % self.heads for width in self.widths):
            raise ValueError(f"widths {self.widths}: multiples of the {self.heads} heads")


CONFIGS: dict[str, EMMAConfig] = {
    "released": EMMAConfig(),
    "tiny": EMMAConfig(widths=(8, 8, 16, 16), sensing_width=8),
}
"""By name. "tiny" is this project's own, for demonstrations: it learns something within a minute."""
