"""What can be chosen about the TC-MoA network."""

from __future__ import annotations

from dataclasses import dataclass

TASKS = ("ivif", "multi-exposure", "multi-focus")
"""What the network can be asked to fuse, by index. Medical images and pan-sharpening count as the first."""

TAU = 4
"""From one adapter to the next, in blocks; the first comes after block 1."""


@dataclass(frozen=True)
class TCMoAConfig:
    """The network's shape.

    width, depth, heads: of the encoder, a ViT; decoder_…: of the decoder. Widths are multiples of 32.
    """

    width: int = 1024
    depth: int = 24
    heads: int = 16
    decoder_width: int = 512
    decoder_depth: int = 8
    decoder_heads: int = 16

    def __post_init__(self) -> None:
        if self.width % 32 or self.decoder_width % 32:
            raise ValueError(
                f"widths {self.width} and {self.decoder_width}: multiples of 32, as experts are that narrow"
            )
        if self.width % self.heads or self.decoder_width % self.decoder_heads:
            raise ValueError(f"widths {self.width} and {self.decoder_width}: multiples of their numbers of heads")
        if min(self.depth, self.decoder_depth) < 2:
            raise ValueError(f"depths {self.depth} and {self.decoder_depth}: at least 2, or nothing would be fused")


CONFIGS: dict[str, TCMoAConfig] = {
    "large": TCMoAConfig(),
    "base": TCMoAConfig(width=768, depth=12, heads=12),
    "tiny": TCMoAConfig(width=96, depth=2, heads=4, decoder_width=96, decoder_depth=2, decoder_heads=4),
}
"""By name. "large" is what both published configurations select. "tiny" is this project's own, for demonstrations: it learns
something within a minute."""
