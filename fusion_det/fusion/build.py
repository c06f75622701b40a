"""From a name to a method that is ready to fuse, and to what is known of it before that."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from fusion_det.errors import ConfigError, MethodError
from fusion_det.fusion.external import ExternalImages, external_card
from fusion_det.fusion.method import FusionMethod, MethodCard, used_precision
from fusion_det.fusion.registry import Registration, default_registry
from fusion_det.fusion.spec import MethodSpec, parse_assignments
from fusion_det.fusion.training_card import read_training_card
from fusion_det.fusion.weights import FoundWeights, WeightsChoice, find_weights, missing_weights, require_weights

if TYPE_CHECKING:
    from fusion_det.fusion.checkpoint import CheckpointMismatchError


def list_cards() -> list[MethodCard]:
    """Cards of all registered methods, in table order. Does not import torch."""
    return default_registry().cards()


def get_card(method: str | MethodSpec) -> MethodCard:
    """The card of a method, or one made for a ``NAME=FOLDER``. MethodError for an unknown name."""
    if isinstance(method, MethodSpec) and method.folder is not None:
        return external_card(method)
    return default_registry().get(_name(method)).card


def build_method(
    method: str | MethodSpec,
    weights: WeightsChoice = "auto",
    config: str | None = None,
    device: str = "cpu",
    dtype: str = "float32",
) -> FusionMethod | ExternalImages:
    """Build a method, load its weights and move it to a device.

    Args:
        method: a registered name, or a spec; a spec with a folder gives the reader of its images.
        weights: for learned methods: "auto" is what the spec says, by itself the official file or else the shipped one; a path
            names a file, None leaves the network untrained (for tests and training; the runner refuses to fuse with it).
            Methods that learn nothing take "auto" and None.
        config: one of ``card.configs``; None for that of the file, if it says so, else the first of them.
        device: "cpu", "cuda", "cuda:1", "mps" or "auto".
        dtype: what a network computes in: "float32", "bfloat16" or "float16". Methods without one do not care.

    Raises:
        MethodError: unknown name or config, or weights that are missing or wrong.
        ConfigError: a device this machine does not have, or an unknown dtype.
    """
    if isinstance(method, MethodSpec) and method.folder is not None:
        return ExternalImages(external_card(method), method.folder)
    entry = default_registry().get(_name(method))
    choice = chosen_weights(method, weights)
    chosen = chosen_config(entry.card, choice, config)
    file = None
    if choice is not None and (entry.card.weights is not None or choice != "auto"):
        file = require_weights(entry.card, choice, chosen).file
    built = _construct(entry, chosen) if file is None else _construct_undrawn(entry, chosen)
    if entry.card.weights is not None:
        built.trained = False
    if file is not None:
        _load(built, file)
    precision = used_precision(entry.card, dtype)
    if precision == "float32":
        built.to(resolve_device(device))
    else:
        import torch

        built.to(resolve_device(device), getattr(torch, precision))
    return built


def _construct_undrawn(entry: Registration, config: str | None) -> FusionMethod:
    """:func:`_construct` for a method whose weights are loaded next. Others' methods may keep what they begin with."""
    if not entry.module.startswith(f"{__package__}."):
        return _construct(entry, config)
    from fusion_det.fusion.undrawn import NothingDrawn

    with NothingDrawn():
        return _construct(entry, config)


def _load(built: FusionMethod, file: Path) -> None:
    from fusion_det.fusion.checkpoint import CheckpointMismatchError

    try:
        built.load_weights(file)
    except CheckpointMismatchError as error:
        raise MethodError(f"{error}{_what_it_is(error)}") from error
    built.trained, built.weights_file = True, file


def _what_it_is(mismatch: CheckpointMismatchError) -> str:
    """A line naming the methods and configurations of this package that the tensors fit, if there are any."""
    import torch

    from fusion_det.fusion.checkpoint import shapes_of

    fits = []
    for card in list_cards():
        entry = default_registry().get(card.name)
        if card.weights is None or not entry.module.startswith(f"{__package__}."):
            continue
        for config in card.configs or (None,):
            with torch.device("meta"):
                network = _construct(entry, config).network
            if network is not None and shapes_of(network) == mismatch.shapes:
                fits.append(card.name if config is None else f"{card.name} (configuration {config})")
    return f"\nit fits {' and '.join(fits)}" if fits else ""


