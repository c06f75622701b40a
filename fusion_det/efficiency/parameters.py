"""A network's parameters: all of them, and those that its output depends on."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from fusion_det.fusion.method import FusionMethod, padded_size

TRIAL_SIZE = 64
"""Height and width, before padding, of the image with which dependence is found out."""


@dataclass(frozen=True)
class ParameterCount:
    """total: numbers in all parameters (a shared one counts once; buffers do not count).

    used: those of parameters that a path of the gradient joins to the output; None where the method records none.
    unused: the outermost modules none of whose parameters is used, and single unused parameters, with their sizes.
    """

    total: int
    used: int | None
    unused: tuple[tuple[str, int], ...] = ()


def random_pair(
    method: FusionMethod, height: int, width: int, device: torch.device | str
) -> tuple[torch.Tensor, torch.Tensor]:
    """A pair (1,1,H,W) and (1,1 or 3,H,W), uniform in [0,1], padded to a size the method takes, in its dtype."""
    generator = torch.Generator().manual_seed(0)
    size = padded_size(height, method.card), padded_size(width, method.card)
    channels = 1 if method.card.fuses == "luma" else 3
    ir, vi = torch.rand(1, 1, *size, generator=generator), torch.rand(1, channels, *size, generator=generator)
    return ir.to(device, method.dtype), vi.to(device, method.dtype)


def count_parameters(method: FusionMethod) -> ParameterCount:
    """Count the parameters of a method on the CPU, by fusing a small image and walking back the recorded graph.

    A path may multiply by zero, so what is used can be less in effect; and what acts without a gradient (by rounding,
    or the choice of a branch) is not seen. No gradient is computed.
    """
    if method.network is None:
        return ParameterCount(0, 0)
    parameters = dict(method.network.named_parameters())
    total = sum(parameter.numel() for parameter in parameters.values())
    for parameter in parameters.values():
        parameter.requires_grad_(True)
    with torch.enable_grad():
        reached = _leaves(method.fuse(*random_pair(method, TRIAL_SIZE, TRIAL_SIZE, "cpu")))
    if not reached:
        return ParameterCount(total, None)
    unused = {name for name, parameter in parameters.items() if id(parameter) not in reached}
    size = sum(parameters[name].numel() for name in unused)
    return ParameterCount(total, total - size, tuple(_outermost(method.network, unused)))


def _leaves(output: torch.Tensor) -> set[int]:
    """Identities of the leaves of the graph that ``output`` was computed by."""
    seen, waiting, leaves = set(), [output.grad_fn], set()
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        waiting += [following for following, _ in node.next_functions]
        if not node.next_functions and hasattr(node, "variable"):
            leaves.add(id(node.variable))
    return leaves


def _outermost(module: nn.Module, unused: set[str], prefix: str = "") -> list[tuple[str, int]]:
    """(name, size) of the largest wholly unused modules, and of unused parameters of others."""
    own = {f"{prefix}{name}": parameter.numel() for name, parameter in module.named_parameters()}
    if prefix and own and own.keys() <= unused:
        return [(prefix.removesuffix("."), sum(own.values()))]
    found = [
        (name, own[name])
        for name in (f"{prefix}{direct}" for direct, _ in module.named_parameters(recurse=False))
        if name in unused
    ]
    for name, child in module.named_children():
        found += _outermost(child, unused, f"{prefix}{name}.")
    return found
