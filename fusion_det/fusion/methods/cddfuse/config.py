"""What can be chosen about the CDDFuse networks."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class CDDFuseConfig:
    """The networks' shape.

    width: channels of all maps. heads: of all attention. depth: Restormer blocks of encoder and decoder each.
    detail_nodes: steps of the encoder's invertible network.
    """

    width: int = 64
    heads: int = 8
    depth: int = 4
    detail_nodes: int = 3

    def __post_init__(self) -> None:
        if self.width % (2 * self.heads):
            raise ValueError(f"width {self.width}: a multiple of twice the {self.heads} heads")


CONFIGS: dict[str, CDDFuseConfig] = {
    "released": CDDFuseConfig(),
    "tiny": CDDFuseConfig(width=16, heads=4, depth=1, detail_nodes=1),
}
"""By name. "tiny" is this project's own, for demonstrations: it learns something within a minute."""
