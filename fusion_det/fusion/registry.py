"""Which fusion methods there are: built in, installed by others, or in a module named on the command line.

A method is a class (or a factory function) marked with :func:`register_method`. Marking does nothing else; a
:class:`Registry` is made by looking through modules for what is marked, so importing a module changes nothing. Modules
of methods import torch where they use it, which is why listing every card takes milliseconds.
"""

from __future__ import annotations

import difflib
import functools
import importlib
import importlib.util
import logging
import pkgutil
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import TypeVar

from fusion_det.errors import MethodError
from fusion_det.fusion.method import FusionMethod, MethodCard
from fusion_det.fusion.spec import RESERVED_NAMES, is_safe_name

ENTRY_POINT_GROUP = "fusion_det.methods"

Factory = Callable[..., FusionMethod]
F = TypeVar("F", bound=Factory)

_MARK = "__fusion_method__"
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Registration:
    """A method as the registry knows it.

    factory: called as ``factory()``, or ``factory(config=NAME)`` for a card with ``configs``; returns the method without
        weights. It is the only thing that may import torch.
    sources: modules or packages beside the method's own whose code decides what its images look like.
    """

    card: MethodCard
    factory: Factory
    sources: tuple[str, ...] = ()

    @property
    def module(self) -> str:
        return self.factory.__module__


def register_method(card: MethodCard, *, sources: Iterable[str] = ()) -> Callable[[F], F]:
    """Mark a :class:`FusionMethod` class, or a function that returns one, as the method that ``card`` describes.

    Args:
        card: what tables and people are told about it; its ``name`` must be unique.
        sources: names of shared modules or packages the method computes with (``"fusion_det.fusion.ssm"``). Their code,
            like the method's own module or package, is part of its identity: fused images are remade when it changes.

    Example:
        >>> from fusion_det.fusion import FusionMethod, MethodCard, register_method
        >>> CARD = MethodCard("brightest", "Brightest", "Bri", "Brighter of the two", "arithmetic", "luma")
        >>> @register_method(CARD)
        ... class Brightest(FusionMethod):
        ...     card = CARD
        ...     def fuse(self, ir, vi):
        ...         return ir.maximum(vi)
    """

    def mark(factory: F) -> F:
        setattr(factory, _MARK, Registration(card, factory, tuple(sources)))
        return factory

    return mark


@dataclass
class Registry:
    """Methods by name, in the order of tables, and the third-party modules that could not be imported."""

    entries: dict[str, Registration] = field(default_factory=dict)
    unavailable: dict[str, str] = field(default_factory=dict)
    """Entry point or module → why it is not there."""

    def add(self, registration: Registration) -> None:
        """Add one method. MethodError if its name is taken, reserved or unfit for a file name."""
        name = registration.card.name
        if not is_safe_name(name):
            raise MethodError(
                f"{registration.module} registers a method named {name!r}: a name is 1–64 letters, digits, '.', '_' or '-', "
                f"begins with a letter or digit and is none of {', '.join(sorted(RESERVED_NAMES))}"
            )
        known = {entry.card.name.casefold(): entry for entry in self.entries.values()}.get(name.casefold())
        if known is not None and known.factory is registration.factory:
            return
        if known is not None:
            raise MethodError(
                f"two fusion methods are named {name!r}: {known.module}.{known.factory.__qualname__} and "
                f"{registration.module}.{registration.factory.__qualname__}; rename one of them on its card"
            )
        self.entries[name] = registration

    def add_module(self, module: ModuleType) -> int:
        """Add all that is marked in ``module``; returns how many methods it holds."""
        found = [entry for entry in map(_registration, vars(module).values()) if entry is not None]
        for entry in found:
            self.add(entry)
        return len(found)

    def cards(self) -> list[MethodCard]:
        return sorted((entry.card for entry in self.entries.values()), key=lambda card: (card.order, card.name))

    def get(self, name: str) -> Registration:
        """The method of this name. MethodError with the nearest names if there is none."""
        try:
            return self.entries[name]
        except KeyError:
            raise unknown_method(name, self) from None


def _registration(value: object) -> Registration | None:
    """What :func:`register_method` attached to ``value`` itself (a subclass does not inherit its parent's mark)."""
    if not callable(value):
        return None
    mark = getattr(value, "__dict__", {}).get(_MARK)
    return mark if isinstance(mark, Registration) else None


