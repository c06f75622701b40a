"""What can be chosen about the fusion network of IRFS."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class IRFSConfig:
    """The network's shape.

    width: channels of all maps. squeezed: of the channel attention's hidden layer.
    """

    width: int = 64
    squeezed: int = 8


CONFIGS: dict[str, IRFSConfig] = {
    "released": IRFSConfig(),
    "tiny": IRFSConfig(width=16, squeezed=2),
}
"""By name. "tiny" is this project's own, for demonstrations: it learns something within a minute."""
