"""What can be chosen about the FusionMamba network."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class FusionMambaConfig:
    """The network's shape.

    patch: side of a patch, in pixels. dims: width of each level, the finest first. depths, decoder_depths: blocks of each
    encoder layer, the finest first, and of each decoder layer, the coarsest first. states: size of the hidden state of a scan.
    drop_path: how often the last block's branches are left out in training; the first one's never are.
    """

    patch: int = 4
    dims: tuple[int, ...] = (96, 192, 384, 768)
    depths: tuple[int, ...] = (2, 2, 9, 2)
    decoder_depths: tuple[int, ...] = (2, 9, 2, 2)
    states: int = 16
    drop_path: float = 0.1

    def __post_init__(self) -> None:
        if not len(self.dims) == len(self.depths) == len(self.decoder_depths):
            raise ValueError(f"{self.dims}, {self.depths} and {self.decoder_depths}: one of each for every level")
        if any(wide != 2 * narrow for narrow, wide in zip(self.dims, self.dims[1:], strict=False)):
            raise ValueError(f"dims {self.dims}: patch merging doubles the width from level to level")
        if self.dims[0] % 8 or 4 * self.dims[0] % self.patch**2:
            raise ValueError(f"dims {self.dims}: multiples of 8, and a quarter of patch² = {self.patch**2}")

    @property
    def size_multiple(self) -> int:
        """H and W are multiples of this (32 as published)."""
        return self.patch * 2 ** (len(self.dims) - 1)


CONFIGS: dict[str, FusionMambaConfig] = {
    "released": FusionMambaConfig(),
    "medical": FusionMambaConfig(depths=(2, 2, 1, 2), decoder_depths=(2, 1, 2, 2)),
    "tiny": FusionMambaConfig(patch=1, dims=(8, 16), depths=(1, 1), decoder_depths=(1, 1), states=4, drop_path=0.0),
}
"""By name. "medical" is the authors' smaller variant; "tiny" is this project's own, for demonstrations: it learns something
within a minute. The finest features that the decoder sees are those of twice a patch's size, so its patches are single pixels."""
