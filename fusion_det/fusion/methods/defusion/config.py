"""What can be chosen about the DeFusion network."""

from __future__ import annotations

from dataclasses import dataclass, replace

Blocks = tuple[int, int, int, int]


@dataclass(frozen=True)
class DeFusionConfig:
    """The network's shape.

    width: planes of the finest encoder stage; those of all others are multiples or halves of it.
    encoder_blocks: bottlenecks of the encoder's four stages, the finest first. shared_blocks: of the common encoder.
    common_blocks, unique_blocks: of the four stages of the decoders of the common and of the unique parts, the coarsest first.
    """

    width: int = 8
    encoder_blocks: Blocks = (6, 6, 4, 4)
    shared_blocks: int = 4
    common_blocks: Blocks = (2, 2, 2, 2)
    unique_blocks: Blocks = (4, 4, 6, 6)

    def __post_init__(self) -> None:
        if self.width % 4:
            raise ValueError(f"width {self.width}: a multiple of 4, as half of it is convolved in two groups")


_RELEASED = DeFusionConfig()

CONFIGS: dict[str, DeFusionConfig] = {
    "released": _RELEASED,
    "script": replace(_RELEASED, common_blocks=(4, 4, 6, 6)),
    "tiny": DeFusionConfig(8, (1, 1, 1, 1), 1, (1, 1, 1, 1), (1, 1, 1, 1)),
}
"""By name. "script" is what the released training script builds, whose checkpoints the released network does not load. "tiny" is
this project's own, for demonstrations: it learns something within a minute. Narrower ones often go dark."""
