"""What can be chosen about the CrossFuse networks."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class CrossFuseConfig:
    """The networks' shape.

    shallow: channels at full resolution. dense: that each dense convolution adds. deep: at an eighth of the resolution.
    heads: of the transformer, whose tokens have 4·deep channels.
    gain: of the norms behind attention and behind the last layer for deep features, where learning starts. 1 is torch's own; with
        less an untrained network shows its sources, and not the grid of its tokens, which takes thousands of steps to unlearn.
    level: around which deep features start; None is torch's own start, around 0. Shares of both sources are quotients of their
        sums over channels, which above 0 do not vanish anywhere; a single pixel where they do leaves a stretched image flat.
    """

    shallow: int = 32
    dense: int = 64
    deep: int = 128
    heads: int = 16
    gain: float = 1.0
    level: float | None = None

    def __post_init__(self) -> None:
        if 4 * self.deep % self.heads:
            raise ValueError(f"deep {self.deep}: four times that is a multiple of the {self.heads} heads")


CONFIGS: dict[str, CrossFuseConfig] = {
    "released": CrossFuseConfig(),
    "tiny": CrossFuseConfig(shallow=8, dense=8, deep=16, heads=4, gain=0.01, level=1.0),
}
"""By name. "tiny" is this project's own, for demonstrations: it learns something within a minute."""
