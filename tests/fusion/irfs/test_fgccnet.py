"""The salient-object network of IRFS against recorded outputs of the official implementation."""

from __future__ import annotations

import pytest
import torch
from filled import fill
from torch import nn

from fusion_det.fusion.methods.irfs.attention import CrossAttention
from fusion_det.fusion.methods.irfs.fgccnet import FGCCNet
from fusion_det.fusion.methods.irfs.losses import saliency_loss

Arrays = dict[str, torch.Tensor]
Shapes = dict[str, tuple[int, ...]]

PUBLISHED = ("s_coarse", "rgb_map", "thermal_map", "y", "s_output")


def test_names_and_shapes_are_the_published_ones(fgccnet_reference: tuple[Shapes, Arrays]) -> None:
    network = FGCCNet()
    found = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    assert found == fgccnet_reference[0]
    assert sum(parameter.numel() for parameter in network.parameters()) == 39_706_168


@torch.no_grad()
def test_maps_and_stages(fgccnet_reference: tuple[Shapes, Arrays]) -> None:
    recorded = fgccnet_reference[1]
    network = FGCCNet()
    fill(network)
    seen: dict[str, torch.Tensor] = {}

    def keep(name: str) -> object:
        def hook(_: nn.Module, __: object, output: torch.Tensor | tuple[torch.Tensor, ...]) -> None:
            seen[name] = output if isinstance(output, torch.Tensor) else torch.cat(output)

        return network.get_submodule(name).register_forward_hook(hook)  # type: ignore[arg-type]

    stages = {
        "JLModule.backbone.maxpool": 16,
        "JLModule.backbone.layer1": 16,
        **{f"JLModule.att_block{stage}": 16 for stage in (2, 3, 4, 5)},
        "JLModule.CP.0": 16,
        "JLModule.CP.3": 16,
        "deconv2": 8,
    }
    for name in stages:
        keep(name)
    maps = network(recorded["rgb"], recorded["thermal"], recorded["fused"])
    for name, every in stages.items():
        expected = recorded[f"{name.replace('.', '_')}_every{every}"]
        torch.testing.assert_close(seen[name][:, ::every], expected, atol=1e-4, rtol=1e-5)
    for found, name in zip(maps, PUBLISHED, strict=True):
        torch.testing.assert_close(found, recorded[name], atol=1e-4, rtol=0)


def test_attention_is_shared_out_among_the_queries() -> None:
    """One key only: all of its weight is spread over the places that ask, so that their mean is its value over their number."""
    block = CrossAttention(4, reduction=1)
    values = block.get_submodule("value_convrd")
    asking, asked = torch.rand(2, 4, 3, 5), torch.rand(2, 4, 1, 1)
    received = block._attend(asking, asked, "rd", "k", "v")
    torch.testing.assert_close(received.sum((2, 3)), values(asked)[..., 0, 0])


def test_learns_and_leaves_alone_what_is_published_as_unused() -> None:
    torch.manual_seed(0)
    network = FGCCNet()
    mask = torch.zeros(2, 1, 32, 32)
    mask[..., 8:20, 8:20] = 1
    maps = network(torch.rand(2, 3, 32, 32), torch.rand(2, 1, 32, 32), torch.rand(2, 3, 32, 32))
    assert [tuple(found.shape) for found in maps] == [(6, 1, 1, 1), *[(2, 1, 32, 32)] * 4]
    saliency_loss(maps, mask).backward()
    unused = [parameter.numel() for parameter in network.parameters() if parameter.grad is None]
    assert sum(unused) == 532_740


def test_sizes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="multiples of 32, not 40 and 64"):
        FGCCNet()(torch.rand(1, 3, 40, 64), torch.rand(1, 1, 40, 64), torch.rand(1, 3, 40, 64))
