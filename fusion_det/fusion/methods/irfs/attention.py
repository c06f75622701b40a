"""How FGCCNet joins visible, thermal and fused features after each layer of its backbone (arXiv:2305.09999, Sec. 3.3).

B visible, B thermal and B fused feature maps (B,C,H,W); "r" in the published names stands for the visible image (RGB), "d" and
"t" for the thermal one. The published modules hold a few parameters that nothing uses; the state dict has them.
"""

from __future__ import annotations

import torch
from torch import nn


class FusedGuidance(nn.Module):
    """Adds to both sources what the fused features point at (``att_block<j>_1``)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma_rf, self.gamma_tf = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
        self.layer_rgb = nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.ReLU())
        self.layer_t = nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.ReLU())
        self.layer_fus = nn.Conv2d(width, width, 3, padding=1)

    def forward(
        self, visible: torch.Tensor, thermal: torch.Tensor, fused: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        pointed = self.layer_fus(fused).sigmoid()
        return (
            visible + self.gamma_rf * self.layer_rgb(visible) * pointed,
            thermal + self.gamma_tf * self.layer_t(thermal) * pointed,
        )


class CrossAttention(nn.Module):
    """Attention of either source to the other, and a merged map that both are averaged with (``att_block<j>``).

    Args:
        reduction: by which keys and values are smaller than the queries, in height and width.
    """

    def __init__(self, width: int, reduction: int) -> None:
        super().__init__()
        self.reduction = reduction
        for name in ("gamma_rd", "gamma_dr", "gamma_x"):
            self.register_parameter(name, nn.Parameter(torch.zeros(1)))
        for kind in ("query", "key", "value"):
            for direction in ("rd", "dr"):
                self.add_module(f"{kind}_conv{direction}", nn.Conv2d(width, width, 1))
        if reduction > 1:
            for suffix in ("k", "v", "kk", "vv"):
                self.add_module(f"sr_{suffix}", nn.Conv2d(width, width, reduction, stride=reduction))
                self.add_module(f"norm_{suffix}", nn.BatchNorm2d(width))
        self.fc1, self.fc2 = nn.Conv2d(2 * width, width // 2, 1), nn.Conv2d(width // 2, 2 * width, 1)
        self.merge_conv1x1 = nn.Sequential(nn.Conv2d(2 * width, width, 1), nn.ReLU())

    def forward(self, visible: torch.Tensor, thermal: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        from_thermal = self._attend(visible, thermal, "rd", "k", "v")
        from_visible = self._attend(thermal, visible, "dr", "kk", "vv")
        seen_visible = (self.get_parameter("gamma_rd") * from_thermal + visible).relu()
        seen_thermal = (self.get_parameter("gamma_dr") * from_visible + thermal).relu()
        both = torch.cat((seen_visible, seen_thermal), dim=1)
        gains = self.fc2(self.fc1(both.mean((2, 3), keepdim=True)).relu())  # not squeezed into (0,1), as published
        merged = self.merge_conv1x1(gains * both)
        return ((visible + merged) / 2).relu(), ((thermal + merged) / 2).relu()

    def _attend(self, asking: torch.Tensor, asked: torch.Tensor, direction: str, key: str, value: str) -> torch.Tensor:
        queries = self.get_submodule(f"query_conv{direction}")(asking).flatten(2)  # (B,C,N)
        keys = self.get_submodule(f"key_conv{direction}")(self._reduced(asked, key)).flatten(2)  # (B,C,M)
        values = self.get_submodule(f"value_conv{direction}")(self._reduced(asked, value)).flatten(2)
        # As published: shared out among the queries, so that the weights of a key sum to one, and not those of a query.
        weights = (queries.mT @ keys).softmax(1)  # (B,N,M)
        return (values @ weights.mT).view_as(asking)

    def _reduced(self, features: torch.Tensor, suffix: str) -> torch.Tensor:
        if self.reduction == 1:
            return features
        return self.get_submodule(f"norm_{suffix}")(self.get_submodule(f"sr_{suffix}")(features))
