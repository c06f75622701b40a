"""Small networks that learn, as somebody else's module registers them: one for luma, one for colour, one that breaks."""

from __future__ import annotations

import torch
from torch import nn

from fusion_det.fusion import FusionMethod, MethodCard, WeightsInfo, register_method

WEIGHTS = WeightsInfo("nowhere", "weights.pth", "MIT")


class Net(nn.Module):
    def __init__(self, channels, gain=1.0):
        super().__init__()
        self.first, self.second = nn.Conv2d(1 + channels, 8, 3, padding=1), nn.Conv2d(8, channels, 3, padding=1)
        self.norm, self.dropout, self.gain = nn.BatchNorm2d(8), nn.Dropout(0.2), gain

    def forward(self, ir, vi):
        x = self.norm(self.first(torch.cat((ir, vi), dim=1)).relu())
        return self.second(self.dropout(x)) * self.gain


class Learner(FusionMethod):
    def __init__(self, config=None):
        self.network = Net(3 if self.card.fuses == "rgb" else 1, float("inf") if self.card.name == "breaking" else 1.0)

    def load_weights(self, file):
        from fusion_det.fusion.checkpoint import load_checkpoint

        load_checkpoint(self.network, file, key=None, method=self.card.name)

    def fuse(self, ir, vi):
        return self.network(ir, vi)


def card(name, fuses):
    return MethodCard(name, name, name, name, "cnn", fuses, weights=WEIGHTS, size_multiple=8)


@register_method(card("learner", "luma"))
class LumaLearner(Learner):
    card = card("learner", "luma")


@register_method(card("colourlearner", "rgb"))
class ColourLearner(Learner):
    card = card("colourlearner", "rgb")


@register_method(card("breaking", "luma"))
class Breaking(Learner):
    card = card("breaking", "luma")


@register_method(card("twophased", "luma"))
class TwoPhased(Learner):
    """First its first layer learns to be dark, without fusing; then both layers learn to average."""

    card = card("twophased", "luma")

    def recipe(self, settings, classifier_weights=None):
        from fusion_det.fusion.training.recipe import Phase, Recipe

        net = self.network
        parts = {"first": net.first, "second": net.second}
        dark = Phase(
            "dark",
            lambda sources: net.first(torch.cat((sources.ir, sources.luma), dim=1)),
            lambda sources, maps, done: {"total": maps.square().mean()},
            learns=("first",),
            fuses=False,
        )
        mean = Phase(
            "mean",
            lambda sources: net(sources.ir, sources.luma),
            lambda sources, fused, done: {
                "total": (fused - (sources.ir + sources.luma) / 2).abs().mean(),
                "done": fused.new_tensor(done),
            },
            learns=("first", "second"),
            share=2,
        )
        return Recipe(settings, parts, [dark, mean], "made up")
