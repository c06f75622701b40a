"""VIF: visual information fidelity in the pixel domain, over four scales."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from fusion_det.quality.comparison import Comparison, measure
from fusion_det.quality.table import Profile
from fusion_det.quality.windows import WindowStatistics, gaussian_window, halved, normalised_gaussian, window_statistics

WINDOWS = (17, 9, 5, 3)
"""Side of the window at each scale; its sigma is a fifth of that."""
NOISE_VARIANCE = 2.0
EPSILON = 1e-10


def vif(ir: torch.Tensor, vi: torch.Tensor, fused: torch.Tensor, *, profile: Profile = "paper") -> torch.Tensor:
    """VIF: the **sum** v(A,F) + v(B,F) of the information each source shares with the fused image. Higher is better.

    At each of four scales, from the moments of reference R and fused image F under a Gaussian window: gain g = c/σR²,
    residual n = σF² − g c, and v = Σ log(1 + g²σR²/(n+2)) / Σ log(1 + σR²/2) over all positions and scales. 0 for a constant
    F; v = 1 for F = R and, by definition, for a constant R; above 1 if F has more contrast than R.
    Between scales the images are filtered with the coming scale's window and every second row and column is kept.

    ``zoo``: the window's weights are sampled at N equally spaced points from −(N+1)/2 to (N−1)/2, and images continue as
    zeros beyond their border (+8 % on average, −4 to +43 %). The other profiles: a true Gaussian, inside the image only.

    Args:
        ir, vi, fused: (B,1,H,W), whole grey levels 0..255 in any dtype; at least 41×41 pixels except in ``zoo``.

    Returns:
        (B,) float64.

    Source: Sheikh, Bovik, IEEE TIP 15(2), 2006; the authors' later pixel-domain simplification, ``vifp_mscale``. What
    CDDFuse's code calls VIFF is this; the VIFF of Han et al. (Inf. Fusion 14(2), 2013) is another measure.
    """
    return measure({"VIF": vif_of}, fused, ir, vi, profile=profile)["VIF"]


def vif_of(images: Comparison) -> float:
    zoo = images.profile == "zoo"
    levels = images.images
    preserved, available = torch.zeros(2, 2, dtype=torch.float64, device=levels.device)
    for scale, size in enumerate(WINDOWS):
        taps = _zoo_window(size) if zoo else gaussian_window(size, size / 5)
        margins = (size // 2,) * 4 if zoo else (0,) * 4
        if scale:
            levels = halved(F.pad(levels, margins), taps)
        for statistics in window_statistics(F.pad(levels, margins), taps):
            kept, there = _information(statistics)
            preserved += kept
            available += there
    return sum(k / t if t > 0 else 1.0 for k, t in zip(preserved.tolist(), available.tolist(), strict=True))


def _information(statistics: WindowStatistics) -> tuple[torch.Tensor, torch.Tensor]:
    """What is preserved of each source and what there was to preserve: two (2,). Overwrites the variances.

    The published order of cases comes to this: no gain where it would be negative or either image is flat, and a residual
    of at least epsilon.
    """
    variance = statistics.variance.clamp_(min=0)
    variance_fused = statistics.variance_fused.clamp_(min=0)
    flat = variance < EPSILON
    gain = statistics.covariance.clamp(min=0).div_(variance + EPSILON)
    gain.masked_fill_(flat | (variance_fused < EPSILON), 0)
    residual = torch.addcmul(variance_fused, gain, statistics.covariance, value=-1).clamp_(min=EPSILON)
    variance.masked_fill_(flat, 0)
    signal = gain.square_().mul_(variance).div_(residual.add_(NOISE_VARIANCE)).log1p_()
    return signal.sum((-2, -1)), variance.div_(NOISE_VARIANCE).log1p_().sum((-2, -1))


def _zoo_window(size: int) -> list[float]:
    step = size / (size - 1)
    return normalised_gaussian([-(size + 1) / 2 + step * index for index in range(size)], size / 5)
