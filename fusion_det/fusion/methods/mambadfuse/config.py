"""What can be chosen about the MambaDFuse network."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class MambaDFuseConfig:
    """The network's shape.

    width: channels of a token, a multiple of four. depth: Mamba blocks of each of its three chains. exchanges: token swaps.
    fusions: blocks that scan three sequences at once. states: size of the hidden state of a scan.
    """

    width: int = 60
    depth: int = 8
    exchanges: int = 2
    fusions: int = 5
    states: int = 16

    def __post_init__(self) -> None:
        if self.width % 4:
            raise ValueError(f"width {self.width}: a multiple of 4, for the last convolutions halve it twice")


CONFIGS: dict[str, MambaDFuseConfig] = {
    "released": MambaDFuseConfig(),
    "tiny": MambaDFuseConfig(width=8, depth=1, exchanges=1, fusions=1, states=4),
}
"""By name. "tiny" is this project's own, for demonstrations: it learns something within a minute."""
