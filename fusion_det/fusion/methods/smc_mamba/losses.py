"""The losses of SMC-Mamba (arXiv:2512.20921): contrast between bands, agreement of experts, intensity by task.

The paper gives forms and weights, not norms and targets; those are this project's. Images are (B,1,H,W) floats in [0,1], losses
are tensors without dimensions, means over elements unless said.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F

from fusion_det.fusion.training.terms import C2, gaussian_means, sobel_responses

MULTI_FOCUS, MULTI_EXPOSURE = "multi-focus", "multi-exposure"
"""Tasks whose targets differ from those of the others."""

_TINY = 1e-4
"""ε of the contrast's denominator: (mean absolute difference)² of about 1 % of the range."""


class Bands(NamedTuple):
    """What Haar lifting makes of maps (…,H,W): low (…,1,H/2,W/2) and high (…,3,H/2,W/2), the bands LH, HL and HH."""

    low: torch.Tensor
    high: torch.Tensor


def haar(maps: torch.Tensor) -> Bands:
    """One level of Haar lifting: the odd sample is predicted by the even one before it, the even one updated to their mean.

    An odd last row or column is repeated. ``low`` is the mean of each square of four.
    """
    maps = _made_even(_made_even(maps, -1), -2)
    low, across = _lift(maps, -1)
    (ll, lh), (hl, hh) = _lift(low, -2), _lift(across, -2)
    return Bands(ll.unsqueeze(-3), torch.stack((lh, hl, hh), dim=-3))


def _made_even(maps: torch.Tensor, dim: int) -> torch.Tensor:
    size = maps.shape[dim]
    return torch.cat((maps, maps.narrow(dim, size - 1, 1)), dim) if size % 2 else maps


def _lift(maps: torch.Tensor, dim: int) -> tuple[torch.Tensor, torch.Tensor]:
    even, odd = maps.unflatten(dim, (-1, 2)).unbind(dim)
    detail = odd - even
    return even + detail / 2, detail


def contrast(fused: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
    """‖F^h - S^h‖₁² / (‖F^h - S^l‖₁² + ε): close to the source's high bands, far from its low one (BSCL).

    Zero if the high bands agree. fused, source: maps (…,H,W).
    """
    own, other = haar(fused), haar(source)
    near = (own.high - other.high).abs().mean().square()
    far = (own.high - other.low).abs().mean().square()
    return near / (far + _TINY)


def balance(gates: torch.Tensor) -> torch.Tensor:
    """L_wb: squared coefficient of variation of the experts' mean gates, 0 if all are asked alike. gates: (n,E)."""
    mean = gates.mean(0)
    return mean.var(correction=0) / mean.mean().square()


def likeness(opinions: torch.Tensor) -> torch.Tensor:
    """L_div: the cosine between two experts' maps, clamped at 0, averaged over pairs of experts and images. (E,b,…)."""
    if len(opinions) < 2:
        return opinions.new_zeros(())
    flat = opinions.flatten(2).movedim(0, 1)  # (b,E,…)
    products = flat @ flat.mT
    norms = products.diagonal(dim1=-2, dim2=-1).clamp_min(1e-12).sqrt()
    cosines = products / (norms[:, :, None] * norms[:, None])
    first, second = torch.triu_indices(len(opinions), len(opinions), 1)
    return cosines[:, first, second].clamp_min(0).mean()


def disagreement(opinions: torch.Tensor) -> torch.Tensor:
    """L_cons: mean over experts of ‖E - mean‖₁ / ‖mean‖₁. (E,b,…)."""
    mean = opinions.mean(0)
    return (opinions - mean).abs().mean() / mean.abs().mean().clamp_min(1e-6)


def target(task: str, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """The document's intensity targets: the brighter source for infrared and medical pairs, the mean of two exposures, and of
    two foci the sharper one at every pixel."""
    if task == MULTI_FOCUS:
        return sharper(first, second)
    if task == MULTI_EXPOSURE:
        return (first + second) / 2
    return torch.maximum(first, second)


def sharper(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """At every pixel the source with more local energy of its Laplacian, under a Gaussian of σ 3."""
    return torch.where(local_energy(first) > local_energy(second), first, second)


def contrast_likeness(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """SSIM without its term of luminance at every pixel, (B,1,H,W): (2·cov + C₂) / (var x + var y + C₂)."""
    mean_x, mean_y, xx, yy, xy = gaussian_means(torch.cat((x, y, x * x, y * y, x * y), dim=1)).chunk(5, dim=1)
    variances = xx - mean_x.square() + yy - mean_y.square()
    return (2 * (xy - mean_x * mean_y) + C2) / (variances + C2)


def local_energy(image: torch.Tensor) -> torch.Tensor:
    """Gaussian mean (21 pixels, σ 3) of the squared four-neighbour Laplacian, (B,1,H,W)."""
    padded = F.pad(image, (1, 1, 1, 1), mode="replicate")
    neighbours = padded[..., :-2, 1:-1] + padded[..., 2:, 1:-1] + padded[..., 1:-1, :-2] + padded[..., 1:-1, 2:]
    return gaussian_means((neighbours - 4 * image).square(), 21, 3.0)


def spread(mean: torch.Tensor) -> torch.Tensor:
    """The mean of two exposures with more contrast: σ(7·(mean - ½)), of slope 1.75 in the middle and never black nor white.

    Where one exposure is nearly white and the other nearly black, which is where both are of use, their mean is a flat grey.
    """
    return torch.sigmoid(7 * (mean - 0.5))


def smooth(image: torch.Tensor) -> torch.Tensor:
    """Gaussian means (21 pixels, σ 4), (B,1,H,W)."""
    return gaussian_means(image, 21, 4.0)


def is_livelier(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Where the first source has the stronger edges: more energy of Sobel's responses under a Gaussian (11 pixels, σ 2). Bool.

    By regions, since a choice pixel by pixel mixes the sources where neither should be mixed.
    """
    return _edge_energy(first) > _edge_energy(second)


def _edge_energy(image: torch.Tensor) -> torch.Tensor:
    across, down = sobel_responses(image, "replicate")
    return gaussian_means(across.square() + down.square(), 11, 2.0)


def edge_distance(
    fused: torch.Tensor, first: torch.Tensor, second: torch.Tensor, is_first: torch.Tensor
) -> torch.Tensor:
    """Mean |∇fused - ∇source| over both directions, of the first source where ``is_first`` and of the second elsewhere.

    ∇ is Sobel's filters over 8; pixels of the border are repeated beyond it.
    """
    a, b, own = (sobel_responses(image, "replicate") for image in (first, second, fused))
    across, down = ((torch.where(is_first, x, y) - z).abs().mean() for x, y, z in zip(a, b, own, strict=True))
    return (across + down) / 16
