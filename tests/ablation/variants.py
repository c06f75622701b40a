"""A network with variants, as somebody else's module registers it: one that learns, one without half of it, one that breaks."""

from __future__ import annotations

import torch
from torch import nn

from fusion_det.fusion import FusionMethod, MethodCard, WeightsInfo, register_method

CARD = MethodCard(
    name="ablated",
    label="Ablated",
    abbreviation="ABL",
    title="Ablated",
    family="cnn",
    fuses="luma",
    weights=WeightsInfo("nowhere", "weights.pth", "MIT"),
    size_multiple=8,
    configs=("whole", "half", "breaking"),
)


class Net(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.sees = nn.Conv2d(1 if config == "half" else 2, 1, 3, padding=1)
        self.unused = nn.Linear(3, 4)
        self.gain = float("inf") if config == "breaking" else 1.0

    def forward(self, ir, vi):
        seen = vi if self.sees.in_channels == 1 else torch.cat((ir, vi), dim=1)
        return (vi + self.sees(seen)) * self.gain


@register_method(CARD)
class Ablated(FusionMethod):
    card = CARD

    def __init__(self, config="whole"):
        self.network, self.config = Net(config), config

    def load_weights(self, file):
        from fusion_det.fusion.checkpoint import load_checkpoint

        load_checkpoint(self.network, file, key=None, method=self.card.name, config=self.config)

    def fuse(self, ir, vi):
        return self.network(ir, vi)
