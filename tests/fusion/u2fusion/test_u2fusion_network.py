"""The network against recorded outputs (the reference itself reproduces them to 3e-7), and by bands against itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from fusion_det.fusion.methods.u2fusion.bands import Layer, RowStore, run_in_bands
from fusion_det.fusion.methods.u2fusion.network import U2FusionNet

Arrays = dict[str, torch.Tensor]


def assert_near(actual: torch.Tensor, expected: torch.Tensor, tolerance: float = 1e-6) -> None:
    torch.testing.assert_close(actual, expected, atol=tolerance, rtol=0)


def test_names_shapes_and_number_of_parameters(tensors: list[dict[str, Any]]) -> None:
    network = U2FusionNet()
    assert [(name, list(value.shape)) for name, value in network.state_dict().items()] == [
        (tensor["name"], tensor["shape"]) for tensor in tensors
    ]
    assert sum(parameter.numel() for parameter in network.parameters()) == 659_217


@pytest.mark.parametrize("gradients", [True, False], ids=["whole", "in bands"])
def test_outputs(golden: Arrays, filled_network: U2FusionNet, gradients: bool) -> None:
    with torch.set_grad_enabled(gradients):
        assert_near(filled_network(golden["ir"], golden["vi"]), golden["fused"])
        assert_near(filled_network.logits(golden["ir"], golden["vi"]), golden["logits"])


def test_every_stage(golden: Arrays, filled_network: U2FusionNet) -> None:
    seen: dict[str, torch.Tensor] = {}

    def remember(name: str) -> Any:
        return lambda module, inputs, output: seen.__setitem__(name, F.leaky_relu(output, 0.2))

    layers = {**filled_network.encoder, **filled_network.decoder}
    hooks = [layer.register_forward_hook(remember(name)) for name, layer in layers.items()]
    try:
        filled_network(golden["ir"], golden["vi"])
    finally:
        for hook in hooks:
            hook.remove()
    encoder = [seen[name] for name in filled_network.encoder]
    stages = {
        "enc0_every11": encoder[0][:, ::11],
        "enc1_every22": torch.cat(encoder[1::-1], dim=1)[:, ::22],
        "enc5_every44": torch.cat(encoder[::-1], dim=1)[:, ::44],
        "dec0_every32": seen["conv2_1"][:, ::32],
        "dec2_every16": seen["conv2_3"][:, ::16],
    }
    for name, actual in stages.items():
        assert_near(actual[:, :, ::4], golden[name])


@torch.no_grad()
@pytest.mark.parametrize("size", [(2, 2), (3, 9), (12, 5), (13, 5), (40, 7), (53, 6)], ids=str)
def test_bands_change_nothing(filled_network: U2FusionNet, size: tuple[int, int]) -> None:
    ir, vi = torch.rand(2, 2, 1, *size, generator=torch.Generator().manual_seed(0))
    with torch.enable_grad():
        whole = filled_network.logits(ir, vi)
    for band in (12, 13, 53):
        assert_near(filled_network.logits(ir, vi, band), whole)


@torch.no_grad()
@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 3), min_size=1, max_size=4), st.integers(2, 30), st.integers(2, 5), st.integers(0, 9))
def test_any_chain_of_layers_by_bands(widths: list[int], height: int, width: int, extra: int) -> None:
    torch.manual_seed(height)
    sources, band = torch.randn(1, 2, height, width), len(widths) + 2 + extra
    everything, expected = slice(None), sources
    store = first = RowStore(sources, 2, band + len(widths) + 1)
    layers = []
    for i, outputs in enumerate(widths):
        convolution = nn.Conv2d(expected.shape[1], outputs, 3)
        expected = convolution(F.pad(expected, (1, 1, 1, 1), mode="reflect")).sin()
        last = i == len(widths) - 1
        target = RowStore(sources, outputs, height if last else band + len(widths) + 1)
        layers.append(Layer(convolution, store, everything, target, everything, torch.sin_))
        store = target
    run_in_bands(sources, first, layers, band)
    assert_near(store.get(everything, 0, height)[..., 1:-1, 1:-1], expected)
    # The borders that the store keeps are numpy's.
    bordered = np.pad(expected.numpy(), ((0, 0), (0, 0), (1, 1), (1, 1)), mode="reflect")
    assert_near(store.get(everything, 0, height), torch.from_numpy(bordered))


def test_a_band_that_is_too_narrow() -> None:
    with pytest.raises(ValueError, match="band of 11 rows is too narrow for 10 layers: at least 12"), torch.no_grad():
        U2FusionNet().logits(torch.rand(1, 1, 20, 20), torch.rand(1, 1, 20, 20), band=11)


def test_published_initialisation() -> None:
    torch.manual_seed(0)
    network = U2FusionNet()
    weights = torch.cat([value.flatten() for name, value in network.named_parameters() if name.endswith("weight")])
    assert weights.abs().max() <= 0.1
    # A normal distribution that is cut at two standard deviations keeps 0.8796 of the one.
    assert weights.std().item() == pytest.approx(0.05 * 0.8796, rel=0.01)
    assert all(not value.any() for name, value in network.named_parameters() if name.endswith("bias"))
