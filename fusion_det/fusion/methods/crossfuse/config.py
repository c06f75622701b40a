"""What can be chosen about the CrossFuse networks."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class CrossFuseConfig:
    """The networks' shape.

    shallow: channels at full resolution. dense: that each dense convolution adds. deep: at an eighth of the resolution.
    heads: of the transformer, whose tokens have 4·deep channels.
    gain: with which what comes of deep features starts to learn, beside the shallow ones. 1 is torch's own start; with less an
        untrained network shows its sources, and not the grid of its tokens, which takes thousands of steps to be unlearnt.
    """

    shallow: int = 32
    dense: int = 64
    deep: int = 128
    heads: int = 16
    gain: float = 1.0

    def __post_init__(self) -> None:
        if 4 * self.deep % self.heads:
            raise ValueError(f"deep {self.deep}: four times that is a multiple of the {self.heads} heads")


CONFIGS: dict[str, CrossFuseConfig] = {
    "released": CrossFuseConfig(),
    "tiny": CrossFuseConfig(shallow=8, dense=8, deep=16, heads=4, gain=0.05),
}
"""By name. "tiny" is this project's own, for demonstrations: it learns something within a minute."""
