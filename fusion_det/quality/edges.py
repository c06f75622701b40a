"""Edge preservation and fusion artefacts: Qabf (Xydeas, Petrović) and Nabf (Shreyamsha Kumar).

The two differ in more than what they count: border, scale of the gradient, steepness of the sigmoids, weights. Both come
as published; a border treated better would make another number.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal

import torch
import torch.nn.functional as F

from fusion_det.quality.comparison import Comparison, measure
from fusion_det.quality.windows import row_strips


def qabf(ir: torch.Tensor, vi: torch.Tensor, fused: torch.Tensor) -> torch.Tensor:
    """Qabf: how well the edges of both sources are preserved, a **mean weighted** by their strength. Higher is better.

    With 3×3 Sobel gradients (zeros beyond the border), strength g and angle α = arctan(Gy/Gx), +π/2 where Gx = 0:
    G = min(gS,gF)/max(gS,gF), but gF where both are equal; T = 1 − |αS−αF|/(π/2);
    Q = 0.9994/(1+exp(−15(G−0.5))) · 0.9879/(1+exp(−22(T−0.8))); Qabf = Σ(QA gA + QB gB) / Σ(gA + gB).
    Range 0 to 0.987. The same in every profile. The zeros beyond the border are an edge that every image has, so a constant
    F does not get 0. If both sources are black there is nothing to preserve: 0.

    Args:
        ir, vi, fused: (B,1,H,W), whole grey levels 0..255 in any dtype.

    Returns:
        (B,) float64.

    Source: Xydeas, Petrović, Electron. Lett. 36(4), 2000, as every fusion paper's code computes it.
    """
    return measure({"Qabf": qabf_of}, fused, ir, vi, profile="paper")["Qabf"]


def nabf(ir: torch.Tensor, vi: torch.Tensor, fused: torch.Tensor) -> torch.Tensor:
    """Nabf: edges in the fused image that neither source has, as a share of both sources' edges. Lower is better.

    With Sobel gradients /8 (border mirrored about the outermost pixel), G = gS/gF or its inverse, at most 1, 0 where either
    is 0; T = | |αS−αF| − π/2 | · 2/π; Q = sqrt(0.9999/(1+exp(−19(G−0.5))) · 0.9995/(1+exp(−22(T−0.5)))); weight
    w = g^1.5 where g ≥ 2, else 0. Nabf = Σ[(1−QA)wA + (1−QB)wB] over the pixels with gF > gA and gF > gB, divided by Σ(wA + wB)
    over all. Range 0 to 1; about 1e-7 for averaging rules, so compare with an absolute tolerance. Sources without an
    edge above the threshold: 0. The same in every profile: IVIF_ZOO's (Kumar's own code gives weak edges the weight
    0.001: at most 1e-4 more).

    Args:
        ir, vi, fused: (B,1,H,W), whole grey levels 0..255 in any dtype; at least 2×2 pixels.

    Returns:
        (B,) float64.

    Source: Shreyamsha Kumar, SIViP 7(6), 2013, after Petrović, Xydeas, ICCV 2005.
    """
    return measure({"Nabf": nabf_of}, fused, ir, vi, profile="paper")["Nabf"]


def qabf_of(images: Comparison) -> float:
    preserved, available = 0.0, 0.0
    for across, up in _sobel(images.images, "constant"):
        strength = _squared_strength(across, up).double().sqrt_()
        angle = up.double().div_(across).atan_().masked_fill_(across == 0, math.pi / 2)
        fused, sources = strength[:1], strength[1:]
        ratio = torch.minimum(fused, sources).div_(torch.maximum(fused, sources))
        ratio = torch.where(fused == sources, fused, ratio)
        agreement = (angle[1:] - angle[:1]).abs_().mul_(-2 / math.pi).add_(1)
        quality = _sigmoid(ratio, 15, 0.5, 0.9994).mul_(_sigmoid(agreement, 22, 0.8, 0.9879))
        preserved += float(quality.mul_(sources).sum())
        available += float(sources.sum())
    return preserved / available if available else 0.0


def nabf_of(images: Comparison) -> float:
    return artefacts(images, weak_edge_weight=0.0)


def artefacts(images: Comparison, weak_edge_weight: float) -> float:
    """:func:`nabf` with the weight of edges below the threshold as a parameter."""
    added, available = 0.0, 0.0
    for across, up in _sobel(images.images, "reflect"):
        squared = _squared_strength(across, up)
        strength = squared[1:].double().sqrt_().div_(8)
        weight = strength.mul(strength.sqrt()).masked_fill_(strength < 2, weak_edge_weight)
        available += float(weight.sum())
        new = ((squared[0] > squared[1]) & (squared[0] > squared[2])).flatten().nonzero()[:, 0]
        across, up, squared, weight = (v.flatten(1).index_select(1, new) for v in (across, up, squared, weight))
        # The published gradient points down; upside down every angle changes its sign, and T remains.
        angle = across.double().div_(up).atan_().nan_to_num_(nan=0.0)
        ratio = squared[1:].double().div_(squared[:1]).sqrt_()
        agreement = (angle[1:] - angle[:1]).abs_().sub_(math.pi / 2).abs_().mul_(2 / math.pi)
        quality = _sigmoid(agreement, 22, 0.5, 0.9995)
        quality.mul_(_sigmoid(ratio, 19, 0.5, 0.9999)).sqrt_()
        added += float(weight.mul_(1 - quality).sum())
    return added / available if available else 0.0


def _sobel(images: torch.Tensor, border: Literal["constant", "reflect"]) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Strips of (right − left, upper − lower) with weights 1, 2, 1, each (3,rows,W) float32: whole numbers up to 1020.

    border: zeros, or mirrored about the outermost pixel (``torch.nn.functional.pad``).
    """
    height, width = images.shape[-2:]
    framed = F.pad(images.float(), (1, 1, 1, 1), border)
    for top, bottom in row_strips(height, width, images.device):
        block = framed[:, top : bottom + 2]
        upright = block[:, :-2] + block[:, 2:] + 2 * block[:, 1:-1]
        level = block[..., :-2] + block[..., 2:] + 2 * block[..., 1:-1]
        yield upright[..., 2:] - upright[..., :-2], level[:, :-2] - level[:, 2:]


def _squared_strength(across: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    """Gx² + Gy², a whole number below 2²⁴ and hence exact in float32: equal strengths compare equal."""
    return across.square().add_(up.square())


def _sigmoid(values: torch.Tensor, steepness: float, middle: float, height: float) -> torch.Tensor:
    return values.sub(middle).mul_(steepness).sigmoid_().mul_(height)