def chosen_weights(method: str | MethodSpec, weights: WeightsChoice) -> WeightsChoice:
    """What "auto" means for a row that names its weights itself; any other choice stands."""
    return method.weights if weights == "auto" and isinstance(method, MethodSpec) else weights


def chosen_config(card: MethodCard, weights: WeightsChoice, config: str | None) -> str | None:
    """:func:`check_config`, where a file that was named for its weights may name its own configuration."""
    if config is None and isinstance(weights, Path) and card.configs and weights.is_file():
        training = read_training_card(weights)
        if training is not None and training.config in card.configs:
            return training.config
    return check_config(card, config)


def check_config(card: MethodCard, config: str | None) -> str | None:
    """The config's full name (None for a method without any). MethodError if there is no such config."""
    if config is None:
        return card.configs[0] if card.configs else None
    if config not in card.configs:
        raise MethodError(
            f"{card.name} has no configuration {config!r}; it has {', '.join(card.configs) or 'none to choose from'}"
        )
    return config


def parse_configs(items: Iterable[str], known: Iterable[str], only: str | None = None) -> dict[str, str]:
    """``["s4fusion=paper", …]`` (values of ``--config``) as method → configuration; see ``parse_assignments``.

    Raises:
        MethodError: anything that is not METHOD=NAME with a known method and one of its configurations.
    """
    chosen = dict(parse_assignments("--config", "NAME", items, known, only))
    for name, config in chosen.items():
        check_config(get_card(name), config)
    return chosen


def _construct(entry: Registration, config: str | None) -> FusionMethod:
    built = entry.factory() if config is None else entry.factory(config=config)
    if not isinstance(built, FusionMethod):
        raise MethodError(
            f"{entry.module}.{entry.factory.__qualname__} made a {type(built).__name__}; a method is a "
            "fusion_det.fusion.FusionMethod"
        )
    if getattr(built, "card", None) != entry.card:
        built.card = entry.card
    return built


def found_weights(
    spec: str | MethodSpec, weights: WeightsChoice = "auto", config: str | None = None
) -> FoundWeights | None:
    """The weights a method would fuse with; None where there are none, or none are needed."""
    card = get_card(spec)
    choice = chosen_weights(spec, weights)
    return find_weights(card, choice, chosen_config(card, choice, config))


def weights_status(
    spec: str | MethodSpec, weights: WeightsChoice = "auto", config: str | None = None
) -> tuple[bool, str]:
    """Whether a method can fuse, and one line that says why (or where its weights are looked for). Reads no weights."""
    card = get_card(spec)
    if isinstance(spec, MethodSpec) and spec.folder is not None:
        return spec.folder.is_dir(), f"images in {spec.folder}"
    if card.weights is None:
        return True, "none needed"
    found = found_weights(spec, weights, config)
    if found is not None:
        return True, found.text(card)
    choice = chosen_weights(spec, weights)
    return False, missing_weights(card, choice, chosen_config(card, choice, config))


def resolve_device(device: str) -> str:
    """A device this machine has: "auto" is the first of cuda, mps, cpu. ConfigError for one it does not have."""
    import torch

    has = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if device == "auto":
        return next(kind for kind, there in has.items() if there)
    kind, _, index = device.partition(":")
    if not has.get(kind, False) or (index and not index.isdecimal()):
        raise ConfigError(
            f"--device {device}: this machine has {', '.join(kind for kind, there in has.items() if there)}; use one of "
            "them, or auto"
        )
    if kind == "cuda" and index and int(index) >= torch.cuda.device_count():
        raise ConfigError(
            f"--device {device}: this machine has {torch.cuda.device_count()} CUDA device(s), from cuda:0"
        )
    return device


def _name(method: str | MethodSpec) -> str:
    return method.method if isinstance(method, MethodSpec) else method
