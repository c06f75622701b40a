"""What can be chosen about the diffusion prior of DDFM and about sampling from it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class DDFMConfig:
    """The U-Net's shape, and how often it is asked.

    width: channels of the finest level. multipliers: of the width, a level each, the finest first; every level halves the size.
    depth: residual blocks of a level (one more on the way up). attention: levels that have it, by how often their maps are
    smaller than the image. head_width: channels of an attention head. groups: of all norms. steps: of the sampler, a pair.
    """

    width: int = 256
    multipliers: tuple[int, ...] = (1, 1, 2, 2, 4, 4)
    depth: int = 2
    attention: tuple[int, ...] = (8, 16, 32)
    head_width: int = 64
    groups: int = 32
    steps: int = 100

    def __post_init__(self) -> None:
        if self.width % self.groups:
            raise ValueError(f"width {self.width}: a multiple of the {self.groups} groups of its norms")
        attended = [m for level, m in enumerate(self.multipliers) if 2**level in self.attention] + [
            self.multipliers[-1]
        ]
        if any(m * self.width % self.head_width for m in attended):
            raise ValueError(f"width {self.width}: with attention in heads of {self.head_width} channels")
        if self.steps < 1:
            raise ValueError(f"{self.steps} steps: at least 1")

    @property
    def size_multiple(self) -> int:
        """Height and width of images are multiples of it."""
        return int(2 ** (len(self.multipliers) - 1))


CONFIGS: dict[str, DDFMConfig] = {
    "released": DDFMConfig(),
    "tiny": DDFMConfig(width=8, multipliers=(1, 1, 2, 4, 4), depth=1, attention=(), head_width=32, groups=4, steps=6),
}
"""By name. "tiny" is this project's own, for demonstrations: it learns something within a minute. In fewer steps more is left of
the noise that a sample begins with."""
