"""What a DeFusion checkpoint says of the network it belongs to."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable
from pathlib import Path

import torch

from fusion_det.errors import MethodError
from fusion_det.fusion.checkpoint import read_checkpoint
from fusion_det.fusion.methods.defusion.network import DeFusionNet

STATE = "state_dict"
"""Entry of the published file that holds the state dict."""

_BLOCK = re.compile(r"decoder_common_layer([1-4])(?:\.0)?\.layer\.(\d+)\.")


def network_for(file: Path, network: DeFusionNet) -> DeFusionNet:
    """``network``, or an untrained one like it with as many blocks in the common part's decoder as the checkpoint names.

    The released network has (2, 2, 2, 2), what the released training script builds (4, 4, 6, 6).

    Raises:
        MethodError: the file holds no state dict, or different values under the two names of a shared parameter.
    """
    state, _ = read_checkpoint(file, STATE)
    blocks = common_blocks(state)
    if all(blocks) and blocks != network.config.common_blocks:
        network = DeFusionNet(dataclasses.replace(network.config, common_blocks=blocks))
    first_name: dict[int, str] = {}
    for name, parameter in network.named_parameters(remove_duplicate=False):
        first = first_name.setdefault(id(parameter), name)
        if name in state and first in state and not torch.equal(state[name], state[first]):
            raise MethodError(
                f"{file}: {first} and {name} differ, but infrared and visible images share one encoder and one decoder in "
                "DeFusion; this is another network's checkpoint"
            )
    return network


def common_blocks(names: Iterable[str]) -> tuple[int, int, int, int]:
    """Number of blocks of ``decoder_common_layer1`` to ``4`` in a state dict; 0 where there is none."""
    found: dict[int, set[int]] = {1: set(), 2: set(), 3: set(), 4: set()}
    for name in names:
        if match := _BLOCK.match(name):
            found[int(match[1])].add(int(match[2]))
    first, second, third, fourth = (len(blocks) for blocks in found.values())
    return first, second, third, fourth
