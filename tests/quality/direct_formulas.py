"""The metrics written down a second time, in numpy, scipy and scikit-image: slow, plain, two-dimensional windows.

They share no code and no method with ``fusion_det.quality``: no histograms of exact sums, no strips, no separable filters.
``test_golden`` holds them against the published implementations' values wherever those are at hand.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy.ndimage
import scipy.signal
from skimage.metrics import structural_similarity

Image = np.ndarray
"""(H,W) float64, whole grey levels."""


def spatial_frequency(f: Image) -> float:
    return float(np.sqrt(np.mean(np.diff(f, axis=0) ** 2) + np.mean(np.diff(f, axis=1) ** 2)))


def average_gradient(f: Image, *, profile: str) -> float:
    down, right = np.gradient(f)
    total = np.sqrt((down**2 + right**2) / 2).sum()
    height, width = f.shape
    return float(total / (height * width if profile in ("cddfuse", "zoo") else (height - 1) * (width - 1)))


def entropy(f: Image) -> float:
    share = np.unique(f, return_counts=True)[1] / f.size
    return float(-(share * np.log2(share)).sum())


def standard_deviation(f: Image) -> float:
    return float(f.std())


def mutual_information(a: Image, b: Image, f: Image, *, profile: str) -> float:
    """As entropies: I(F,S) = H(F) + H(S) − H(F,S)."""

    def bits(source: Image) -> float:
        return entropy(f) + entropy(source) - entropy(f * 1000 + source)

    total = bits(a) + bits(b)
    return total if profile == "zoo" else total * float(np.log(2))


def mse(a: Image, b: Image, f: Image, *, profile: str) -> float:
    mean = float(np.mean((a - f) ** 2) + np.mean((b - f) ** 2)) / 2
    return mean / 255**2 if profile == "zoo" else mean


def psnr(a: Image, b: Image, f: Image, *, profile: str) -> float:
    if profile == "zoo":
        return float(20 * np.log10(255 / np.sqrt(mse(a, b, f, profile="zoo"))))
    peak = 255.0 if profile == "standard" else f.max()
    return float(10 * np.log10(peak**2 / mse(a, b, f, profile=profile)))


def correlation_coefficient(a: Image, b: Image, f: Image) -> float:
    return float(np.corrcoef(a.ravel(), f.ravel())[0, 1] + np.corrcoef(b.ravel(), f.ravel())[0, 1]) / 2


def scd(a: Image, b: Image, f: Image) -> float:
    return float(
        np.corrcoef(a.ravel(), (f - b).ravel())[0, 1] + np.corrcoef(b.ravel(), (f - a).ravel())[0, 1],
    )


def vif(a: Image, b: Image, f: Image, *, profile: str) -> float:
    return _vif_of_one(a, f, profile == "zoo") + _vif_of_one(b, f, profile == "zoo")


def _vif_of_one(r: Image, d: Image, zoo: bool) -> float:
    preserved = available = 0.0
    for scale, n in enumerate((17, 9, 5, 3)):
        axis = np.linspace(-(n + 1) / 2, (n - 1) / 2, n) if zoo else np.arange(n) - n // 2
        window = np.exp(-(axis[:, None] ** 2 + axis**2) / (2 * (n / 5) ** 2))
        window /= window.sum()

        def smooth(x: Image, window: Image = window) -> Image:
            return scipy.signal.correlate2d(x, window, mode="same" if zoo else "valid")

        if scale:
            r, d = smooth(r)[::2, ::2], smooth(d)[::2, ::2]
        mean_r, mean_d = smooth(r), smooth(d)
        var_r = np.maximum(smooth(r * r) - mean_r**2, 0)
        var_d = np.maximum(smooth(d * d) - mean_d**2, 0)
        covariance = smooth(r * d) - mean_r * mean_d
        gain = covariance / (var_r + 1e-10)
        noise = var_d - gain * covariance
        for case in (var_r < 1e-10, gain < 0):
            noise[case], gain[case] = var_d[case], 0
        var_r[var_r < 1e-10] = 0
        gain[var_d < 1e-10] = noise[var_d < 1e-10] = 0
        noise = np.maximum(noise, 1e-10)
        preserved += np.log10(1 + gain**2 * var_r / (noise + 2)).sum()
        available += np.log10(1 + var_r / 2).sum()
    return float(preserved / available) if available else 1.0


def qabf(a: Image, b: Image, f: Image) -> float:
    gradients = [_xydeas_gradient(x) for x in (a, b, f)]
    strength_f, angle_f = gradients[2]
    top = bottom = 0.0
    for strength, angle in gradients[:2]:
        with np.errstate(invalid="ignore", divide="ignore"):
            ratio = np.where(
                strength > strength_f,
                strength_f / strength,
                np.where(strength == strength_f, strength_f, strength / strength_f),
            )
        turn = 1 - np.abs(angle - angle_f) / (np.pi / 2)
        quality = 0.9994 / (1 + np.exp(-15 * (ratio - 0.5))) * 0.9879 / (1 + np.exp(-22 * (turn - 0.8)))
        top += (quality * strength).sum()
        bottom += strength.sum()
    return float(top / bottom)


def _xydeas_gradient(x: Image) -> tuple[Image, Image]:
    kernel = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]], dtype=float)
    across = scipy.ndimage.correlate(x, kernel, mode="constant")
    up = scipy.ndimage.correlate(x, -kernel.T, mode="constant")
    angle = np.full_like(x, np.pi / 2)
    angle[across != 0] = np.arctan(up[across != 0] / across[across != 0])
    return np.sqrt(across**2 + up**2), angle


def nabf(a: Image, b: Image, f: Image, *, weak_edge_weight: float = 0.0) -> float:
    gradients = [_petrovic_gradient(x) for x in (a, b, f)]
    strength_f, angle_f = gradients[2]
    new = (strength_f > gradients[0][0]) & (strength_f > gradients[1][0])
    top = bottom = 0.0
    for strength, angle in gradients[:2]:
        larger, smaller = np.maximum(strength, strength_f), np.minimum(strength, strength_f)
        ratio = np.divide(smaller, larger, out=np.zeros_like(larger), where=smaller > 0)
        turn = np.abs(np.abs(angle - angle_f) - np.pi / 2) * 2 / np.pi
        quality = np.sqrt(0.9999 / (1 + np.exp(-19 * (ratio - 0.5))) * 0.9995 / (1 + np.exp(-22 * (turn - 0.5))))
        weight = np.where(strength >= 2, strength**1.5, weak_edge_weight)
        top += ((1 - quality) * weight)[new].sum()
        bottom += weight.sum()
    return float(top / bottom)


def _petrovic_gradient(x: Image) -> tuple[Image, Image]:
    kernel = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]) / 8
    across = scipy.ndimage.correlate(x, kernel, mode="mirror")
    down = scipy.ndimage.correlate(x, kernel.T, mode="mirror")
    with np.errstate(invalid="ignore", divide="ignore"):
        angle = np.arctan(across / down)
    return np.sqrt(across**2 + down**2), np.where((across == 0) & (down == 0), 0, angle)


def ssim(a: Image, b: Image, f: Image, *, profile: str) -> float:
    if profile in ("paper", "cddfuse"):
        return float(sum(structural_similarity(f, s, data_range=2) for s in (a, b)))
    span = 255 if profile == "standard" else 1
    return sum(_gaussian_ssim(f, s, span)[0] for s in (a, b))


def _gaussian_ssim(x: Image, y: Image, span: float) -> tuple[float, float]:
    """(SSIM, contrast-structure); the first as scikit-image has it, the second from the definition."""
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": span}
    whole = structural_similarity(x, y, **options)

    def smooth(image: Image) -> Image:
        return scipy.ndimage.gaussian_filter(image, 1.5, truncate=3.5)[5:-5, 5:-5]

    mean_x, mean_y, c2 = smooth(x), smooth(y), (0.03 * span) ** 2
    variances = smooth(x * x) - mean_x**2 + smooth(y * y) - mean_y**2
    structure = (2 * (smooth(x * y) - mean_x * mean_y) + c2) / (variances + c2)
    return float(whole), float(structure.mean())


def ms_ssim(a: Image, b: Image, f: Image, *, profile: str) -> float:
    return sum(_ms_ssim_of_one(f, s, 255 if profile == "standard" else 1) for s in (a, b))


def _ms_ssim_of_one(x: Image, y: Image, span: float) -> float:
    product = 1.0
    exponents = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
    for level, exponent in enumerate(exponents):
        if level:
            x, y = (_pooled(image) for image in (x, y))
        whole, structure = _gaussian_ssim(x, y, span)
        product *= max(0.0, whole if level == len(exponents) - 1 else structure) ** exponent
    return product


def _pooled(x: Image) -> Image:
    padded = np.pad(x, ((x.shape[0] % 2, 0), (x.shape[1] % 2, 0)))
    return padded.reshape(padded.shape[0] // 2, 2, padded.shape[1] // 2, 2).mean(axis=(1, 3))


OF_FUSED: dict[str, Callable[..., float]] = {"SF": spatial_frequency, "EN": entropy, "SD": standard_deviation}
OF_FUSED_BY_PROFILE: dict[str, Callable[..., float]] = {"AG": average_gradient}
OF_ALL: dict[str, Callable[..., float]] = {"CC": correlation_coefficient, "SCD": scd, "Qabf": qabf, "Nabf": nabf}
OF_ALL_BY_PROFILE: dict[str, Callable[..., float]] = {
    "VIF": vif,
    "MI": mutual_information,
    "MSE": mse,
    "PSNR": psnr,
    "SSIM": ssim,
    "MS_SSIM": ms_ssim,
}
NAMES = (*OF_FUSED, *OF_FUSED_BY_PROFILE, *OF_ALL, *OF_ALL_BY_PROFILE)


def direct(name: str, a: Image, b: Image, f: Image, profile: str) -> float:
    """The metric of that name for infrared ``a``, visible ``b`` and fused ``f``."""
    if name in OF_FUSED:
        return OF_FUSED[name](f)
    if name in OF_FUSED_BY_PROFILE:
        return OF_FUSED_BY_PROFILE[name](f, profile=profile)
    if name in OF_ALL:
        return OF_ALL[name](a, b, f)
    return OF_ALL_BY_PROFILE[name](a, b, f, profile=profile)
