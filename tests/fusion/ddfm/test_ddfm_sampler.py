"""DDFM's schedule, EM step and sampler against recorded arrays and closed forms; the published procedure to its bytes."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from fusion_det.efficiency.assessment import count
from fusion_det.errors import MethodError
from fusion_det.fusion import build_method
from fusion_det.fusion.methods.ddfm import DDFM, em, official, sampler
from fusion_det.fusion.methods.ddfm.config import CONFIGS, DDFMConfig
from fusion_det.fusion.methods.ddfm.em import Sources, em_step, fresh_state, sources_of
from fusion_det.fusion.methods.ddfm.network import UNet
from fusion_det.fusion.methods.ddfm.sampler import LUMA, Sample, luma_of, sample, start_noise
from fusion_det.fusion.methods.ddfm.schedule import alphas_cumprod, kept_timesteps, sample_steps

Arrays = dict[str, torch.Tensor]


def stretched_to_ones(image: torch.Tensor) -> torch.Tensor:
    """(H,W) in 0 … 255 to (1,1,H,W) in [-1,1]."""
    return (2 * image.float() / 255 - 1)[None, None]


def assert_near(actual: torch.Tensor, expected: torch.Tensor, tolerance: float) -> None:
    torch.testing.assert_close(actual.squeeze(), expected.squeeze(), atol=tolerance, rtol=0)


@pytest.fixture(scope="module")
def recorded_sources(golden: Arrays) -> Sources:
    return sources_of(stretched_to_ones(golden["em_vi"]), stretched_to_ones(golden["em_ir"]))


def test_schedule_is_as_recorded(golden: Arrays) -> None:
    assert kept_timesteps(5) == golden["timesteps"].tolist()
    np.testing.assert_allclose(alphas_cumprod()[kept_timesteps(5)], golden["alphas_cumprod"], rtol=1e-12)


def test_kept_timesteps() -> None:
    assert kept_timesteps(100)[:8] == [0, 10, 20, 30, 40, 50, 61, 71]
    assert kept_timesteps(100)[-2:] == [989, 999]
    assert kept_timesteps(1) == [0]
    assert kept_timesteps(1000) == list(range(1000))


def test_coefficients_undo_each_other() -> None:
    """√ᾱ · image + √(1 - ᾱ) · noise is turned back into the image by the coefficients of the step that begins there."""
    steps = sample_steps(20)
    for before, step in itertools.pairwise(steps):
        image, noise = 0.7, -1.3
        x = before.next_image * image + before.next_noise * noise
        assert step.image * x - step.noise * noise == pytest.approx(image, abs=1e-4)
    assert (steps[-1].timestep, steps[-1].next_image, steps[-1].next_noise) == (0, 1.0, 0.0)


def test_em_is_as_recorded(golden: Arrays, recorded_sources: Sources) -> None:
    state = fresh_state(recorded_sources.visible)
    for call in range(2):
        step = em_step(recorded_sources, state, golden["em_f_pre"][call][None, None])
        state = step.state
        assert_near(step.fused, golden["em_F"][call], 1e-5)
        assert_near(state.tau_visible, golden["em_tau_a"][call], 1e-6)
        assert_near(state.tau_infrared, golden["em_tau_b"][call], 1e-6)
    torch.testing.assert_close(1 / step.inverse_c[0, 0], golden["em_C"], rtol=1e-3, atol=0)
    torch.testing.assert_close(step.d[0, 0], golden["em_D"], rtol=1e-3, atol=0)
    assert_near(step.smooth, golden["em_H"], 1e-5)
    assert_near(state.across, golden["em_F1"], 1e-8)
    assert_near(state.down, golden["em_F2"], 1e-8)


def test_em_with_much_smoothness_is_as_recorded(golden: Arrays, recorded_sources: Sources) -> None:
    """ρ = 0.5, where the slopes of the step before matter."""
    state = fresh_state(recorded_sources.visible)
    for call, given in enumerate((0, 1, 0)):
        step = em_step(recorded_sources, state, golden["em_f_pre"][given][None, None], rho=0.5)
        state = step.state
        assert_near(step.fused, golden["em_rho05_F"][call], 1e-5)
    assert_near(step.smooth, golden["em_rho05_H"], 1e-5)
    assert_near(state.across, golden["em_rho05_F1"], 1e-6)
    assert_near(state.down, golden["em_rho05_F2"], 1e-6)


def test_spectrum_is_that_of_the_recorded_differences(golden: Arrays, recorded_sources: Sources) -> None:
    half = recorded_sources.spectrum.shape[1]
    expected = 1 + golden["em_k1_abs2"][None, :half] + golden["em_k2_abs2"][:, None]
    torch.testing.assert_close(recorded_sources.spectrum, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", [(6, 8), (5, 7), (1, 4), (3, 1), (2, 2)], ids=str)
def test_smoothing_solves_the_least_squares_it_stands_for(size: tuple[int, int]) -> None:
    """H minimises |H - image|² + |K1∗H - F1|² + |K2∗H - F2|², here by dense matrices of periodic differences."""
    rng = torch.Generator().manual_seed(0)
    image, across, down = (torch.rand(1, 1, *size, generator=rng, dtype=torch.float64) for _ in range(3))
    state = em.State(across, down, torch.ones(1), torch.ones(1))
    spectrum = sources_of(image, image).spectrum.double()
    found = em._smoothed(image, state, spectrum)

    eye = torch.eye(image.numel(), dtype=torch.float64).reshape(-1, *size)
    k1, k2 = ((eye.roll(-1, dim) - eye).reshape(image.numel(), -1).T for dim in (-1, -2))
    system = torch.eye(image.numel(), dtype=torch.float64) + k1.T @ k1 + k2.T @ k2
    right = image.flatten() + k1.T @ across.flatten() + k2.T @ down.flatten()
    torch.testing.assert_close(found.flatten(), torch.linalg.solve(system, right), atol=1e-6, rtol=0)


def test_luma_lies_between_the_sources() -> None:
    """Whatever the prior says: a weighted mean, but for the little that smoothness adds."""
    visible, infrared, estimate = (2 * torch.rand(3, 2, 1, 20, 24) - 1).unbind()
    sources, state = sources_of(visible, infrared), fresh_state(visible)
    for _ in range(5):
        step = em_step(sources, state, estimate)
        state = step.state
        low, high = torch.minimum(visible, infrared), torch.maximum(visible, infrared)
        assert (step.fused > low - 0.02).all()
        assert (step.fused < high + 0.02).all()


@pytest.mark.parametrize("level", [-1.0, 0.0, 0.37, 1.0])
def test_agreement_of_everything_stays_finite(level: float) -> None:
    """C is infinite there, in the published formulas; half of it shrinks with every step."""
    image = torch.full((1, 1, 8, 8), level)
    sources, state = sources_of(image, image), fresh_state(image)
    for _ in range(100):
        step = em_step(sources, state, image - 1e-6)
        state = step.state
        assert_near(step.fused, image, 1e-4)


def test_images_of_a_batch_do_not_know_each_other(narrow_network: UNet) -> None:
    visible, infrared = (2 * torch.rand(2, 3, 1, 32, 32) - 1).unbind()
    noise = start_noise(32, 32)
    together = sample(narrow_network, infrared, visible, noise, 2).luma
    alone = [sample(narrow_network, i[None], v[None], noise, 2).luma for i, v in zip(infrared, visible, strict=True)]
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-4, rtol=0)


@pytest.fixture(scope="module")
def recorded_sample(golden: Arrays, narrow_network: UNet) -> Sample:
    sources = (stretched_to_ones(golden[name]) for name in ("ir", "vi"))
    return sample(narrow_network, *sources, golden["x_T"], 5)


def test_sample_is_as_recorded(golden: Arrays, recorded_sample: Sample) -> None:
    assert_near(recorded_sample.image, golden["sample"], 1e-3)
    assert_near(recorded_sample.luma, golden["y_after_em"][-1], 1e-3)


def test_common_protocol_takes_the_luma_back_as_sources_came(
    golden: Arrays, recorded_sample: Sample, narrow_network: UNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = method_with(narrow_network)
    monkeypatch.setattr(sampler, "start_noise", lambda height, width: golden["x_T"])
    ir, vi = (golden[name].float()[None, None] / 255 for name in ("ir", "vi"))
    torch.testing.assert_close(method.fuse(ir, vi), (recorded_sample.luma + 1) / 2, atol=1e-3, rtol=0)


def test_published_picture_is_as_recorded(golden: Arrays, narrow_network: UNet) -> None:
    ir, vi = (golden[name].numpy().astype(np.float32) for name in ("ir", "vi"))
    found = official.fused_gray(narrow_network, ir, vi, 5, noise=golden["x_T"])
    np.testing.assert_allclose(found, golden["fused"], atol=0.05)


def test_published_procedure_gives_bytes_of_the_cropped_size(narrow_network: UNet) -> None:
    rng = np.random.default_rng(0)
    ir, vi = rng.integers(0, 256, (35, 70), dtype=np.uint8), rng.integers(0, 256, (35, 70, 3), dtype=np.uint8)
    found = official.fuse_officially(narrow_network, ir, vi, 5)
    assert (found.dtype, found.shape, found.min(), found.max()) == (np.uint8, (32, 64), 0, 255)
    np.testing.assert_array_equal(found, method_with(narrow_network).fuse_officially(ir[:32, :64], vi[:32, :64]))
    with pytest.raises(MethodError, match="32 × 32"):
        official.fuse_officially(narrow_network, ir[:31], vi[:31], 5)


@pytest.mark.parametrize("size", [(35, 64), (64, 70)])
def test_pairs_that_would_be_cropped_are_refused_before_anything_is_computed(size: tuple[int, int]) -> None:
    """Boxes would not fit the cropped picture."""
    image = np.zeros(size, np.uint8)
    with pytest.raises(MethodError, match=f"pair of {size[1]} × {size[0]} .* use the common protocol"):
        DDFM("released").fuse_officially(image, image)


def method_with(network: UNet) -> DDFM:
    """A method with that network, which takes its five steps."""
    method = build_method("ddfm", weights=None, config="tiny")
    assert isinstance(method, DDFM)
    method.network, method.steps = network, 5
    return method


def test_start_noise_depends_on_the_size_alone() -> None:
    torch.manual_seed(1)
    first = start_noise(32, 64)
    torch.rand(7)
    assert torch.equal(first, start_noise(32, 64))
    assert not torch.equal(first, start_noise(32, 64, seed=1))
    torch.manual_seed(3407)
    assert torch.equal(first, torch.randn(1, 3, 32, 64)), "the published one"
    assert abs(float(first.mean())) < 0.05
    assert float(first.std()) == pytest.approx(1, abs=0.05)


def test_luma_of_sampler_is_that_of_video() -> None:
    """Black, white and the primaries, with head room; sources' -1 … 1 fed as 0 … 1 would be."""
    rgb = torch.tensor([[0, 0, 0], [1, 1, 1], [1, 0, 0], [0, 1, 0], [0, 0, 1], [-1, -1, -1]], dtype=torch.float32)
    found = luma_of(rgb[..., None, None])[:, 0, 0, 0] * 255
    expected = [16, 235, *(16 + weight for weight in LUMA), -203]
    torch.testing.assert_close(found, torch.tensor(expected), atol=1e-4, rtol=0)


