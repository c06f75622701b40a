"""What can be chosen about the U2Fusion network."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class U2FusionConfig:
    """The network's shape.

    width: maps that each layer of the encoder adds. dense: its layers after the first.
    decoder: maps of the decoder's layers before the last.
    """

    width: int = 44
    dense: int = 5
    decoder: tuple[int, ...] = (128, 64, 32)


CONFIGS: dict[str, U2FusionConfig] = {
    "released": U2FusionConfig(),
    "tiny": U2FusionConfig(width=8, dense=3, decoder=(16,)),
}
"""By name. "tiny" is this project's own, for demonstrations: it learns something within a minute."""
