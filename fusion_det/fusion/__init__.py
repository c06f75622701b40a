"""Fusion methods: their interface and cards, the registry, their weights, and the runner that feeds them pairs.

Nothing here imports torch until a method is built.
"""

from fusion_det.fusion.build import build_method, get_card, list_cards, resolve_device, weights_status
from fusion_det.fusion.external import ExternalImages
from fusion_det.fusion.identity import method_identity
from fusion_det.fusion.method import FusionMethod, MethodCard, WeightsInfo
from fusion_det.fusion.registry import load_method_modules, register_method
from fusion_det.fusion.runner import FusionRunner, FusionSummary
from fusion_det.fusion.spec import MethodSpec, expand_methods
from fusion_det.fusion.weights import parse_weights

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
    "get_card",
    "list_cards",
    "load_method_modules",
    "method_identity",
    "parse_weights",
    "register_method",
    "resolve_device",
    "weights_status",
]
