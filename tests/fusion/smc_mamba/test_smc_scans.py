"""SMC-Mamba's scan orders and branches: permutations, transforms there and back, what a change in one place reaches."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from fusion_det.fusion.methods.smc_mamba.config import CONFIGS, PATCH
from fusion_det.fusion.methods.smc_mamba.mafe import MAFE, LocalBranch
from fusion_det.fusion.methods.smc_mamba.scans import COLUMNS, ROWS, ChannelScan, FrequencyScan, Scan, spiral
from fusion_det.fusion.ssm import selective_scan

SIZES = [(1, 1), (1, 8), (7, 1), (8, 8), (9, 8), (8, 9), (11, 13), (6, 20)]
SIDE = st.integers(1, 24)


def randomised(module: nn.Module, scale: float = 0.3) -> nn.Module:
    """Every parameter drawn anew, so that nothing is zero as it is at first."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if not name.endswith(("A_log", "dt_bias")):
                parameter.add_(scale * torch.randn(parameter.shape, generator=generator))
    return module


@settings(max_examples=40, deadline=None)
@given(SIDE, SIDE)
def test_the_spiral_visits_every_frequency_once(height: int, width: int) -> None:
    order, inverse = spiral(height, width)
    count = height * (width // 2 + 1)
    assert torch.equal(order.sort().values, torch.arange(count))
    assert torch.equal(order[inverse], torch.arange(count))
    assert torch.equal(inverse[order], torch.arange(count))


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_the_spiral_goes_outwards_and_around(height: int, width: int) -> None:
    order, _ = spiral(height, width)
    down = torch.fft.fftfreq(height, dtype=torch.float64)[:, None]
    across = torch.fft.rfftfreq(width, dtype=torch.float64)[None].abs()
    radius = torch.sqrt(down**2 + across**2).flatten()[order]
    angle = torch.atan2(down + 0 * across, across + 0 * down).flatten()[order]
    assert order[0] == 0, "it begins at the mean"
    steps = radius.diff()
    assert (steps > -1e-12).all()
    same_circle = steps.abs() < 1e-12
    assert (angle.diff()[same_circle] > 0).all()


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_a_fresh_frequency_scan_returns_the_map(height: int, width: int) -> None:
    """DFT → identity → inverse DFT, on odd and even sizes."""
    x = torch.randn(2, height, width, 4)
    torch.testing.assert_close(FrequencyScan(4, 3)(x), x, atol=2e-5, rtol=0)


def test_a_change_at_one_frequency_moves_every_pixel() -> None:
    scan = FrequencyScan(2, 3)
    x = torch.randn(1, 9, 10, 2)
    before = scan(x)

    class Nudge(nn.Module):
        def forward(self, log_size: torch.Tensor) -> torch.Tensor:
            nudge = torch.zeros_like(log_size)
            nudge[:, 17] = 0.5
            return nudge

    scan.amplitude = Nudge()  # type: ignore[assignment]
    assert ((scan(x) - before).abs() > 1e-6).all()


def test_a_change_of_one_pixel_reaches_all_through_the_spectrum() -> None:
    scan = randomised(FrequencyScan(3, 4))
    x = torch.randn(1, 12, 11, 3)
    moved = x.clone()
    moved[0, 4, 5, 1] += 1
    assert ((scan(moved) - scan(x)).abs() > 0).all()


def test_patches_do_not_leak() -> None:
    branch = randomised(LocalBranch(5))
    x = torch.randn(2, 3 * PATCH, 2 * PATCH, 5)
    moved = x.clone()
    moved[1, PATCH : 2 * PATCH, :PATCH] += torch.randn(PATCH, PATCH, 5)
    changed = (branch(moved) - branch(x)).abs().amax(-1) > 0
    assert changed[1, PATCH : 2 * PATCH, :PATCH].all()
    changed[1, PATCH : 2 * PATCH, :PATCH] = False
    assert not changed.any()


def test_a_patch_is_convolved_as_a_mirrored_image() -> None:
    branch = randomised(LocalBranch(3))
    x = torch.randn(1, PATCH, PATCH, 3)
    mirrored = torch.from_numpy(np.pad(x[0].numpy(), ((1, 1), (1, 1), (0, 0)), mode="reflect"))
    found = F.conv2d(mirrored.permute(2, 0, 1)[None], branch.depthwise.weight, branch.depthwise.bias, groups=3)
    found = found.permute(0, 2, 3, 1)
    gate = torch.sigmoid(found @ branch.gate.weight.T + branch.gate.bias)
    torch.testing.assert_close(branch(x), found * gate)


@pytest.mark.parametrize("directions", [ROWS, COLUMNS], ids=["rows", "columns"])
def test_modalities_take_turns_in_a_scan(directions: tuple[int, int]) -> None:
    """Against one selective scan each of the sequence there and back, put together token by token."""
    height, width, d, states = 3, 4, 6, 3
    scan = randomised(Scan(d, states, directions, modalities=2))
    u = torch.randn(2, 1, height, width, d)
    places = [(i, j) for i in range(height) for j in range(width)]
    if directions == COLUMNS:
        places.sort(key=lambda place: (place[1], place[0]))
    expected = torch.zeros_like(u)
    for walk, ordered in enumerate((places, places[::-1])):
        visits = [(m, i, j) for i, j in ordered for m in range(2)]
        tokens = torch.stack([u[m, 0, i, j] for m, i, j in visits])
        params = torch.stack([scan.x_proj_weight[m, walk] @ u[m, 0, i, j] for m, i, j in visits])
        t, B, C = params.split((params.shape[1] - 2 * states, states, states), dim=1)
        y = selective_scan(
            tokens.T[None],
            (t @ scan.dt_weight[walk].T).T[None],
            -scan.A_log[walk].exp(),
            B.T[None, None],
            C.T[None, None],
            scan.D[walk],
            scan.dt_bias[walk],
            delta_softplus=True,
            backend="reference",
        )
        for step, (m, i, j) in enumerate(visits):
            expected[m, 0, i, j] += y[0, :, step]
    torch.testing.assert_close(scan(u), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("modalities", [1, 2])
def test_channel_factors(modalities: int) -> None:
    fresh = ChannelScan(3, modalities)
    x = torch.randn(modalities, 2, 10, 17, 5)
    assert torch.equal(fresh(x), torch.ones(modalities, 2, 1, 1, 5)), "a fresh one leaves channels alone"
    weighing = randomised(ChannelScan(3, modalities))
    factors = weighing(x)
    assert ((factors > 0) & (factors < 2)).all()
    moved = x.clone()
    moved[0, 0, :, :, 2] += 1
    changed = (weighing(moved) - factors).abs() > 0
    assert changed[:, 0].all(), "one channel concerns all, those of the other source too"
    assert not changed[:, 1].any()


def test_enhancement_sees_one_image_at_a_time() -> None:
    mafe = randomised(MAFE(8, CONFIGS["tiny"]))
    x = torch.randn(2, 16, 8, 8)
    torch.testing.assert_close(mafe(x)[1:], mafe(x[1:]), atol=1e-5, rtol=1e-5)
