"""Fusion methods: their interface and cards, the registry, their weights, and the runner that feeds them pairs.

Importing this package, and listing the methods, imports neither torch nor numpy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from fusion_det.fusion.build import (
    build_method,
    found_weights,
    get_card,
    list_cards,
    parse_configs,
    resolve_device,
    weights_status,
)
from fusion_det.fusion.external import ExternalImages
from fusion_det.fusion.identity import method_identity
from fusion_det.fusion.method import FusionMethod, MethodCard, WeightsInfo
from fusion_det.fusion.registry import load_method_modules, register_method
from fusion_det.fusion.spec import MethodSpec, expand_methods, with_files
from fusion_det.fusion.weights import how_to_get_weights, parse_weights

if TYPE_CHECKING:
    from fusion_det.fusion.runner import FusionRunner, FusionSummary

__all__ = [
    "ExternalImages",
    "FusionMethod",
    "FusionRunner",
    "FusionSummary",
    "MethodCard",
    "MethodSpec",
    "WeightsInfo",
    "build_method",
    "expand_methods",
    "found_weights",
    "get_card",
    "how_to_get_weights",
    "list_cards",
    "load_method_modules",
    "method_identity",
    "parse_configs",
    "parse_weights",
    "register_method",
    "resolve_device",
    "weights_status",
    "with_files",
]

_LATE = {"FusionRunner": "fusion_det.fusion.runner", "FusionSummary": "fusion_det.fusion.runner"}


def __getattr__(name: str) -> Any:
    """The runner is imported when it is asked for: it needs the readers of images, a listing of methods does not."""
    if name in _LATE:
        return getattr(importlib.import_module(_LATE[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
