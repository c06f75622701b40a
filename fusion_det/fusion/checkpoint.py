"""Checkpoints of learned methods: read without running what is in them, checked by name, shape and value, and written.

A ``.safetensors`` file is a flat state dict with strings beside it; ``save_checkpoint`` writes the method's name and
configuration there. Any other file is what ``torch.save`` wrote, and only tensors and plain containers are taken from it.
"""

from __future__ import annotations

import pickle
import re
import struct
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fusion_det.errors import MethodError
from fusion_det.files import replace_atomically

Shapes = Mapping[str, tuple[int, ...]]

_NAMES_SHOWN = 3
_WRAPPED = "module."
"""What torch's wrappers for several devices put before every name."""
_BROKEN_FILE = (
    zipfile.BadZipFile,
    RuntimeError,
    EOFError,
    ValueError,
    LookupError,
    ArithmeticError,
    TypeError,
    AttributeError,
    AssertionError,
    MemoryError,
    struct.error,
)
"""What torch.load raises, depending on where a file stops making sense."""


class CheckpointMismatchError(MethodError):
    """A state dict that is not the network's. ``shapes``: what the file holds."""

    def __init__(self, message: str, shapes: Shapes) -> None:
        super().__init__(message)
        self.shapes = shapes


def load_checkpoint(
    network: nn.Module,
    file: Path,
    *,
    key: str | None,
    method: str,
    config: str | None = None,
    parts: Sequence[str] = (),
    renamed: Callable[[Mapping[str, torch.Tensor]], Mapping[str, torch.Tensor]] = lambda state: state,
) -> None:
    """Load a file into a network, all of it and nothing else.

    A network on the "meta" device, which has shapes alone, takes the file's tensors for its own: nothing is initialised or
    copied for it before.

    Args:
        key: entry of the published file that holds the state dict; None if the file is one. A file that is a bare state
            dict is taken as well.
        parts: entries of the published file that hold the state dicts of the network's children of these names.
        renamed: a file's state dict under the network's names, where published files have several.
        method, config: what the network is, for messages and against what a ``.safetensors`` file says of itself.

    Raises:
        MethodError: the file cannot be read, holds no state dict, would run code, has values that are not finite, or was
            saved for another method or configuration. CheckpointMismatchError: other names or shapes than the network's.
            The network is then as it was.
    """
    state, metadata = read_checkpoint(file, key, parts)
    what = method if config is None else f"{method}, configuration {config}"
    saved = tuple(metadata.get(field, wanted) for field, wanted in (("method", method), ("config", config)))
    if saved != (method, config):
        raise MethodError(f"{file} was saved for {saved[0]}, configuration {saved[1]}, not for {what}")
    state = dict(renamed(state))
    _check(network, file, state, what)
    empty = any(parameter.is_meta for parameter in network.parameters())
    if empty:  # it keeps its dtypes, whatever the file's are
        wanted = network.state_dict()
        state = {name: value.to(wanted[name].dtype) for name, value in state.items()}
    network.load_state_dict(state, assign=empty)


def read_checkpoint(
    file: Path, key: str | None = None, parts: Sequence[str] = ()
) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """The state dict in a file, and the strings that a ``.safetensors`` file carries beside it. Raises as load_checkpoint."""
    if file.suffix == ".safetensors":
        return _read_safetensors(file)
    content = _read_pickle(file)
    if parts and isinstance(content, Mapping) and all(isinstance(content.get(part), Mapping) for part in parts):
        content = _joined({part: content[part] for part in parts})
    if isinstance(content, Mapping) and key is not None and isinstance(content.get(key), Mapping):
        content = content[key]
    if not isinstance(content, Mapping) or not content:
        raise MethodError(f"{file} holds {_described(content)}, not a state dict; it is no checkpoint")
    strange = [name for name, value in content.items() if not isinstance(value, torch.Tensor)]
    if strange:
        where = "" if key is None else f", and none of them, called {key!r}, is one"
        raise MethodError(f"{file} is not a state dict{where}: its entries are {_listed(map(str, content))}")
    return {str(name): value for name, value in content.items()}, {}


def save_checkpoint(file: Path, state: Mapping[str, torch.Tensor], metadata: Mapping[str, str]) -> None:
    """Write a state dict as ``.safetensors``, whole or not at all.

    Args:
        metadata: strings kept beside the tensors; ``method`` and ``config`` are checked when the file is loaded.

    Raises:
        MethodError: ``file`` has another suffix.
    """
    from safetensors.torch import save

    if file.suffix != ".safetensors":
        raise MethodError(f"checkpoints are written as .safetensors, not {file.name}")
    # Copies: safetensors refuses tensors that share memory.
    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in state.items()}
    with replace_atomically(file) as temporary:
        temporary.write_bytes(
            save(tensors, dict(metadata))
        )  # save_file would make the file readable by its owner alone


