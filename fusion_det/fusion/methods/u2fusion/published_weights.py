"""The published checkpoint, read without TensorFlow.

A TensorFlow-1 checkpoint is an index and a data file. This data file is nothing but the tensors, little-endian float32, one
after another in the alphabetical order of the variables' names: ``Generator/encoder/LAYER/bias``, ``…/kernel``, then
``Generator_1/decoder/LAYER/…`` (TensorFlow numbered the second use of the scope). Kernels are (height, width, in, out).
"""

from __future__ import annotations

import hashlib
import math
from pathlib import Path

import numpy as np
import torch

from fusion_det.errors import MethodError
from fusion_det.fusion.checkpoint import Shapes
from fusion_det.fusion.methods.u2fusion import WEIGHTS

_SCOPES = {"encoder": "Generator/encoder", "decoder": "Generator_1/decoder"}
_LEAVES = {"weight": "kernel", "bias": "bias"}


def is_tensorflow(file: Path) -> bool:
    """Whether the name is that of a part of a TensorFlow checkpoint."""
    return file.suffix in (".index", ".meta") or file.suffix.startswith(".data-")


def read(file: Path, shapes: Shapes) -> dict[str, torch.Tensor]:
    """The tensors of ``shapes`` (names and shapes of a :class:`U2FusionNet`) in the published data file.

    Raises:
        MethodError: it cannot be read, or is not that file to the last byte: offsets hold for no other.
    """
    if not file.suffix.startswith(".data-"):
        raise MethodError(f"{file} holds no weights; the published ones are in {WEIGHTS.file} beside it")
    try:
        content = file.read_bytes()
    except OSError as error:
        raise MethodError(f"{file} cannot be read: {error.strerror or error}") from error
    size, digest = sum(4 * math.prod(shape) for shape in shapes.values()), hashlib.sha256(content).hexdigest()
    if len(content) != size or digest != WEIGHTS.sha256:
        raise MethodError(
            f"{file} ({len(content)} bytes, sha256 {digest}) is not the published {WEIGHTS.file} of U2Fusion ({size} bytes, "
            f"sha256 {WEIGHTS.sha256}); get that again, or save other weights as .safetensors under the names of this network"
        )
    state: dict[str, torch.Tensor] = {}
    offset = 0
    for name in sorted(shapes, key=_variable):
        values = np.frombuffer(content, "<f4", math.prod(shapes[name]), offset)
        offset += values.nbytes
        if len(shapes[name]) == 4:
            out, channels, height, width = shapes[name]
            values = values.reshape(height, width, channels, out).transpose(3, 2, 0, 1)
        state[name] = torch.from_numpy(values.astype(np.float32, order="C"))
    return state


def _variable(name: str) -> str:
    """ "encoder.conv1_1.weight" → "Generator/encoder/conv1_1/kernel"."""
    part, layer, leaf = name.split(".")
    return f"{_SCOPES[part]}/{layer}/{_LEAVES[leaf]}"
