"""What a method's images depend on, as data: two equal identities give the same images of the same pairs.

Computed from source files and digests, without importing torch, so that a pipeline knows in milliseconds what is stale.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fusion_det.errors import MethodError
from fusion_det.files import digest_json, remembered_digest
from fusion_det.fusion.build import chosen_config, chosen_weights, found_weights
from fusion_det.fusion.method import MethodCard, used_precision
from fusion_det.fusion.registry import Registration, default_registry
from fusion_det.fusion.spec import MethodSpec
from fusion_det.fusion.weights import WeightsChoice, files_of
from fusion_det.source_digest import meaning_digest
from fusion_det.tasks import IVIF

if TYPE_CHECKING:
    from fusion_det.fusion.protocol import Protocol

SHARED_SOURCES: tuple[str, ...] = (
    "fusion_det.fusion.frame",
    "fusion_det.fusion.filters",
    "fusion_det.data.color",
    "fusion_det.data.images",
)
"""Modules that decide the pixels of every method's images: reading, colour, padding, rounding."""

OFFICIAL_SOURCES: tuple[str, ...] = ("fusion_det.fusion.protocol", "fusion_det.data.images")
"""The same of images by published procedures."""

_PACKAGE = "fusion_det"


def method_identity(
    spec: str | MethodSpec,
    weights: WeightsChoice = "auto",
    config: str | None = None,
    dtype: str = "float32",
    protocol: Protocol = "common",
    task: str = IVIF,
) -> dict[str, Any]:
    """Identity of a method as it would fuse now.

    Returns:
        ``name``: of the method, whatever its row is called; ``code``: sha256 over the method's module or package (an
        outsider's: its whole top-level package), its declared ``sources`` and ``SHARED_SOURCES``, comments, docstrings and
        layout left out; ``weights``: sha256 of the file (of several: over theirs), None without any; ``config``: its full
        name or None; ``dtype``: what its network computes in (float32 without one); ``protocol``, where it is the official
        one; ``task``, where it is another than infrared and visible. For ``NAME=FOLDER`` also ``images``: digest of the
        images' names, sizes and modification times. (Not of their bytes: hashing 4200 images takes many seconds, and this is
        asked on every run.)

    Raises:
        MethodError: unknown method or config, or a weights file that is named but not there.
    """
    if isinstance(spec, str):
        spec = MethodSpec(spec)
    if spec.folder is not None:
        shared = (*SHARED_SOURCES, "fusion_det.fusion.external")
        return {
            "name": spec.name,
            "code": _code_digest(shared),
            "weights": None,
            "config": None,
            "dtype": None,
            "images": folder_signature(spec.folder),
        }
    entry = default_registry().get(spec.method)
    choice = chosen_weights(spec, weights)
    if isinstance(choice, Path) and entry.card.weights is not None and not choice.is_file():
        raise MethodError(f"the weights of {spec.method} are not there: {choice} is no file")
    found = found_weights(spec, weights, config)
    around = SHARED_SOURCES if protocol == "common" else OFFICIAL_SOURCES
    asked: dict[str, str] = {} if protocol == "common" else {"protocol": protocol}
    if task != IVIF:
        around = (*around, "fusion_det.tasks")
        asked["task"] = task
    identity = {
        "name": spec.method,
        "code": _code_digest((_own_source(entry), *entry.sources, *around)),
        "weights": None if found is None else _weights_digest(entry.card, found.file),
        "config": chosen_config(entry.card, choice, config),
        "dtype": used_precision(entry.card, dtype),
    }
    return identity | asked


def _weights_digest(card: MethodCard, file: Path) -> str:
    digests = [remembered_digest(part) for part in files_of(card, file)]
    return digests[0] if len(digests) == 1 else digest_json(digests)


def folder_signature(folder: Path) -> str:
    """sha256 over the (name, size, mtime_ns) of a folder's images, by name. MethodError if it cannot be listed."""
    from fusion_det.data.images import IMAGE_SUFFIXES

    try:
        files = [file for file in folder.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES]
        return digest_json(sorted((file.name, *_stamp(file)) for file in files))
    except OSError as error:
        raise MethodError(f"the fused images in {folder} cannot be listed: {error.strerror}") from error


def _stamp(file: Path) -> tuple[int, int]:
    status = file.stat()
    return status.st_size, status.st_mtime_ns


def _own_source(entry: Registration) -> str:
    """The module (or package) that decides a method's images; for one from outside its whole top-level package."""
    inside = entry.module.split(".")[0] == _PACKAGE
    return entry.module if inside else entry.module.split(".")[0]


def _code_digest(modules: Iterable[str]) -> str:
    files = {file: name for module in modules for name, file in _source_files(module)}
    digests = {name: _meaning_as_of(file, *_stamp(file)) for file, name in files.items()}
    return digest_json(digests)


def _source_files(module: str) -> list[tuple[str, Path]]:
    """(portable name, file) of a module, or of all of a package."""
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise MethodError(f"the source of {module} is not to be found, so its fused images cannot be told apart")
    origin = Path(spec.origin)
    if spec.submodule_search_locations is None:
        return [(module, origin)]
    folder = origin.parent
    files = sorted(file for file in folder.rglob("*.py") if "__pycache__" not in file.parts)
    return [(f"{module}/{file.relative_to(folder).as_posix()}", file) for file in files]


@functools.lru_cache(maxsize=4096)
def _meaning_as_of(file: Path, size: int, mtime_ns: int) -> str:
    return meaning_digest(file.read_bytes())
