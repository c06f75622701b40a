"""Several metrics of the same images in one go, sharing what they have in common."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

import torch

from fusion_det.errors import QualityError
from fusion_det.quality import edges, fidelity, gradients, intensity, similarity
from fusion_det.quality.comparison import Measure, measure
from fusion_det.quality.table import FORMULAS, Profile, find_metrics

_MEASURES: Mapping[str, Measure] = MappingProxyType(
    {
        "SF": gradients.spatial_frequency_of,
        "AG": gradients.average_gradient_of,
        "VIF": fidelity.vif_of,
        "Qabf": edges.qabf_of,
        "MI": intensity.mutual_information_of,
        "EN": intensity.entropy_of,
        "SD": intensity.standard_deviation_of,
        "SCD": intensity.scd_of,
        "CC": intensity.correlation_of,
        "PSNR": intensity.psnr_of,
        "MSE": intensity.mse_of,
        "SSIM": similarity.ssim_of,
        "MS_SSIM": similarity.ms_ssim_of,
        "Nabf": edges.nabf_of,
    }
)


def evaluate(
    ir: torch.Tensor,
    vi: torch.Tensor,
    fused: torch.Tensor,
    *,
    metrics: Iterable[str] = FORMULAS,
    profile: Profile = "paper",
) -> dict[str, torch.Tensor]:
    """Measure fused images against their sources.

    Histograms and the window statistics SSIM and MS_SSIM have in common are made once. The values are those of the metrics'
    own functions, bit for bit, and those of an image do not depend on the rest of the batch.

    Args:
        ir, vi, fused: (B,1,H,W) on one device, whole grey levels 0..255 in any dtype: the saved 8-bit image, read back.
        metrics: names of :data:`~fusion_det.quality.METRICS` that are not learned; all fourteen by default.
        profile: the conventions, see :data:`~fusion_det.quality.Profile`.

    Returns:
        name → (B,) float64 on the images' device, in the order of ``metrics``.

    Raises:
        QualityError: an unknown metric or profile, a learned metric, images that are not grey levels, are of unequal sizes,
            or too small for one of the metrics (``METRICS`` says how large they must be).
    """
    chosen = find_metrics(metrics)
    if learned := [metric for metric in chosen if metric.learned]:
        raise QualityError(
            f"{learned[0].name} is computed by a network that is to be loaded once, not for every image: "
            f"use fusion_det.quality.learned_metric({learned[0].name!r})"
        )
    return measure({metric.name: _MEASURES[metric.name] for metric in chosen}, fused, ir, vi, profile=profile)
