"""What can be chosen about the SMC-Mamba network, and the choices that have names.

The paper (arXiv:2512.20921) comes without code; what it leaves open is decided here. ``default`` is what this project means by
SMC-Mamba; "no_…" are the paper's ablations that change the network (the others are options of its training).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

PATCH = 8
"""Side of the patches of MAFE's local branch, in positions of its level."""
GRID = 8
"""A channel is a token of GRID × GRID averages in channel scans."""


@dataclass(frozen=True)
class SMCMambaConfig:
    """The network's shape.

    widths: channels at full and at half resolution. states: N of every scan.
    frequency_width: channels of the frequency branch over those of its level.
    experts, chosen: of MCCM; how many there are, and how many of them work on an image.
    mafe, frequency: whether there are the enhancement, and its frequency branch.
    head: "blend" weighs the two sources at every pixel and corrects the sum, before the sigmoid; "direct" is a convolution
        alone before it.
    radii: of box means in pixels, each taken of the one before. The blend splits the sources into what each of them takes away
        and what the last one leaves; this rest is weighed between the sources, the details of each have factors of their own,
        so that both can be kept whole. Empty: the sources are weighed as they are.
    """

    widths: tuple[int, int] = (16, 64)
    states: int = 8
    frequency_width: float = 0.5
    experts: int = 4
    chosen: int = 2
    mafe: bool = True
    frequency: bool = True
    head: Literal["blend", "direct"] = "blend"
    radii: tuple[int, ...] = (2, 8)

    def __post_init__(self) -> None:
        if not 1 <= self.chosen <= self.experts:
            raise ValueError(f"{self.chosen} of {self.experts} experts cannot be chosen")


_DEFAULT = SMCMambaConfig()

CONFIGS: dict[str, SMCMambaConfig] = {
    "default": _DEFAULT,
    "tiny": replace(_DEFAULT, widths=(8, 16), states=4),
    "no_mafe": replace(_DEFAULT, mafe=False),
    "no_frequency": replace(_DEFAULT, frequency=False),
    "no_moe": replace(_DEFAULT, experts=1, chosen=1),
    "one_weight": replace(_DEFAULT, radii=()),
    "direct": replace(_DEFAULT, head="direct"),
}
