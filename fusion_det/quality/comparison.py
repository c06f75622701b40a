"""One fused image beside its two sources, and the loop over a batch.

Images are taken one by one, so a value cannot depend on what else is in the batch, and memory is that of one image.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch

from fusion_det.errors import QualityError
from fusion_det.quality.table import Profile, check_profile, find_metric

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Comparison:
    """What a metric looks at.

    images: (3,H,W) uint8, the fused image, then infrared and visible; (1,H,W), the fused image alone, for metrics that
        read no source.
    """

    images: torch.Tensor
    profile: Profile
    _shared: dict[Callable[..., Any], Any] = field(default_factory=dict, repr=False)

    def shared(self, work: Callable[[Comparison], T]) -> T:
        """``work(self)``, done once however many metrics ask for it; ``work`` is a function at the top of a module."""
        if work not in self._shared:
            self._shared[work] = work(self)
        value: T = self._shared[work]
        return value


Measure = Callable[[Comparison], float]


def measure(
    measures: Mapping[str, Measure], fused: torch.Tensor, *sources: torch.Tensor, profile: Profile
) -> dict[str, torch.Tensor]:
    """Apply every measure to every image of a batch.

    Args:
        measures: metric's name → what computes it.
        fused: (B,1,H,W), see :func:`grey_levels`.
        sources: infrared and visible, of the same shape on the same device; none if no measure reads them.

    Returns:
        name → (B,) float64 on the device of ``fused``.

    Raises:
        QualityError: images of unequal shapes or devices, too small for a metric, or not grey levels; unknown profile.
    """
    profile = check_profile(profile)
    named = dict(zip(("fused", "ir", "vi"), (fused, *sources), strict=False))
    for role, image in named.items():
        if image.shape != fused.shape or image.device != fused.device:
            raise QualityError(
                f"{role} is {tuple(image.shape)} on {image.device}, fused is {tuple(fused.shape)} on {fused.device}; "
                "quality is measured between images of one size on one device"
            )
    stacked = torch.stack([grey_levels(image, role)[:, 0] for role, image in named.items()], dim=1)
    for name in measures:
        _check_size(name, profile, *stacked.shape[-2:])
    rows = [[one(comparison) for one in measures.values()] for comparison in (Comparison(s, profile) for s in stacked)]
    values = torch.tensor(rows, dtype=torch.float64, device=fused.device).reshape(len(rows), len(measures))
    return dict(zip(measures, values.unbind(1), strict=True))


def grey_levels(image: torch.Tensor, role: str) -> torch.Tensor:
    """(B,1,H,W) of any dtype holding whole grey levels 0..255 → the same as uint8.

    The metrics are defined on saved 8-bit images. Anything else is refused rather than rounded: an image in [0, 1] given
    by mistake would get plausible numbers that mean nothing.

    Raises:
        QualityError: another shape, an empty image, NaN, infinities, fractions, or values outside 0..255.
    """
    if image.ndim != 4 or image.shape[1] != 1 or 0 in image.shape[2:]:
        raise QualityError(f"{role} must be (B,1,H,W), grey, got {tuple(image.shape)}; take the luma of a colour image")
    if image.dtype == torch.uint8:
        return image
    if image.is_complex() or image.dtype == torch.bool:
        raise QualityError(f"{role} must hold grey levels 0..255, got {image.dtype}")
    if not image.is_floating_point():
        image = image.long()
    if bool(((image >= 0) & (image <= 255) & (image == image.floor())).all()):
        return image.to(torch.uint8)
    if not bool(image.isfinite().all()):
        raise QualityError(f"{role} holds NaN or infinite values; quality is defined on finite grey levels 0..255")
    low, high = float(image.min()), float(image.max())
    raise QualityError(
        f"{role} must hold whole grey levels 0..255, got values from {low:g} to {high:g} with fractions or out of range; "
        "for an image in [0, 1] give (255 * image).round()"
    )


def _check_size(name: str, profile: Profile, height: int, width: int) -> None:
    least = find_metric(name).smallest_side_in(profile)
    if min(height, width) < least:
        raise QualityError(
            f"{name} (profile {profile}) needs images of at least {least}×{least} pixels, got {width}×{height}; "
            f"leave {name} out, or measure the images before they are made smaller"
        )
