"""Every metric in every profile against a second implementation (numpy, scipy, scikit-image), on images made by code."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import as_batch, made_up_image
from direct_formulas import NAMES, direct

from fusion_det.quality import FORMULAS, PROFILES, Profile, evaluate

Triple = tuple[np.ndarray, np.ndarray, np.ndarray]


def test_the_second_implementation_is_complete() -> None:
    assert set(NAMES) == set(FORMULAS)


@pytest.mark.parametrize("profile", PROFILES)
def test_all_metrics(profile: Profile, triple: Triple) -> None:
    ours = evaluate(*(as_batch(image) for image in triple), profile=profile)
    floats = [image.astype(float) for image in triple]
    for name in FORMULAS:
        expected = direct(name, floats[0], floats[1], floats[2], profile)
        # VIF's thresholds act on rounding noise in the flat areas.
        allowed = 1e-7 if name == "VIF" else 1e-9
        assert ours[name].item() == pytest.approx(expected, rel=allowed, abs=1e-10), name


@pytest.mark.parametrize("rule", ["mean", "max", "ir", "noise"])
def test_rules_of_fusion(rule: str) -> None:
    ir, vi = made_up_image(3, 61, 74), made_up_image(4, 61, 74)
    noise = np.random.default_rng(0).integers(0, 256, ir.shape).astype(np.uint8)
    fused = {"mean": ((ir.astype(int) + vi + 1) // 2).astype(np.uint8), "max": np.maximum(ir, vi), "ir": ir}.get(
        rule, noise
    )
    names = [name for name in FORMULAS if name != "MS_SSIM" and not (rule == "ir" and name == "SCD")]
    ours = evaluate(as_batch(ir), as_batch(vi), as_batch(fused), metrics=names)
    for name in names:
        expected = direct(name, *(image.astype(float) for image in (ir, vi, fused)), profile="paper")
        assert ours[name].item() == pytest.approx(expected, rel=1e-7 if name == "VIF" else 1e-9, abs=1e-10), name


@pytest.mark.parametrize(("height", "width"), [(41, 41), (42, 47), (43, 2000), (300, 44)])
def test_vif_at_its_smallest_and_in_strips(height: int, width: int) -> None:
    ir, vi = made_up_image(1, height, width), made_up_image(2, height, width)
    fused = np.maximum(ir, vi)
    for profile in ("paper", "zoo"):
        ours = evaluate(as_batch(ir), as_batch(vi), as_batch(fused), metrics=["VIF"], profile=profile)["VIF"].item()
        expected = direct("VIF", *(image.astype(float) for image in (ir, vi, fused)), profile=profile)
        assert ours == pytest.approx(expected, rel=1e-7)


@pytest.mark.parametrize(("height", "width"), [(161, 161), (162, 163), (175, 250)])
@pytest.mark.parametrize("profile", ["zoo", "standard"])
def test_ms_ssim_at_its_smallest_and_with_odd_sides(profile: Profile, height: int, width: int) -> None:
    ir, vi = made_up_image(1, height, width), made_up_image(2, height, width)
    ours = evaluate(as_batch(ir), as_batch(vi), as_batch(ir), metrics=["MS_SSIM"], profile=profile)["MS_SSIM"].item()
    expected = direct("MS_SSIM", *(image.astype(float) for image in (ir, vi, ir)), profile=profile)
    assert ours == pytest.approx(expected, rel=1e-9)
