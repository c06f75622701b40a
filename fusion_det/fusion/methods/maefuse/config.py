"""What can be chosen about the MAEFuse network."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class MAEFuseConfig:
    """The network's shape.

    size: side of the square that every image is brought to, in pixels; a multiple of patch, the side of a token's square.
    width, depth, heads: of the encoder; decoder_…: of the decoder. fusion_heads: of the fusion layer's attention.
    """

    size: int = 640
    patch: int = 16
    width: int = 1024
    depth: int = 24
    heads: int = 16
    decoder_width: int = 512
    decoder_depth: int = 4
    decoder_heads: int = 16
    fusion_heads: int = 16

    def __post_init__(self) -> None:
        if self.size % self.patch:
            raise ValueError(f"size {self.size}: a multiple of the {self.patch} pixels of a patch")
        if self.width % self.heads or self.width % self.fusion_heads or self.decoder_width % self.decoder_heads:
            raise ValueError(f"widths {self.width} and {self.decoder_width}: multiples of their numbers of heads")

    @property
    def grid(self) -> int:
        """Tokens on a side."""
        return self.size // self.patch


CONFIGS: dict[str, MAEFuseConfig] = {
    "released": MAEFuseConfig(),
    "tiny": MAEFuseConfig(
        size=256,
        patch=8,
        width=96,
        depth=2,
        heads=4,
        decoder_width=96,
        decoder_depth=1,
        decoder_heads=4,
        fusion_heads=4,
    ),
}
"""By name. "tiny" is this project's own, for demonstrations: it learns something within a minute."""
