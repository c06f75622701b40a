"""What a method can tell about how it fused a pair: its step sizes Δ, and its features around the interaction.

A method joins by ``explains=True`` on its card and by overriding :meth:`~fusion_det.fusion.method.FusionMethod.explain`. This
module imports neither torch nor numpy.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, get_args

from fusion_det.errors import MethodError
from fusion_det.fusion.method import FusionMethod, MethodCard
from fusion_det.machine import is_out_of_memory

if TYPE_CHECKING:
    import numpy as np

    from fusion_det.data.pair import Pair

Modality = Literal["ir", "vi"]
MODALITIES: tuple[Modality, ...] = get_args(Modality)
"""In the order of every stacked array."""

Stage = Literal["projected", "biased", "step"]
"""How far Δ is computed: what is projected from the input; that plus the bias; the softplus of that, Δ itself."""
STAGES: tuple[Stage, ...] = get_args(Stage)


@dataclass(frozen=True)
class StepMean:
    """Δ of one modality in one pair, averaged over positions, scan directions and channels.

    layer: counted from 1, as papers do. block: from 1 within its layer, or None for all blocks of the layer together.
    used: the layer's result reaches the fused image. published: what the paper prints for it, where it does.
    """

    layer: int
    block: int | None
    modality: Modality
    stage: Stage
    mean: float
    used: bool = True
    published: float | None = None


@dataclass(frozen=True, eq=False)
class LayerFeatures:
    """Both modalities' feature maps around one layer's interaction.

    before, after: (2,h,w,C) float32, infrared first; the grid spans the (padded) images given to ``explain``.
    """

    layer: int
    before: np.ndarray
    after: np.ndarray
    used: bool = True


@dataclass(frozen=True)
class Explanation:
    """One pair's.

    steps: the same means, in the same order, for every pair. features: the shallowest layer first.
    interaction: the published name of what lies between ``before`` and ``after`` ("CMSA").
    """

    interaction: str
    steps: tuple[StepMean, ...]
    features: tuple[LayerFeatures, ...]


@dataclass(frozen=True)
class StepAverage:
    """A :class:`StepMean` over pairs, every pair counting the same whatever its size.

    what: which mean it is; its ``mean`` is the average. spread: sample standard deviation over the pairs, None for one pair.
    """

    what: StepMean
    spread: float | None
    pairs: int


def require_explaining(card: MethodCard) -> None:
    """MethodError, naming the methods that have one, for a method without an explanation."""
    if card.explains:
        return
    from fusion_det.fusion.build import list_cards

    able = [other.name for other in list_cards() if other.explains]
    raise MethodError(
        f"{card.name} offers no explanation; use --method with one that does: {', '.join(able) or 'none here'}"
    )


def explain_pair(method: FusionMethod, pair: Pair, device: str = "cpu") -> Explanation:
    """The explanation of a pair as the runner would fuse it: luma or RGB as the card says, padded by the card's rule.

    Args:
        method: from :func:`fusion_det.fusion.build_method`, on ``device``.

    Raises:
        MethodError: the method has no explanation or no trained weights, ran out of memory, or computed NaN.
    """
    import torch

    from fusion_det.data.color import luma
    from fusion_det.fusion.frame import pad_for

    card = method.card
    require_explaining(card)
    if not method.trained:
        raise MethodError(
            f"{card.name} has no trained weights, and random ones explain nothing; build it with weights='auto' or a file "
            f"(--weights {card.name}=FILE)"
        )
    try:
        with torch.no_grad():
            ir, vi = pair.ir[None].to(device), pair.vi[None].to(device)
            padded_ir, padded_vi = pad_for(card, ir), pad_for(card, luma(vi) if card.fuses == "luma" else vi)
            dtype = method.dtype or vi.dtype
            explanation = method.explain(padded_ir.to(dtype), padded_vi.to(dtype))
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        size, cure = pair.vi.shape[-2:], "a machine with more memory" if device == "cpu" else "--device cpu"
        raise MethodError(
            f"{card.name} ran out of {device} memory on {pair.stem} ({size[1]}×{size[0]}); use {cure}"
        ) from error
    if not all(math.isfinite(step.mean) for step in explanation.steps):
        raise MethodError(
            f"{card.name} computed NaN or infinite step sizes for {pair.stem}; its weights or its arithmetic (a reduced "
            "precision?) are broken"
        )
    return explanation


def average_steps(pairs: Sequence[Sequence[StepMean]]) -> tuple[StepAverage, ...]:
    """Average the ``steps`` of at least one pair, row by row.

    Raises:
        ValueError: no pair, or pairs whose rows are not the same.
    """
    if not pairs or len({tuple(replace(step, mean=0.0) for step in steps) for steps in pairs}) != 1:
        raise ValueError("the step sizes of the pairs are not of the same layers, blocks, modalities and stages")
    averages = []
    for column in zip(*pairs, strict=True):
        means = [step.mean for step in column]
        spread = statistics.stdev(means) if len(means) > 1 else None
        averages.append(StepAverage(replace(column[0], mean=statistics.fmean(means)), spread, len(means)))
    return tuple(averages)