def unknown_method(name: str, registry: Registry) -> MethodError:
    """The error for a name nobody registered, with the names that look like it."""
    names = [card.name for card in registry.cards()]
    labels = {card.label.casefold(): card.name for card in registry.cards()}
    folded = {known.casefold(): known for known in names} | labels
    near = difflib.get_close_matches(name.casefold(), list(folded), n=3, cutoff=0.6)
    guess = " or ".join(dict.fromkeys(folded[key] for key in near))
    hint = f"did you mean {guess}?" if guess else f"known methods: {', '.join(names)}."
    broken = "".join(f"\n  unavailable: {source}: {why}" for source, why in registry.unavailable.items())
    return MethodError(
        f"unknown fusion method {name!r}: {hint} (fusion-det methods lists them; somebody's fused images are "
        f"NAME=FOLDER, another module's methods come with --method-module){broken}"
    )


def builtin_modules() -> Iterator[ModuleType]:
    """The modules and packages directly in ``fusion_det.fusion.methods``, by name."""
    import fusion_det.fusion.methods as package

    for info in sorted(pkgutil.iter_modules(package.__path__), key=lambda info: info.name):
        if not info.name.startswith("_"):
            yield importlib.import_module(f"{package.__name__}.{info.name}")


def build_registry(installed: Iterable[EntryPoint] | None = None) -> Registry:
    """Look through the built-in methods and the entry points of the group ``fusion_det.methods``.

    An entry point names a module (``"mylab.fusion"``) or something marked in one (``"mylab.fusion:Ours"``). One that
    cannot be imported, whatever it raises, is put down in ``unavailable``: somebody else's package must not stop ours.
    """
    registry = Registry()
    for module in builtin_modules():
        registry.add_module(module)
    for point in entry_points(group=ENTRY_POINT_GROUP) if installed is None else installed:
        label = f"{point.name} = {point.value}"
        try:
            _add_entry_point(registry, point)
        except Exception as error:  # noqa: BLE001 - a stranger's import may raise anything
            registry.unavailable[label] = f"{type(error).__name__}: {error}"
            log.warning("methods of the entry point %s are unavailable: %s: %s", label, type(error).__name__, error)
    return registry


def _add_entry_point(registry: Registry, point: EntryPoint) -> None:
    loaded = point.load()
    if isinstance(loaded, ModuleType):
        if not registry.add_module(loaded):
            raise MethodError(f"{point.value} marks no method with @register_method")
        return
    entry = _registration(loaded)
    if entry is None:
        raise MethodError(f"{point.value} is not marked with @register_method")
    registry.add(entry)


@functools.cache
def default_registry() -> Registry:
    """The registry of this process, made when first asked for."""
    return build_registry()


def load_method_modules(names: Iterable[str], registry: Registry | None = None) -> None:
    """Import other people's modules of methods (``--method-module``) and add what they register.

    Args:
        names: dotted module names, found as ``python -m`` finds them (the working directory included), or paths of
            ``.py`` files.

    Raises:
        MethodError: a module cannot be imported, registers nothing, or a name of its methods is taken.
    """
    target = default_registry() if registry is None else registry
    for name in names:
        module = _import_module(name)
        if not target.add_module(module):
            raise MethodError(f"--method-module {name}: nothing in it is marked with @register_method(CARD)")


def _import_module(name: str) -> ModuleType:
    here = str(Path.cwd())
    added = here not in sys.path
    if added:
        sys.path.append(here)
    try:
        return _import_file(Path(name)) if name.endswith(".py") else importlib.import_module(name)
    except Exception as error:  # the user's own module may raise anything; the cause stays chained
        raise MethodError(f"--method-module {name} cannot be imported: {type(error).__name__}: {error}") from error
    finally:
        if added:
            sys.path.remove(here)


def _import_file(path: Path) -> ModuleType:
    path = path.resolve()
    known = sys.modules.get(path.stem)
    if known is not None and getattr(known, "__file__", None) == str(path):
        return known
    found = importlib.util.find_spec(path.stem) if known is None else known.__spec__
    if found is not None and found.origin != str(path):  # (a file in the working folder is found under its own name)
        raise MethodError(f"a module named {path.stem!r} exists already; rename {path}")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise MethodError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[path.stem]
        raise
    return module
