"""What must hold whatever the images show, and what happens with images that are hardly images."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from conftest import as_batch, made_up_image
from hypothesis import given, settings
from hypothesis import strategies as st

import fusion_det.quality as quality
from fusion_det.errors import QualityError
from fusion_det.quality import FORMULAS, METRICS, PROFILES, Profile, evaluate, windows

Triple = tuple[np.ndarray, np.ndarray, np.ndarray]
SMALL = [name for name in FORMULAS if name not in ("MS_SSIM", "VIF")]
"""Metrics of images of 11×11 pixels and more."""

few = settings(max_examples=25, deadline=None)
profiles = st.sampled_from(PROFILES)


@st.composite
def images(draw: st.DrawFn, count: int, smallest: int = 11) -> list[torch.Tensor]:
    """(1,1,H,W) uint8 of one size: noise of few or many levels, so that ties, flat areas and constants occur."""
    height, width = draw(st.tuples(st.integers(smallest, smallest + 12), st.integers(smallest, smallest + 12)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    chosen = []
    for _ in range(count):
        levels = draw(st.sampled_from([1, 2, 5, 256]))
        scale = 255 // max(levels - 1, 1)
        chosen.append(as_batch((rng.integers(0, levels, (height, width)) * scale).astype(np.uint8)))
    return chosen


@few
@given(images(3), profiles)
def test_values_lie_in_their_ranges(batch: list[torch.Tensor], profile: Profile) -> None:
    for name, value in evaluate(*batch, metrics=SMALL, profile=profile).items():
        metric = quality.find_metric(name)
        assert metric.low - 1e-9 <= value.item() <= metric.high + 1e-9, name


@few
@given(images(3), profiles)
def test_sources_may_be_swapped(batch: list[torch.Tensor], profile: Profile) -> None:
    ir, vi, fused = batch
    one = evaluate(ir, vi, fused, metrics=SMALL, profile=profile)
    other = evaluate(vi, ir, fused, metrics=SMALL, profile=profile)
    for name in SMALL:
        torch.testing.assert_close(one[name], other[name], rtol=1e-12, atol=1e-12, msg=name)


@few
@given(images(3), profiles)
def test_mirror_images_are_worth_the_same(batch: list[torch.Tensor], profile: Profile) -> None:
    """Not VIF and MS_SSIM, which drop every second row beginning with the first, nor Qabf with its rule for Gx = 0."""
    names = [name for name in SMALL if name != "Qabf"]
    here = evaluate(*batch, metrics=names, profile=profile)
    for dims in ([-1], [-2]):
        there = evaluate(*(image.flip(dims) for image in batch), metrics=names, profile=profile)
        for name in names:
            torch.testing.assert_close(here[name], there[name], rtol=1e-9, atol=1e-9, msg=name)


@few
@given(images(1), st.integers(0, 255))
def test_brightness_is_no_detail(batch: list[torch.Tensor], shift: int) -> None:
    (image,) = batch
    dark = image // 2
    bright = dark + min(shift, 255 - int(dark.max()))
    for metric in (quality.spatial_frequency, quality.average_gradient, quality.entropy, quality.standard_deviation):
        torch.testing.assert_close(metric(dark), metric(bright), rtol=1e-12, atol=1e-12)


@few
@given(images(1), profiles)
def test_a_perfect_copy_of_both_sources(batch: list[torch.Tensor], profile: Profile) -> None:
    (image,) = batch
    values = {
        name: value.item() for name, value in evaluate(image, image, image, metrics=SMALL, profile=profile).items()
    }
    constant = int(image.min()) == int(image.max())
    bits = 1 if profile == "zoo" else math.log(2)
    assert values["MSE"] == 0
    assert values["PSNR"] == math.inf
    assert values["SSIM"] == pytest.approx(2, abs=1e-9)
    assert values["CC"] == pytest.approx(0 if constant else 1, abs=1e-12)
    assert values["SCD"] == 0
    assert values["MI"] == pytest.approx(2 * bits * values["EN"], rel=1e-12)
    assert values["Nabf"] == 0


@pytest.mark.parametrize("profile", PROFILES)
def test_a_perfect_copy_at_every_scale(profile: Profile) -> None:
    image = as_batch(made_up_image(1, 180, 190))
    values = evaluate(image, image, image, metrics=["VIF", "MS_SSIM"], profile=profile)
    assert values["VIF"].item() == pytest.approx(2, abs=1e-9)
    assert values["MS_SSIM"].item() == pytest.approx(2, abs=1e-9)


@pytest.mark.parametrize("profile", PROFILES)
def test_constant_images_have_defined_values(profile: Profile) -> None:
    grey = torch.full((1, 1, 170, 170), 77, dtype=torch.uint8)
    black = torch.zeros_like(grey)
    real = as_batch(made_up_image(1, 170, 170))
    for batch in (
        (grey, grey, grey),
        (black, black, black),
        (black, black, real),
        (real, real, grey),
        (grey, real, real),
    ):
        values = evaluate(*batch, profile=profile)
        assert not any(value.isnan().item() for value in values.values())
    all_grey = evaluate(grey, grey, grey, profile=profile)
    assert all_grey["VIF"].item() == pytest.approx(2, abs=1e-9)  # zoo's zeros beyond the border are no constant
    assert all_grey["SSIM"].item() == pytest.approx(2, abs=1e-6)
    for name in ("SF", "AG", "EN", "SD", "MI", "CC", "SCD", "MSE", "Nabf"):
        assert all_grey[name].item() == 0, name
    assert evaluate(black, black, real, metrics=["Qabf", "Nabf"]) == {
        "Qabf": torch.zeros(1, dtype=torch.float64),
        "Nabf": torch.zeros(1, dtype=torch.float64),
    }
    assert evaluate(real, real, black, metrics=["PSNR"])["PSNR"].item() == -math.inf


def test_an_image_does_not_know_its_batch(triple: Triple) -> None:
    mixed = [[image, image[::-1].copy(), np.full_like(image, 9)] for image in triple]
    together = evaluate(*(as_batch(*group) for group in mixed))
    for i in range(3):
        alone = evaluate(*(as_batch(group[i]) for group in mixed))
        for name in FORMULAS:
            assert together[name][i] == alone[name][0], name


@pytest.mark.parametrize("profile", PROFILES)
def test_each_function_is_its_column(profile: Profile, triple: Triple) -> None:
    batch = [as_batch(image) for image in triple]
    together = evaluate(*batch, profile=profile)
    for metric in METRICS:
        if metric.learned:
            continue
        function = getattr(quality, metric.function)
        arguments = batch if metric.needs_sources else batch[2:]
        keywords = {"profile": profile} if "profile" in (function.__kwdefaults__ or ()) else {}
        assert torch.equal(function(*arguments, **keywords), together[metric.name]), metric.name


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.int16, torch.int64])
def test_the_container_of_the_levels_does_not_matter(dtype: torch.dtype, triple: Triple) -> None:
    batch = [as_batch(image) for image in triple]
    here, there = evaluate(*batch), evaluate(*(image.to(dtype) for image in batch))
    assert all(torch.equal(here[name], there[name]) for name in FORMULAS)


def test_strips_are_only_a_matter_of_speed(triple: Triple, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = [as_batch(image) for image in triple]
    values = []
    for pixels in (1, 2**30):
        monkeypatch.setattr(windows, "_STRIP_PIXELS", {"cpu": pixels})
        values.append(evaluate(*batch))
    for name in FORMULAS:
        torch.testing.assert_close(values[0][name], values[1][name], rtol=1e-11, atol=1e-12, msg=name)


def test_threads_are_left_alone(triple: Triple) -> None:
    before = torch.get_num_threads()
    evaluate(*(as_batch(image) for image in triple), metrics=["VIF"])
    assert torch.get_num_threads() == before


def test_an_empty_batch_has_no_values() -> None:
    none = torch.zeros(0, 1, 200, 200, dtype=torch.uint8)
    assert all(value.shape == (0,) and value.dtype == torch.float64 for value in evaluate(none, none, none).values())


@pytest.mark.parametrize("profile", PROFILES)
def test_each_metric_says_how_small_is_too_small(profile: Profile) -> None:
    for metric in METRICS:
        if metric.learned:
            continue
        least = metric.smallest_side_in(profile)
        for side in {least, least + 1, 8} - set(range(least)):
            image = as_batch(made_up_image(1, side, side + 3))
            value = evaluate(image, image, image, metrics=[metric.name], profile=profile)[metric.name]
            assert not value.isnan().any(), (metric.name, side)
        if least > 1:
            image = torch.zeros(1, 1, 300, least - 1, dtype=torch.uint8)
            with pytest.raises(QualityError, match=f"{metric.name}.*at least {least}×{least}"):
                evaluate(image, image, image, metrics=[metric.name], profile=profile)


def test_more_than_twelve_megapixels_do_not_overflow() -> None:
    """Sums of products of counts leave 64 bits there."""
    black, white = (
        torch.zeros(1, 1, 2000, 7000, dtype=torch.uint8),
        torch.full((1, 1, 2000, 7000), 255, dtype=torch.uint8),
    )
    fused = torch.cat((black[:, :, 1000:], white[:, :, 1000:]), dim=2)
    assert quality.standard_deviation(fused).item() == 127.5
    values = evaluate(fused, 255 - fused, fused, metrics=["CC", "SCD", "MSE", "MI"])
    assert [value.item() for value in values.values()] == [0, 1, 255**2 / 2, pytest.approx(2 * math.log(2))]


good = torch.zeros(2, 1, 20, 20)


@pytest.mark.parametrize(
    ("image", "says"),
    [
        (torch.full_like(good, float("nan")), "NaN"),
        (torch.full_like(good, float("inf")), "infinite"),
        (torch.rand(2, 1, 20, 20), r"\(255 \* image\).round\(\)"),
        (torch.full_like(good, 256), "out of range"),
        (torch.full_like(good, -1), "out of range"),
        (torch.full_like(good, 1e30), "out of range"),
        (torch.zeros(2, 1, 20, 20, dtype=torch.bool), "bool"),
        (torch.zeros(2, 3, 20, 20), "luma of a colour image"),
        (torch.zeros(20, 20), "B,1,H,W"),
        (torch.zeros(2, 1, 0, 20), "B,1,H,W"),
    ],
)
def test_what_is_not_an_8_bit_image_is_refused(image: torch.Tensor, says: str) -> None:
    with pytest.raises(QualityError, match=f"fused.*{says}"):
        quality.entropy(image)


def test_images_of_unequal_sizes_are_refused() -> None:
    with pytest.raises(QualityError, match=r"vi is \(2, 1, 20, 21\).*fused is \(2, 1, 20, 20\)"):
        evaluate(good, torch.zeros(2, 1, 20, 21), good, metrics=["CC"])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("profile", PROFILES)
def test_a_gpu_computes_the_same(profile: Profile, triple: Triple) -> None:
    batch = [as_batch(image, image[::-1].copy()) for image in triple]
    here = evaluate(*batch, profile=profile)
    there = evaluate(*(image.cuda() for image in batch), profile=profile)
    for name in FORMULAS:
        assert there[name].is_cuda
        torch.testing.assert_close(
            there[name].cpu(), here[name], rtol=1e-7 if name == "VIF" else 1e-10, atol=1e-12, msg=name
        )