def test_every_step_is_told(narrow_network: UNet) -> None:
    calls: list[None] = []
    image = torch.zeros(1, 1, 32, 32)
    sample(narrow_network, image, image, start_noise(32, 32), 3, lambda: calls.append(None))
    assert len(calls) == 3


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_lower_precision_is_the_networks_alone(dtype: str) -> None:
    method = build_method("ddfm", weights=None, config="tiny", dtype=dtype)
    full = build_method("ddfm", weights=None, config="tiny")
    assert isinstance(method, DDFM)
    assert isinstance(full, DDFM)
    full.network.load_state_dict({name: value.float() for name, value in method.network.state_dict().items()})
    ir, vi = torch.rand(2, 1, 1, 32, 32)
    with torch.no_grad():
        fused = method.fuse(ir.to(method.dtype), vi.to(method.dtype))
        expected = full.fuse(ir.to(method.dtype).float(), vi.to(method.dtype).float())
    torch.testing.assert_close(fused, expected, atol=0.1, rtol=0)


def test_configurations_take_their_own_steps() -> None:
    assert DDFMConfig().steps == 100
    with pytest.raises(ValueError, match="at least 1"):
        replace(DDFMConfig(), steps=0)


def test_cost_is_that_of_all_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted in one of them."""
    parameters, flops = count("ddfm", "tiny", 64, 64)
    steps = CONFIGS["tiny"].steps
    monkeypatch.setitem(CONFIGS, "tiny", replace(CONFIGS["tiny"], steps=1))
    _, of_one = count("ddfm", "tiny", 64, 64)
    assert flops is not None
    assert of_one is not None
    assert flops.total == steps * of_one.total > 0
    assert parameters.used == parameters.total
