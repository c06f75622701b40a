"""Weights of SemLA: a file of each of both networks, or one of both."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from fusion_det.fusion.checkpoint import load_checkpoint, read_checkpoint
from fusion_det.fusion.methods.semla.network import SemLANet

METHOD = "semla"
FUSION, REGISTRATION = "fusion", "backbone"
"""How all names in the published files begin, followed by a point."""


def load_weights(network: SemLANet, file: Path, registration: Path, config: str) -> None:
    """Load both networks.

    Args:
        file: of both networks, as this project's training writes it; or the published one of the fusion network, which alone
            suffices for aligned pairs.
        registration: the published one of the registration network, which is looked for in the latter case.

    Raises:
        MethodError: a file cannot be read, or is not of this network.
    """
    state, _ = read_checkpoint(file)
    if any(name.startswith(f"{REGISTRATION}.") for name in state):
        load_checkpoint(network, file, key=None, method=METHOD, config=config)
        return
    for name, part in ((FUSION, file), (REGISTRATION, registration)):
        if part == file or part.is_file():
            only = nn.ModuleDict({name: network.get_submodule(name)})
            load_checkpoint(only, part, key=None, method=METHOD, config=config)
