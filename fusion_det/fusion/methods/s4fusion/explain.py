"""What Sec. IV-G and IV-H of the S4Fusion paper (arXiv:2405.20881) look at: Δ of both modalities, and features around CMSA.

Layers and blocks are counted from 1 here, as in the paper: layer l, block k is ``fusion_layers.{l-1}.layers.{k-1}``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import torch
import torch.nn.functional as F

from fusion_det.errors import MethodError
from fusion_det.fusion.explanation import MODALITIES, STAGES, Explanation, LayerFeatures, StepMean
from fusion_det.fusion.methods.s4fusion.cmsa import CMSA, CrossSS2D
from fusion_det.fusion.methods.s4fusion.config import CONFIGS
from fusion_det.fusion.methods.s4fusion.network import S4FusionNet

TABLE_VIII: Mapping[tuple[int, str], float] = {
    (1, "ir"): 0.0014,
    (1, "vi"): -0.0056,
    (2, "ir"): -3.999,
    (2, "vi"): -5.885,
    (3, "ir"): -6.308,
    (3, "vi"): -19.811,
}
"""(layer, modality) → the average Δ that the paper prints. Negative, so not the steps themselves: they are compared with the
stage "projected", for the reason given at :meth:`~fusion_det.fusion.methods.s4fusion.cmsa.CrossSS2D.step_sizes`. On which
images it was taken the paper does not say."""


def explain(network: S4FusionNet, config: str, ir: torch.Tensor, vi: torch.Tensor) -> Explanation:
    """Step sizes and features of one pair, of every level that has parameters, whether the output depends on it or not.

    Means are over all positions, the padded border included.

    Args:
        ir, vi: (1,1,H,W), sizes as the network takes them. config: the network's name in ``CONFIGS``.

    Raises:
        MethodError: a configuration without CMSA.
    """
    part = network.vmunet
    levels: list[tuple[torch.Tensor, ...]] = [*part.encode(ir, vi)[0]]
    steps: list[StepMean] = []
    features = []
    for index, cmsa in enumerate(part.fusion_layers):
        if not isinstance(cmsa, CMSA):
            able = [name for name, other in CONFIGS.items() if other.interaction == "cmsa"]
            raise MethodError(
                f"the configuration {config} of s4fusion has no CMSA, whose step sizes and features are explained; use "
                f"--config with one that does: {', '.join(able)}"
            )
        layer, used = index + 1, index in network.config.fused_levels
        before = x = torch.stack(levels[index])
        levels[index] = ()  # a copy of them was made
        means = []
        for block in cmsa.layers:
            if not isinstance(block, CrossSS2D):  # for the type checker
                raise TypeError(f"{type(block).__name__} is no block of CMSA")
            means.append(_means_of_stages(block, x))
            x = x + block(x)
        steps += _rows(layer, used, means, compared=config in ("released", "paper"))
        features.append(LayerFeatures(layer, _array(before), _array(x), used))
    return Explanation("CMSA", tuple(steps), tuple(features))


def _rows(layer: int, used: bool, blocks: list[dict[str, tuple[float, ...]]], *, compared: bool) -> Iterator[StepMean]:
    """The layer (whose blocks are equally large, so its mean is that of theirs), then its blocks."""
    for stage in STAGES:
        for i, modality in enumerate(MODALITIES):
            mean = sum(block[stage][i] for block in blocks) / len(blocks)
            published = TABLE_VIII.get((layer, modality)) if compared and stage == "projected" else None
            yield StepMean(layer, None, modality, stage, mean, used, published)
    for number, block in enumerate(blocks, 1):
        for stage in STAGES:
            for modality, mean in zip(MODALITIES, block[stage], strict=True):
                yield StepMean(layer, number, modality, stage, mean, used)


def _means_of_stages(block: CrossSS2D, x: torch.Tensor) -> dict[str, tuple[float, ...]]:
    """The means of ``block.step_sizes(x, stage)`` for all stages, in the time and little more than the memory of one."""
    delta = block.step_sizes(x, "projected").float()
    projected = _means(delta)
    biased = _means(delta.add_(block.dt_projs_bias.float()))
    steps = tuple(mean for modality in delta.split(1) for mean in _means(F.softplus(modality)))
    return {"projected": projected, "biased": biased, "step": steps}


def _means(delta: torch.Tensor) -> tuple[float, ...]:
    """Of each modality, (M,1,H,W,4,d). Single precision within a position, double over the positions."""
    return tuple(delta.mean((-2, -1)).cpu().double().flatten(1).mean(1).tolist())


def _array(x: torch.Tensor) -> np.ndarray:
    """(2,1,h,w,C) → (2,h,w,C) float32."""
    return x[:, 0].float().cpu().numpy()
