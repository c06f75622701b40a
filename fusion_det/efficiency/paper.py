"""Table VII of the S4Fusion paper (arXiv:2405.20881), and why a figure of ours is another."""

from __future__ import annotations

from dataclasses import dataclass

SIZE = 480, 640
"""Height and width of MSRS' images, on which the paper counts."""


@dataclass(frozen=True)
class PaperFigures:
    """gflops: billions of operations; the paper does not say whether a multiply-add is one or two. parameters: in millions.

    reason: why ours differ; "" where nothing is known.
    """

    gflops: float
    parameters: float
    reason: str = ""


_S4FUSION = (
    "The released network has 3.563 M parameters. A counter of layers (linear, convolutions, norms) sees 1.765 M of them, for "
    "the rest belong to no such layer; 2.030 M is neither. At 481×649, the smallest size it takes, the released code spends "
    "65.07 G on layers and 24.19 G on scans. Of these, fusion level 0, whose result it drops, takes 18.18 G and 9.67 G; that "
    "the other levels compute the mark of each position once a direction, where once would do, takes 12.90 G; and that "
    "the last expansion is not folded into its convolution takes 0.59 G. What remains, 33.39 G and 14.51 G, is what is "
    "computed here, for the same image. The paper's 48.93 G could not be reproduced; nearest comes what a counter of "
    "layers sees of the released code, two operations a multiply-add, with its scans: 24.93 G and 24.19 G."
)

_U2FUSION = (
    "The official checkpoint holds 659,217 parameters, and all are used; which network and size the paper's 0.86 M and 52.30 G "
    "are of could not be found out."
)

TABLE_VII: dict[str, PaperFigures] = {
    "defusion": PaperFigures(80.13, 7.87),
    "ddfm": PaperFigures(664_000.0, 552.70),
    "semla": PaperFigures(66.45, 7.27),
    "u2fusion": PaperFigures(52.30, 0.86, _U2FUSION),
    "mambadfuse": PaperFigures(55.09, 5.32),
    "irfs": PaperFigures(73.73, 0.24),
    "crossfuse": PaperFigures(134.85, 20.33),
    "emma": PaperFigures(41.53, 1.51),
    "maefuse": PaperFigures(1004.50, 325.02),
    "s4fusion": PaperFigures(48.93, 2.030, _S4FUSION),
}
"""By the name of the method; the paper counts each in the configuration that its authors published."""
