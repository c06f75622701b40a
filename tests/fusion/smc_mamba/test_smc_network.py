"""SMC-Mamba's choice of experts, its network and its gradients."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.ndimage import uniform_filter

from fusion_det.efficiency.flops import count_flops
from fusion_det.fusion.methods.smc_mamba.config import CONFIGS, SMCMambaConfig
from fusion_det.fusion.methods.smc_mamba.mccm import MCCM, Gate
from fusion_det.fusion.methods.smc_mamba.network import SMCMambaNet

TINY = CONFIGS["tiny"]


def some_gates(seed: int = 0) -> torch.Tensor:
    return torch.rand(6, 4, generator=torch.Generator().manual_seed(seed)).softmax(-1)


def test_two_experts_are_chosen_and_their_weights_sum_to_one() -> None:
    gates = some_gates()
    weights = Gate(8, 4, 2).choose(gates)
    torch.testing.assert_close(weights.sum(-1), torch.ones(6))
    assert ((weights > 0).sum(-1) == 2).all()
    for gate, weight in zip(gates, weights, strict=True):
        first, second = gate.argsort(descending=True)[:2].tolist()
        torch.testing.assert_close(weight[first] / weight[second], gate[first] / gate[second])


def maps(batch: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    first, second = torch.randn(2, batch, 8, 16, 8, generator=torch.Generator().manual_seed(1))
    return first, second


def decided(choices: list[tuple[int, int]]) -> MCCM:
    """Whose gate prefers given experts for the images of a batch, whatever they are."""
    mccm = MCCM(8, TINY)
    logits = torch.zeros(len(choices), 4)
    for row, (best, next_best) in zip(logits, choices, strict=True):
        row[best], row[next_best] = 3.0, 2.0
    mccm.gate.forward = lambda first, second: logits[: len(first)].softmax(-1)  # type: ignore[method-assign]
    return mccm


@pytest.mark.parametrize("choices", [[(0, 1)] * 3, [(0, 2), (3, 1), (2, 0)], [(1, 3), (1, 3), (0, 2)]], ids=str)
def test_what_is_not_run_is_not_missed(choices: list[tuple[int, int]]) -> None:
    """With fixed gates the sparse path equals the dense one."""
    mccm = decided(choices)
    torch.testing.assert_close(mccm(*maps()), mccm.consult_all(*maps()).fused, atol=1e-6, rtol=1e-5)


def test_only_chosen_experts_run() -> None:
    mccm = decided([(0, 2), (0, 2), (2, 1)])
    seen: dict[int, int] = {}
    for index, expert in enumerate(mccm.experts):
        expert.register_forward_hook(lambda _, args, __, index=index: seen.update({index: len(args[0])}))
    mccm(*maps())
    assert seen == {0: 2, 1: 1, 2: 3}


def moved_network() -> SMCMambaNet:
    """The tiny one with every parameter moved: at first some layers are zero, and what is before them gets no gradient."""
    torch.manual_seed(0)
    network = SMCMambaNet(TINY)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return network


def test_every_expert_and_the_gate_learn() -> None:
    network = moved_network()
    insight = network.look_inside(*torch.rand(2, 1, 1, 16, 32))
    (insight.image.mean() + sum(level.opinions.mean() + level.gates[0, 0] for level in insight.levels)).backward()
    silent = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert silent == []


def test_looking_inside_changes_nothing() -> None:
    network = SMCMambaNet(TINY).eval()
    first, second = torch.rand(2, 2, 1, 32, 16)
    insight = network.look_inside(first, second)
    torch.testing.assert_close(insight.image, network(first, second), atol=1e-6, rtol=0)
    assert insight.features[0].shape == (2, 2, 32, 16, 8)
    assert insight.levels[1].opinions.shape == (4, 2, 16, 8, 16)


@pytest.mark.parametrize("config", CONFIGS)
def test_images_of_every_variant(config: str) -> None:
    network = SMCMambaNet(CONFIGS[config]).eval()
    with torch.no_grad():
        image = network(*torch.rand(2, 1, 1, 16, 32))
    assert image.shape == (1, 1, 16, 32)
    assert ((image > 0) & (image < 1)).all()


def test_blending_begins_between_the_sources() -> None:
    network = SMCMambaNet(TINY).eval()
    torch.nn.init.zeros_(network.decoder.head.weight)
    torch.nn.init.zeros_(network.decoder.head.bias)
    first, second = torch.rand(2, 1, 1, 32, 32) * 0.9 + 0.05
    torch.testing.assert_close(network(first, second), (first + second) / 2, atol=1e-6, rtol=0)


def test_details_of_both_sources_can_be_kept_whole() -> None:
    """With every factor at one and the weight at one half: the mean of the coarse parts, and the sum of both details."""
    network = SMCMambaNet(TINY).eval()
    head = network.decoder.head
    torch.nn.init.zeros_(head.weight)
    with torch.no_grad():
        head.bias.copy_(torch.tensor([0.0, 0.0] + [40.0] * 4))
    first, second = 0.5 + 0.04 * torch.randn(2, 1, 1, 48, 32)
    means = []
    for image in (first, second):
        coarse = image[0, 0].double().numpy()
        for radius in TINY.radii:
            inside = uniform_filter(np.ones_like(coarse), 2 * radius + 1, mode="constant")
            coarse = uniform_filter(coarse, 2 * radius + 1, mode="constant") / inside
        means.append(torch.from_numpy(coarse).float()[None, None])
    expected = sum(means) / 2 + (first - means[0]) + (second - means[1])
    torch.testing.assert_close(network(first, second), expected, atol=1e-5, rtol=0)


def test_one_weight_for_all_bands_is_a_plain_blend() -> None:
    banded, plain = SMCMambaNet(TINY).eval(), SMCMambaNet(replace(TINY, radii=())).eval()
    state = banded.state_dict()
    weight, bias = state["decoder.head.weight"], state["decoder.head.bias"]
    plain.load_state_dict({**state, "decoder.head.weight": weight[:2], "decoder.head.bias": bias[:2]})
    for values in (weight, bias):
        values[2:] = torch.cat([values[:1], -values[:1]] * 2)
    first, second = torch.rand(2, 1, 1, 32, 32)
    torch.testing.assert_close(banded(first, second), plain(first, second), atol=1e-6, rtol=0)


def test_size_is_within_its_aims() -> None:
    """Under 3 million parameters, and 60 billion operations (two for a multiply-add) at 640 × 480."""
    network = SMCMambaNet(CONFIGS["default"])
    assert sum(parameter.numel() for parameter in network.parameters()) < 3e6
    # On a fifteenth of that area, as the gate needs values to choose by; all but the scans of channels grows with area.
    flops = count_flops(lambda: network(*torch.rand(2, 1, 1, 128, 160)))
    area = (480 * 640) / (128 * 160)
    assert 30e9 < (flops.layers + flops.scans) * area < 60e9


def test_experts_cannot_be_chosen_twice() -> None:
    with pytest.raises(ValueError, match="5 of 4 experts"):
        SMCMambaConfig(chosen=5)


def test_gradients_agree_with_float64() -> None:
    """Compiled scans in float32 against the plain recurrence in float64, through the whole network."""
    network = moved_network()
    double = copy.deepcopy(network).double()
    first, second, weights = torch.rand(3, 1, 1, 16, 16, dtype=torch.float64)
    for net, dtype in ((network, torch.float32), (double, torch.float64)):
        insight = net.look_inside(first.to(dtype), second.to(dtype))
        opinions = sum(level.opinions.square().mean() for level in insight.levels)
        ((insight.image * weights.to(dtype)).sum() + opinions).backward()
    for (name, parameter), exact in zip(network.named_parameters(), double.parameters(), strict=True):
        assert parameter.grad is not None and exact.grad is not None, name
        assert exact.grad.any(), name
        error = (parameter.grad - exact.grad).abs().max()
        assert error <= 1e-4 * exact.grad.abs().max() + 1e-6, name


@pytest.mark.parametrize("black", [(True, False), (False, True), (True, True)])
def test_black_images_have_gradients_like_others(black: tuple[bool, bool]) -> None:
    """A black map's frequencies have no phase; the slope of the division by their amplitudes is not to drown all else."""
    norms = []
    for dark in ((False, False), black):
        network = moved_network()
        torch.manual_seed(1)
        sources = [torch.rand(1, 1, 32, 32) * (not is_black) for is_black in dark]
        network.look_inside(*sources).image.mean().backward()
        norms.append(torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None]).norm())
    assert norms[1] < 30 * norms[0]
