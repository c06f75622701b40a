"""The detector's starting weights: finding them, and loading them without executing anything they contain."""

from __future__ import annotations

import http.client
import logging
import os
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fusion_det.errors import ConfigError
from fusion_det.files import replace_atomically

if TYPE_CHECKING:
    import torch
    from torch import nn

logger = logging.getLogger(__name__)

RELEASE = "https://github.com/ultralytics/assets/releases/download/v8.4.0/{file}"
DEMO_WEIGHTS = Path(__file__).parent / "weights" / "demo_yolov5n.safetensors"


def resolve_weights(choice: str, model: str, *, download: bool = True) -> Path | None:
    """Turn ``--detector-weights`` into a file, or None for a start from scratch.

    Args:
        choice: "auto" (ultralytics' own COCO-pretrained ``<model>u.pt``: below ``$FUSION_DET_WEIGHTS``, ``weights/``, the
            working directory, else downloaded to ``weights/``), "scratch", "demo" (the small detector shipped for the
            demo), or a file.
        model: architecture, "yolov5s" say.
        download: False only looks; the file returned for "auto" may then not be there yet.

    Raises:
        ConfigError: no such file, or "auto" and neither present nor downloadable; names the alternatives.
    """
    if choice == "scratch":
        return None
    if choice == "demo":
        if not DEMO_WEIGHTS.is_file():
            raise ConfigError(
                f"{DEMO_WEIGHTS} is missing; make it with 'python -m fusion_det.detection.demo_detector' "
                "or use --detector-weights scratch"
            )
        return DEMO_WEIGHTS
    if choice != "auto":
        path = Path(choice).expanduser().resolve()
        if path.is_dir():
            files = sorted(path.glob("*.safetensors"))
            if len(files) != 1:
                raise ConfigError(
                    f"--detector-weights {choice}: a folder with {len(files)} .safetensors files; name the file"
                )
            path = files[0]
        if not path.is_file():
            raise ConfigError(
                f"--detector-weights {choice}: no such file. Give auto, scratch, or a .safetensors/.pt file"
            )
        return path
    return _official(f"{model}u.pt", download)


def _official(file: str, download: bool) -> Path:
    roots = [Path(p) for p in [os.environ.get("FUSION_DET_WEIGHTS", ""), "weights", "."] if p]
    for root in roots:
        if (root / file).is_file():
            return (root / file).resolve()
    if not download:
        return Path("weights") / file
    url, target = RELEASE.format(file=file), Path("weights") / file
    looked = ", ".join(str(r / file) for r in roots)
    try:
        logger.info("downloading %s", url)
        with urllib.request.urlopen(url, timeout=20) as response, replace_atomically(target) as temporary:
            expected = int(response.headers.get("Content-Length") or 0)
            with temporary.open("wb") as handle:
                while chunk := response.read(1 << 20):
                    handle.write(chunk)
            if expected and temporary.stat().st_size != expected:
                raise OSError(f"got {temporary.stat().st_size} of {expected} bytes")
            read_state_dict(temporary)  # whole, and a detector's, before it takes its name; none of it is executed
    except (OSError, http.client.HTTPException) as error:
        raise ConfigError(
            f"the COCO-pretrained {file} is not at {looked}, and {url} cannot be downloaded ({error}). "
            f"Put the file at weights/{file}, or give --detector-weights FILE (.safetensors or .pt), "
            "or --detector-weights scratch (lower figures, not the paper's protocol)"
        ) from error
    return target.resolve()


def read_state_dict(path: Path) -> dict[str, torch.Tensor]:
    """Tensors of a detector checkpoint by name, floating ones as float32; nothing in the file is executed.

    ``.safetensors`` files hold nothing else. ultralytics' ``.pt`` files hold a pickled model: they are read with
    ``weights_only=True`` and an allow-list of torch's and ultralytics' own layer classes, so anything else in the pickle
    is refused.

    Raises:
        ConfigError: not a checkpoint, or one that would have to execute code.
    """
    import torch

    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state = load_file(path)
        else:
            with torch.serialization.safe_globals(_layer_classes()):
                loaded = torch.load(path, map_location="cpu", weights_only=True)
            state = _state_of(loaded)
    except Exception as error:
        raise ConfigError(
            f"{path}: cannot be read as detector weights ({str(error).splitlines()[0]}). Expected a .safetensors state dict "
            "or an ultralytics .pt checkpoint"
        ) from error
    return {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in state.items()}


def _state_of(loaded: object) -> dict[str, torch.Tensor]:
    import torch

    if isinstance(loaded, dict):
        for key in ("ema", "model", "state_dict"):
            if loaded.get(key) is not None:
                return _state_of(loaded[key])
        if all(isinstance(v, torch.Tensor) for v in loaded.values()):
            return loaded
    if isinstance(loaded, torch.nn.Module):
        return loaded.state_dict()
    raise ConfigError(f"neither a state dict nor a model inside (found {type(loaded).__name__})")


def _layer_classes() -> list[Any]:
    """Classes a pickled ultralytics detector is made of."""
    import inspect

    import torch
    from ultralytics.nn import modules, tasks
    from ultralytics.utils import IterableSimpleNamespace

    found: list[Any] = [tasks.DetectionModel, IterableSimpleNamespace]
    for package in (torch.nn, modules, modules.block, modules.conv, modules.head):
        found += [c for _, c in inspect.getmembers(package, inspect.isclass) if issubclass(c, torch.nn.Module)]
    return found


@dataclass(frozen=True)
class Transfer:
    """How much of a checkpoint a model took."""

    taken: int
    total: int
    left: tuple[str, ...]
    """Names of the model's tensors that start fresh."""

    def __str__(self) -> str:
        return f"{self.taken} of {self.total} tensors"


def load_matching(model: nn.Module, state: dict[str, torch.Tensor]) -> Transfer:
    """Copy every tensor of ``state`` that ``model`` has under the same name and shape; the rest of the model stays fresh.

    Raises:
        ConfigError: less than half of the model's parameters matched: the file belongs to another architecture.
    """
    own = model.state_dict()
    matching = {n: t for n, t in state.items() if n in own and own[n].shape == t.shape}
    # Counters have one shape in every architecture: only parameters tell whether the file belongs to this one.
    total = sum(p.numel() for p in model.parameters())
    taken = sum(p.numel() for n, p in model.named_parameters() if n in matching)
    if taken < total / 2:
        raise ConfigError(
            f"the detector weights fit {taken} of the model's {total} parameters: they belong to another architecture. Choose "
            "the detector they are of (--set detector.model=yolov5n, say), other weights, or --detector-weights scratch"
        )
    model.load_state_dict(matching, strict=False)
    return Transfer(len(matching), len(own), tuple(n for n in own if n not in matching))
