"""What can be chosen about the S4Fusion network, and the choices that have names.

S4Fusion (arXiv:2405.20881) was published twice: as a text and as code that the weights belong to. They differ. ``released`` is
the code, and what every number of this project means by S4Fusion unless it says otherwise; ``paper`` is the text, as far as
it can be built:

=====================  ===========================================  ====================================================
what                   released                                     paper
=====================  ===========================================  ====================================================
features that CMSA     the *inputs* of encoder layer l              what encoder layer l extracts, before patch merging.
fuses at level l                                                    (Read to the letter, Eq. 5 hands on the merged
                                                                    features, whose size and width Eq. 6 cannot add to
                                                                    those of decoder layer l.)
levels used            1 and 2 (from 0); level 0 is computed and    all three, as Eq. 6 says
                       dropped by the published code; here it is
                       kept as parameters and not computed
where R⁽ˡ⁾ is added    before the patch expanding of the *next*     after the patch expanding of its own layer (Eq. 6)
                       decoder layer
norm before the block  none                                         layer norm ("NLC" in Fig. 2), shared by the
                                                                    modalities like the projection that follows it
Δ, B, C come from      the features before the patch mark           the marked features (Algorithm 1)
=====================  ===========================================  ====================================================

Kept as released in both, because the text contradicts itself or its own figures: A is shared by the modalities (Sec. IV-H;
Sec. III-C calls it private), Δ is private through its low-rank part alone, B enters as Δ·B (Eq. 11 prints the exact
hold), the encoders' state size is 12 and the fusion's 18 (the paper names none), and the parameter count, 3.56 million
(Table VII: 2.03 million, of which no choice here gives an account).

The rest are the rows of Table V that replace the fusion module, built from Sec. IV-F: see
:mod:`fusion_det.fusion.methods.s4fusion.ablations`. All else in them is as released.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

PATCH_SIZE, PATCH_STRIDE = 4, 3
"""Overlapping patches of 4 × 4 pixels that share one row or column with the next (Sec. IV-A)."""

Interaction = Literal["cmsa", "add", "cnn", "ca", "sa", "va"]


@dataclass(frozen=True)
class S4FusionConfig:
    """The network's shape.

    dims, depths: width and number of VSS blocks of each encoder layer; the decoder mirrors them.
    states, fusion_states: size of the hidden state N in encoder and decoder, and in CMSA.
    expansion: inner width of a block over its width. fusion_blocks: CMSA blocks at each level (K in the paper).
    interaction: what fuses a level's two feature maps: "cmsa", or a replacement of Table V.
    patch_mark: add the mark of Eqs. 7 and 8. pre_norm: layer norm before each CMSA block.
    marked_parameters: take Δ, B and C from the marked features.
    wiring: which features are fused, and where the result goes: "released" or "equations" (5 and 6 of the paper).
    """

    dims: tuple[int, ...] = (48, 96, 192)
    depths: tuple[int, ...] = (1, 2, 1)
    states: int = 12
    fusion_states: int = 18
    expansion: float = 1.5
    fusion_blocks: int = 3
    interaction: Interaction = "cmsa"
    patch_mark: bool = True
    pre_norm: bool = False
    marked_parameters: bool = False
    wiring: Literal["released", "equations"] = "released"

    def __post_init__(self) -> None:
        if len(self.dims) != len(self.depths):
            raise ValueError(f"{len(self.dims)} widths ({self.dims}) but {len(self.depths)} depths ({self.depths})")
        if any(wide != 2 * narrow for narrow, wide in zip(self.dims, self.dims[1:], strict=False)):
            raise ValueError(f"dims {self.dims}: patch merging doubles the width from layer to layer")
        if self.dims[0] % 4:
            raise ValueError(f"dims {self.dims}: the first width is a multiple of 4")

    @property
    def size_multiple(self) -> int:
        """Images of H, W ≡ 1 modulo this, and larger than 1, go through without a remainder (12 for three layers)."""
        return PATCH_STRIDE * 2 ** (len(self.dims) - 1)

    @property
    def fused_levels(self) -> range:
        """Levels whose fused features reach the output."""
        return range(0 if self.wiring == "equations" else 1, len(self.dims))


_RELEASED = S4FusionConfig()

CONFIGS: dict[str, S4FusionConfig] = {
    "released": _RELEASED,
    "paper": replace(_RELEASED, wiring="equations", pre_norm=True, marked_parameters=True),
    "add": replace(_RELEASED, interaction="add"),
    "cnn": replace(_RELEASED, interaction="cnn"),
    "ca": replace(_RELEASED, interaction="ca"),
    "sa": replace(_RELEASED, interaction="sa"),
    "va": replace(_RELEASED, interaction="va"),
    "no_mark": replace(_RELEASED, patch_mark=False),
}
"""By name; "add" to "no_mark" are Exp. 1 to 6 of Table V."""
