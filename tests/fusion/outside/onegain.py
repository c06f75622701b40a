"""A network of one parameter: fused = gain · (ir + vi) / 2."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from fusion_det.errors import MethodError
from fusion_det.fusion import FusionMethod, MethodCard, WeightsInfo, register_method

PUBLISHED_SHA256: str | None = None

CARD = MethodCard(
    "onegain",
    "OneGain",
    "One",
    "A network of one parameter",
    "cnn",
    "luma",
    size_multiple=8,
    configs=("base", "tiny"),
    weights=WeightsInfo("https://example.org/onegain", "gain.pth", "MIT", sha256=PUBLISHED_SHA256),
)


class Net(nn.Module):
    def __init__(self, start):
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(start))

    def forward(self, ir, vi):
        return self.gain * (ir + vi) / 2


@register_method(CARD)
class OneGain(FusionMethod):
    card = CARD

    def __init__(self, config):
        self.config, self.network = config, Net({"base": 5.0, "tiny": 6.0}[config])

    def load_weights(self, file: Path):
        state = torch.load(file, weights_only=True)
        try:
            self.network.load_state_dict(state)
        except RuntimeError as error:
            raise MethodError(f"{file} does not fit onegain: {error}") from error

    def fuse(self, ir, vi):
        return self.network(ir, vi)
