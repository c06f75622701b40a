"""Parameter values that follow from names and shapes alone, so that recorded outputs need no weights beside them."""

from __future__ import annotations

import zlib

import numpy as np
import torch
from torch import nn


def filled_value(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """The float32 value for one entry of a state dict: noise seeded by the name, in the range its kind of parameter has."""
    noise = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape)
    leaf = name.rpartition(".")[2]
    if leaf in ("A_log", "A_logs"):
        value = np.log(np.arange(1, shape[-1] + 1)) + noise / 20
    elif leaf in ("D", "Ds"):
        value = 1 + noise / 20
    elif leaf == "running_var":
        value = 1 + np.abs(noise) / 10
    elif leaf == "running_mean":
        value = noise / 10
    elif len(shape) > 1:
        value = noise / np.sqrt(max(1, np.prod(shape[1:])))
    else:
        value = noise / 20 if leaf.endswith("bias") else 1 + noise / 10
    return torch.from_numpy(np.asarray(value, dtype=np.float32))


@torch.no_grad()
def fill(network: nn.Module, amplify: float = 1.0) -> nn.Module:
    """Fill a network in place, and put it into evaluation mode.

    Args:
        amplify: factor on the projections that make a scan depend on its input, which the plain values leave weak.
    """
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point():
            tensor.copy_(filled_value(name, tuple(tensor.shape)))
            if name.endswith(("x_proj_weight", "y_proj_weight", "dt_projs_weight")):
                tensor.mul_(amplify)
    return network.eval()
