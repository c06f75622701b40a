"""SMC-Mamba's choice of experts, its network and its gradients."""

from __future__ import annotations

import copy

import pytest
import torch

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


def test_every_expert_and_the_gate_learn() -> None:
    network = SMCMambaNet(TINY)
    insight = network.look_inside(*torch.rand(2, 1, 1, 16, 32))
    (insight.image.mean() + sum(level.opinions.mean() + level.gates[0, 0] for level in insight.levels)).backward()
    silent = [name for name, parameter in network.named_parameters() if parameter.grad is None]
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


def test_size_is_within_its_aims() -> None:
    """Under 3 million parameters, and 60 billion operations (two for a multiply-add) at 640 × 480."""
    network = SMCMambaNet(CONFIGS["default"])
    assert sum(parameter.numel() for parameter in network.parameters()) < 3e6
    on_meta = copy.deepcopy(network).to("meta")
    flops = count_flops(lambda: on_meta.look_inside(*torch.empty(2, 1, 1, 480, 640, device="meta")))
    assert flops.layers + flops.scans < 120e9  # all four experts at work, where inference runs two


def test_experts_cannot_be_chosen_twice() -> None:
    with pytest.raises(ValueError, match="5 of 4 experts"):
        SMCMambaConfig(chosen=5)


def test_gradients_agree_with_float64() -> None:
    """Compiled scans in float32 against the plain recurrence in float64, through the whole network."""
    torch.manual_seed(0)
    network = SMCMambaNet(TINY)
    double = copy.deepcopy(network).double()
    first, second, weights = torch.rand(3, 1, 1, 16, 16, dtype=torch.float64)
    for net, dtype in ((network, torch.float32), (double, torch.float64)):
        insight = net.look_inside(first.to(dtype), second.to(dtype))
        ((insight.image * weights.to(dtype)).sum() + insight.levels[0].opinions.square().mean()).backward()
    for (name, parameter), exact in zip(network.named_parameters(), double.parameters(), strict=True):
        assert parameter.grad is not None and exact.grad is not None, name
        error = (parameter.grad - exact.grad).abs().max()
        assert error <= 2e-3 * exact.grad.abs().max() + 1e-6, name
