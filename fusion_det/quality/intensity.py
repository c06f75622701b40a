"""Metrics of grey levels without regard to where they are: EN, SD, MI, MSE, PSNR, CC, SCD.

All of them follow from the joint histograms of the fused image and its sources. Counts and sums of 8-bit levels are
whole numbers, so means, variances and covariances are exact here: a constant image has a variance of exactly zero.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from fusion_det.quality.comparison import Comparison, measure
from fusion_det.quality.table import Profile

LEVELS = 256


def entropy(fused: torch.Tensor) -> torch.Tensor:
    """EN: Shannon entropy of the 256-bin histogram, −Σ p log₂ p, in bits. Higher is better.

    Range 0 (constant) to 8. The same in every profile (IVIF_ZOO adds 1e-7 inside the logarithm: at most 6e-6 relative).

    Args:
        fused: (B,1,H,W), whole grey levels 0..255 in any dtype.

    Returns:
        (B,) float64.

    Source: Roberts, van Aardt, Ahmed, J. Appl. Remote Sens. 2, 2008.
    """
    return measure({"EN": entropy_of}, fused, profile="paper")["EN"]


def standard_deviation(fused: torch.Tensor) -> torch.Tensor:
    """SD: population standard deviation of the grey levels, sqrt(⟨(F − ⟨F⟩)²⟩). Higher is better.

    Range 0 to 127.5. The same in every profile.

    Args:
        fused: (B,1,H,W), whole grey levels 0..255 in any dtype.

    Returns:
        (B,) float64.

    Source: Rao, Meas. Sci. Technol. 8(4), 1997 (the customary citation).
    """
    return measure({"SD": standard_deviation_of}, fused, profile="paper")["SD"]


def mutual_information(
    ir: torch.Tensor, vi: torch.Tensor, fused: torch.Tensor, *, profile: Profile = "paper"
) -> torch.Tensor:
    """MI: what the fused image tells about its sources; the **sum** I(F,A) + I(F,B). Higher is better.

    I(F,S) = Σ p(f,s) log(p(f,s) / (p(f) p(s))) over the 256×256 joint histogram, without re-binning. Range 0 (also for a
    constant image) to twice the entropy of F. ``zoo``: log₂, bits; the other profiles: natural logarithm, nats.

    Args:
        ir, vi, fused: (B,1,H,W), whole grey levels 0..255 in any dtype.

    Returns:
        (B,) float64.

    Source: Qu, Zhang, Yan, Electron. Lett. 38(7), 2002.
    """
    return measure({"MI": mutual_information_of}, fused, ir, vi, profile=profile)["MI"]


def mse(ir: torch.Tensor, vi: torch.Tensor, fused: torch.Tensor, *, profile: Profile = "paper") -> torch.Tensor:
    """MSE: the **mean** over both sources of their mean squared difference to the fused image. Lower is better.

    M = (⟨(A−F)²⟩ + ⟨(B−F)²⟩)/2, in squared grey levels, 0 to 65025. ``zoo``: M/255², images in 0..1.

    Args:
        ir, vi, fused: (B,1,H,W), whole grey levels 0..255 in any dtype.

    Returns:
        (B,) float64.

    Source: Jagalingam, Hegde, Aquatic Procedia 4, 2015.
    """
    return measure({"MSE": mse_of}, fused, ir, vi, profile=profile)["MSE"]


def psnr(ir: torch.Tensor, vi: torch.Tensor, fused: torch.Tensor, *, profile: Profile = "paper") -> torch.Tensor:
    """PSNR: peak power over the **mean** M of both squared errors (see :func:`mse`), in dB. Higher is better.

    ``paper``, ``cddfuse``: 10 log₁₀(max(F)²/M), the peak being the maximum of this fused image. ``standard``:
    10 log₁₀(255²/M). ``zoo``: 20 log₁₀(255/√(M/255²)), 48.13 dB above ``standard``. Infinite for M = 0, also where F is
    black; −∞ for a black F that differs from a source where the peak is max(F).

    Args:
        ir, vi, fused: (B,1,H,W), whole grey levels 0..255 in any dtype.

    Returns:
        (B,) float64.

    Source: Jagalingam, Hegde, Aquatic Procedia 4, 2015.
    """
    return measure({"PSNR": psnr_of}, fused, ir, vi, profile=profile)["PSNR"]


def correlation_coefficient(ir: torch.Tensor, vi: torch.Tensor, fused: torch.Tensor) -> torch.Tensor:
    """CC: the **mean** (r(A,F) + r(B,F))/2 of the Pearson correlations over pixels. Higher is better.

    Range −1 to 1. The same in every profile. A constant image correlates with nothing: r = 0 (published code: NaN).

    Args:
        ir, vi, fused: (B,1,H,W), whole grey levels 0..255 in any dtype.

    Returns:
        (B,) float64.

    Source: Deshmukh, Bhosale, Int. J. Image Process. 4(5), 2010.
    """
    return measure({"CC": correlation_of}, fused, ir, vi, profile="paper")["CC"]


def scd(ir: torch.Tensor, vi: torch.Tensor, fused: torch.Tensor) -> torch.Tensor:
    """SCD: the **sum** r(A, F−B) + r(B, F−A): what is left of F without one source should be the other. Higher is better.

    Range −2 to 2. The same in every profile. Where a difference or a source is constant (F is a copy of a source, say)
    its correlation is 0 (published code: NaN).

    Args:
        ir, vi, fused: (B,1,H,W), whole grey levels 0..255 in any dtype.

    Returns:
        (B,) float64.

    Source: Aslantas, Bendes, AEÜ 69(12), 2015.
    """
    return measure({"SCD": scd_of}, fused, ir, vi, profile="paper")["SCD"]


def entropy_of(images: Comparison) -> float:
    counts = torch.bincount(images.images[0].flatten(), minlength=LEVELS)
    share = counts[counts > 0].double() / counts.sum()
    return max(0.0, -float((share * share.log2()).sum()))


def standard_deviation_of(images: Comparison) -> float:
    level = torch.arange(LEVELS, device=images.images.device)
    counts = torch.bincount(images.images[0].flatten(), minlength=LEVELS)
    pixels, total, squares = (int(s.sum()) for s in (counts, counts * level, counts * level * level))
    return math.sqrt(pixels * squares - total**2) / pixels


def mutual_information_of(images: Comparison) -> float:
    nats = sum(_information(joint) for joint in images.shared(joint_histograms))
    return nats / math.log(2) if images.profile == "zoo" else nats


def mse_of(images: Comparison) -> float:
    mean = _mean_squared_error(images)
    return mean / 255**2 if images.profile == "zoo" else mean


def psnr_of(images: Comparison) -> float:
    mean = _mean_squared_error(images)
    peak = int(images.images[0].max()) if images.profile in ("paper", "cddfuse") else 255
    if mean == 0:
        return math.inf
    if peak == 0:
        return -math.inf
    gain = 20 * math.log10(255) if images.profile == "zoo" else 0.0
    return 10 * math.log10(peak**2 / mean) + gain


def correlation_of(images: Comparison) -> float:
    sums = images.shared(exact_sums)
    return sum(_correlation(sums.with_fused[s], sums.variance[s], sums.variance_fused) for s in (0, 1)) / 2


def scd_of(images: Comparison) -> float:
    sums = images.shared(exact_sums)
    total = 0.0
    for source, other in ((0, 1), (1, 0)):
        difference = sums.variance_fused - 2 * sums.with_fused[other] + sums.variance[other]
        total += _correlation(sums.with_fused[source] - sums.between, sums.variance[source], difference)
    return total


def joint_histograms(images: Comparison) -> tuple[torch.Tensor, torch.Tensor]:
    """Counts of (fused level, source level) for infrared and visible: two (256,256) int64."""
    fused, ir, vi = images.images
    return _joint_histogram(fused, ir), _joint_histogram(fused, vi)


@dataclass(frozen=True)
class ExactSums:
    """Whole numbers: variances and covariances times the squared number of pixels; sources are (infrared, visible)."""

    variance_fused: int
    variance: tuple[int, int]
    with_fused: tuple[int, int]
    between: int


def exact_sums(images: Comparison) -> ExactSums:
    with_ir, with_vi = images.shared(joint_histograms)
    fused, ir, to_ir = _second_moments(with_ir)
    _, vi, to_vi = _second_moments(with_vi)
    between = _second_moments(_joint_histogram(images.images[1], images.images[2]))[2]
    return ExactSums(fused, (ir, vi), (to_ir, to_vi), between)


def _joint_histogram(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    index = one.to(torch.int32).mul_(LEVELS).add_(other)
    return torch.bincount(index.flatten(), minlength=LEVELS**2).reshape(LEVELS, LEVELS)


def _second_moments(joint: torch.Tensor) -> tuple[int, int, int]:
    """Variance of the row's level, of the column's level, and covariance, each times the squared number of pixels.

    Python's integers: the products leave 64 bits for images above 12 megapixels.
    """
    level = torch.arange(LEVELS, device=joint.device)
    rows, columns = joint.sum(1), joint.sum(0)
    pixels, x, y = (int(s.sum()) for s in (joint, rows * level, columns * level))
    xx, yy = (int((counts * level * level).sum()) for counts in (rows, columns))
    xy = int((joint * level[:, None] * level).sum())
    return pixels * xx - x * x, pixels * yy - y * y, pixels * xy - x * y


def _mean_squared_error(images: Comparison) -> float:
    joints = images.shared(joint_histograms)
    level = torch.arange(LEVELS, device=images.images.device)
    squares = (level[:, None] - level).square()
    return sum(int((joint * squares).sum()) for joint in joints) / (2 * images.images[0].numel())


def _information(joint: torch.Tensor) -> float:
    """I in nats. For a constant image every ratio is exactly 1, hence the sum exactly 0."""
    share = joint.double() / joint.sum()
    independent = share.sum(1, keepdim=True) * share.sum(0, keepdim=True)
    seen = joint > 0
    return max(0.0, float((share[seen] * (share[seen] / independent[seen]).log()).sum()))


def _correlation(covariance: int, variance_one: int, variance_other: int) -> float:
    if variance_one == 0 or variance_other == 0:
        return 0.0
    return covariance / (math.sqrt(variance_one) * math.sqrt(variance_other))
