"""Weights of CrossFuse: a file of each of its three networks, or one of all of them."""

from __future__ import annotations

from pathlib import Path

from fusion_det.errors import MethodError
from fusion_det.fusion.checkpoint import load_checkpoint, read_checkpoint
from fusion_det.fusion.methods.crossfuse.network import CrossFuseNet

METHOD = "crossfuse"


def load_weights(network: CrossFuseNet, file: Path, beside: dict[str, str], config: str) -> None:
    """Load all three networks.

    Args:
        file: of all of them, as this project's training writes it; or the published one of the network that fuses.
        beside: names of the published files of the others, which then lie in the same folder, by the name of the network.

    Raises:
        MethodError: a file is not there, cannot be read, or is not of this network.
    """
    state, _ = read_checkpoint(file)
    if any(name.startswith(tuple(f"{part}." for part in beside)) for name in state):
        load_checkpoint(network, file, key=None, method=METHOD, config=config)
        return
    files = {part: file.with_name(name) for part, name in beside.items()}
    missing = [other.name for other in files.values() if not other.is_file()]
    if missing:
        raise MethodError(
            f"{file} is of one of the three networks of crossfuse; beside it there must be {' and '.join(missing)}, the "
            "auto-encoders that it was trained with"
        )
    for part, of_part in {"fusion": file, **files}.items():
        load_checkpoint(network.get_submodule(part), of_part, key=None, method=METHOD, config=config)