def _read_safetensors(file: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(file), framework="pt", device="cpu") as opened:
            return {name: opened.get_tensor(name) for name in opened.keys()}, opened.metadata() or {}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise MethodError(f"{file} is not a readable .safetensors file: {error}") from error


def _read_pickle(file: Path) -> Any:
    try:
        return torch.load(file, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(file))
    except pickle.UnpicklingError as error:
        needs = re.search(r"GLOBAL (\S+)", str(error))
        if needs is None:
            raise _unreadable(file) from error
        raise MethodError(
            f"{file} holds more than tensors and plain containers ({needs[1]}), and unpickling that could run any code, so it "
            "is not loaded; where you trust it, save the state dict alone: torch.save(network.state_dict(), FILE)"
        ) from error
    except OSError as error:
        raise MethodError(f"{file} cannot be read: {error.strerror or error}") from error
    except _BROKEN_FILE as error:
        raise _unreadable(file) from error


def _joined(parts: Mapping[str, Mapping[Any, Any]]) -> dict[str, Any]:
    """State dicts of a network's children as one of the network; without the prefix of torch's wrappers for several devices."""
    return {
        f"{part}.{str(name).removeprefix(_WRAPPED)}": value
        for part, state in parts.items()
        for name, value in state.items()
    }


def _unreadable(file: Path) -> MethodError:
    return MethodError(f"{file} is no checkpoint that torch can read: another kind of file, damaged, or not whole")


def _check(network: nn.Module, file: Path, state: Mapping[str, torch.Tensor], what: str) -> None:
    expected = shapes_of(network)
    found = {name: tuple(value.shape) for name, value in state.items()}
    differences = describe_differences(expected, found)
    if differences:
        message = f"{file} ({len(found)} tensors) does not fit {what} ({len(expected)} tensors):" + "".join(
            f"\n  - {line}" for line in differences
        )
        raise CheckpointMismatchError(message, found)
    unusable = [name for name, value in state.items() if value.is_meta or value.layout != torch.strided]
    if unusable:
        raise MethodError(f"{file} holds no plain values (sparse ones, or shapes alone) for {_listed(unusable)}")
    broken = [name for name, value in state.items() if value.is_floating_point() and not value.float().isfinite().all()]
    if broken:
        raise MethodError(
            f"{file} holds NaN or infinite values in {len(broken)} of {len(found)} tensors: {_listed(broken)}; its "
            "training went wrong, or the file is damaged"
        )


def shapes_of(network: nn.Module) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a network's state dict."""
    return {name: tuple(value.shape) for name, value in network.state_dict().items()}


def describe_differences(expected: Shapes, found: Shapes) -> list[str]:
    """One line each on missing names, unexpected names and wrong shapes; none if there is no difference."""
    prefix = _common_prefix(expected, found)
    if prefix is not None:
        return [
            f"every name begins with {prefix!r}, which torch's wrappers for several devices add; save the network "
            "inside: network.module.state_dict()"
        ]
    lines = []
    missing, unexpected = [[*a.keys() - b.keys()] for a, b in ((expected, found), (found, expected))]
    for kind, names in (("missing", missing), ("unexpected", unexpected)):
        if names:
            lines.append(f"{len(names)} {kind}: {_listed(sorted(names))}")
    wrong = [name for name in expected if name in found and expected[name] != found[name]]
    if wrong:
        shown = (f"{name} is {found[name]}, expected {expected[name]}" for name in wrong)
        lines.append(f"{len(wrong)} of another shape: {_listed(shown)}")
    return lines


def _common_prefix(expected: Shapes, found: Shapes) -> str | None:
    if (
        found
        and all(name.startswith(_WRAPPED) for name in found)
        and not any(name.startswith(_WRAPPED) for name in expected)
    ):
        return _WRAPPED
    return None


def _described(content: object) -> str:
    return "an empty dictionary" if isinstance(content, Mapping) else f"a {type(content).__name__}"


def _listed(names: Iterable[str]) -> str:
    given = list(names)
    more = f" and {len(given) - _NAMES_SHOWN} more" if len(given) > _NAMES_SHOWN else ""
    return ", ".join(given[:_NAMES_SHOWN]) + more
