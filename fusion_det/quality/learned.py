"""MUSIQ and TOPIQ: learned scores of one image without a reference, through the optional library pyiqa.

pyiqa's licence is non-commercial (PolyForm Noncommercial 1.0.0), so this project neither contains nor requires it. Nor does
anything here download weights: without them a metric says what to get and where to put it.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

from fusion_det.errors import QualityError
from fusion_det.quality.comparison import grey_levels
from fusion_det.quality.table import find_metric

WEIGHTS_HOME = "https://huggingface.co/chaofengc/IQA-PyTorch-Weights"

Scorer = Callable[[torch.Tensor], torch.Tensor]
"""(B,1,H,W) grey or (B,3,H,W) RGB, whole levels 0..255 → (B,) float64."""


@dataclass(frozen=True)
class _Model:
    """A metric in pyiqa. options: what keeps its constructor from fetching anything."""

    pyiqa_name: str
    weights_file: str
    options: Mapping[str, Any]


_MODELS: Mapping[str, _Model] = MappingProxyType(
    {
        "MUSIQ": _Model("musiq", "musiq_koniq_ckpt-e95806b9.pth", {}),
        "TOPIQ": _Model("topiq_nr", "cfanet_nr_koniq_res50-9a73138b.pth", {"backbone_pretrain": False}),
    }
)


def learned_metric(name: str, *, weights: Path | None = None, device: str | torch.device = "cpu") -> Scorer:
    """Load MUSIQ or TOPIQ once, to score any number of images.

    Args:
        name: "MUSIQ" (about 0 to 100) or "TOPIQ" (about 0 to 1), both as trained on KonIQ-10k; higher is better.
        weights: its file of weights; by default where pyiqa keeps it, ``pyiqa/`` in torch's hub folder.
        device: where the network runs.

    Raises:
        QualityError: not a learned metric; pyiqa is not installed; the file of weights is not there.

    Sources: Ke et al., MUSIQ, ICCV 2021; Chen et al., TOPIQ, IEEE TIP 33, 2024.
    """
    metric, model = find_metric(name), _model(name)
    try:
        pyiqa = importlib.import_module("pyiqa")
    except ImportError as error:
        raise QualityError(
            f"{metric.name} needs the library pyiqa ({error}): pip install pyiqa (non-commercial licence), or leave the "
            "metric out"
        ) from error
    file = weights or weights_file(name)
    if not file.is_file():
        raise QualityError(
            f"the weights of {metric.name} are not at {file}: download {model.weights_file} from {WEIGHTS_HOME} and put it "
            "there, or leave the metric out"
        )
    network = pyiqa.create_metric(
        model.pyiqa_name, device=torch.device(device), pretrained_model_path=str(file), **model.options
    )

    def score(fused: torch.Tensor) -> torch.Tensor:
        channels = [grey_levels(channel, "fused") for channel in fused.split(1, dim=1)]
        rgb = torch.cat(channels * 3 if len(channels) == 1 else channels, dim=1)
        if rgb.shape[1] != 3:
            raise QualityError(f"fused must be (B,1,H,W) or (B,3,H,W), got {tuple(fused.shape)}")
        with torch.no_grad():  # one by one: a score must not depend on the rest of the batch
            values = [float(network(image[None].to(device) / 255)) for image in rgb]
        return torch.tensor(values, dtype=torch.float64, device=fused.device)

    return score


def weights_file(name: str) -> Path:
    """Where pyiqa keeps the weights of a learned metric, whether or not they are there. QualityError for another metric."""
    return Path(torch.hub.get_dir()) / "pyiqa" / _model(name).weights_file


def _model(name: str) -> _Model:
    metric = find_metric(name)
    if metric.name not in _MODELS:
        raise QualityError(f"{metric.name} is not a learned metric; the learned ones are {', '.join(_MODELS)}")
    return _MODELS[metric.name]


def musiq(fused: torch.Tensor, *, weights: Path | None = None) -> torch.Tensor:
    """MUSIQ of the fused image alone, about 0 to 100, higher is better; loads the network, see :func:`learned_metric`.

    Args:
        fused: (B,1,H,W) grey or (B,3,H,W) RGB, whole levels 0..255 in any dtype.

    Returns:
        (B,) float64.
    """
    return learned_metric("MUSIQ", weights=weights, device=fused.device)(fused)


def topiq(fused: torch.Tensor, *, weights: Path | None = None) -> torch.Tensor:
    """TOPIQ (no-reference) of the fused image alone, about 0 to 1, higher is better; see :func:`learned_metric`.

    Args:
        fused: (B,1,H,W) grey or (B,3,H,W) RGB, whole levels 0..255 in any dtype.

    Returns:
        (B,) float64.
    """
    return learned_metric("TOPIQ", weights=weights, device=fused.device)(fused)
