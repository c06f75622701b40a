"""Crops that show something. EMMA and CDDFuse learn from no others."""

from __future__ import annotations

import torch

from fusion_det.fusion.training.recipe import Sources

LEAST_CONTRAST = 0.1


def has_contrast(patches: torch.Tensor, least: float = LEAST_CONTRAST) -> torch.Tensor:
    """Whether (P90 - P10) / P90 of all values of each patch is at least ``least``, (B,C,H,W) to (B,) bool.

    P10 and P90 are percentiles of values ≥ 0. An all but black patch, whose P90 is 0, has none.
    """
    values = patches.flatten(1).float()
    low, high = values.quantile(values.new_tensor([0.1, 0.9]), dim=1)
    return (high > 0) & (high - low >= least * high)


def with_contrast(sources: Sources) -> Sources:
    """A batch without the crops of which either image has no contrast; the batch as it is, if that leaves nothing."""
    kept = has_contrast(sources.ir) & has_contrast(sources.luma)
    if not bool(kept.any()):
        return sources
    return sources._replace(ir=sources.ir[kept], vi=sources.vi[kept], luma=sources.luma[kept])
