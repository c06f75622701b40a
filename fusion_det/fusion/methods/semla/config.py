"""What can be chosen about the SemLA networks."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SemLAConfig:
    """The networks' shape.

    stem: channels of the registration network at full, half and quarter resolution. width: of its maps at an eighth.
    saliency: of the two hidden blocks of the saliency head. heads: of the attention between places.
    fusion: channels of the fusion network's four convolutions.
    """

    stem: tuple[int, int, int] = (8, 16, 32)
    width: int = 256
    saliency: tuple[int, int] = (128, 32)
    heads: int = 8
    fusion: tuple[int, int, int, int] = (8, 8, 16, 16)

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ValueError(f"width {self.width}: a multiple of the {self.heads} heads")


CONFIGS: dict[str, SemLAConfig] = {
    "released": SemLAConfig(),
    "tiny": SemLAConfig(stem=(4, 8, 8), width=32, saliency=(16, 8), heads=4),
}
"""By name. "tiny" is this project's own, for demonstrations: its fusion network is the published one, which is small."""
