"""What Table V puts in the place of CMSA (S4Fusion, arXiv:2405.20881, Sec. IV-F), built from a paragraph of text.

The text: infrared and visible features are summed (``add``), or go through convolutions (``cnn``), standard channel
cross-attention (``ca``), standard spatial cross-attention (``sa``) or vanilla attention (``va``); for ``cnn`` and ``va`` they are
concatenated along the channels; the number of layers keeps the parameter count near CMSA's. All else is settled here:

- Every level returns the sum of its two inputs plus what it has learnt, as CMSA does, so that the rows differ in the
  interaction alone. ``add`` is the sum.
- Attention layers are pre-norm and residual, with heads of 48 channels and no MLP (CMSA has none) and no position code (the
  network takes any size). In ``ca`` and ``sa`` each modality asks the other with projections of its own. ``ca`` compares
  channels over all positions, normalised and with a temperature for each head; ``sa`` compares all positions. ``va`` is
  self-attention of all positions on the 2C concatenated channels, over an inner width of C, which gives a layer the
  parameters of a cross-attention layer. (The paper cites EMMA for it, whose attention is over channels; its text speaks
  of vanilla attention.)
- The number of layers is the one whose parameter count is nearest to the released CMSA's at that width: 8, 6 and 5 for
  attention, 6, 4 and 3 for ``cnn``; within 9 % of CMSA's.

Time of ``sa`` and ``va`` grows with the square of the pixels, their memory does not where torch has a fused attention (CPU and
CUDA). In the released wiring the shallowest level, where it would hurt most, is never computed.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

from fusion_det.fusion.methods.s4fusion.blocks import linear
from fusion_det.fusion.methods.s4fusion.cmsa import CMSA
from fusion_det.fusion.methods.s4fusion.config import S4FusionConfig

HEAD = 48


def fusion_level(width: int, config: S4FusionConfig) -> nn.Module:
    """The module that fuses a level of this width, (2,b,H,W,C) → (b,H,W,C)."""
    if config.interaction == "cmsa":
        return CMSA(width, config)
    if config.interaction == "add":
        return Addition()
    budget = _cmsa_parameters(width)
    if config.interaction == "cnn":
        return Convolutions(width, layers=_nearest(budget, lambda n: Convolutions(width, n)))
    if config.interaction == "va":
        return VanillaAttention(width, layers=_nearest(budget, lambda n: VanillaAttention(width, n)))
    over_channels = config.interaction == "ca"
    layers = _nearest(budget, lambda n: CrossAttention(width, n, over_channels=over_channels))
    return CrossAttention(width, layers, over_channels=over_channels)


def _cmsa_parameters(width: int) -> int:
    return _count(lambda: CMSA(width, S4FusionConfig()))


def _nearest(budget: int, build: Callable[[int], nn.Module]) -> int:
    """The number of layers with which ``build`` gives a module of about ``budget`` parameters."""
    one, two = (_count(lambda n=n: build(n)) for n in (1, 2))  # type: ignore[misc]
    return 1 + max(0, round((budget - one) / (two - one)))


def _count(build: Callable[[], nn.Module]) -> int:
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in build().parameters())


class Addition(nn.Module):
    """x + y (Exp. 1)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.sum(0)


class Convolutions(nn.Module):
    """3 × 3 convolutions with ReLU between them, from both maps' channels to those of one (Exp. 2)."""

    def __init__(self, width: int, layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Conv2d(2 * width if i == 0 else width, width, 3, padding=1) for i in range(layers)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        z = concatenate(x).permute(0, 3, 1, 2)
        for i, layer in enumerate(self.layers):
            z = layer(F.relu(z) if i else z)
        return x.sum(0) + z.permute(0, 2, 3, 1)


class CrossAttention(nn.Module):
    """Each modality asks the other, over channels (Exp. 3) or positions (Exp. 4)."""

    def __init__(self, width: int, layers: int, *, over_channels: bool) -> None:
        super().__init__()
        self.layers = nn.ModuleList(CrossAttentionLayer(width, over_channels) for _ in range(layers))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        infrared, visible = x
        for layer in self.layers:
            infrared, visible = layer(infrared, visible)
        return infrared + visible


class CrossAttentionLayer(nn.Module):
    """Both modalities at once, each with its own projections; (b,H,W,C) twice to the same."""

    def __init__(self, width: int, over_channels: bool) -> None:
        super().__init__()
        self.norm_x, self.norm_y = nn.LayerNorm(width), nn.LayerNorm(width)
        self.q_x, self.q_y = linear(width, width), linear(width, width)
        self.kv_x, self.kv_y = linear(width, 2 * width), linear(width, 2 * width)
        self.out_x, self.out_y = linear(width, width), linear(width, width)
        heads = _heads(width)
        if over_channels:
            self.temperature_x = nn.Parameter(torch.ones(heads, 1, 1))
            self.temperature_y = nn.Parameter(torch.ones(heads, 1, 1))
        self.over_channels = over_channels

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        from_x, from_y = self.norm_x(x).flatten(1, 2), self.norm_y(y).flatten(1, 2)
        k_x, v_x = self.kv_x(from_x).chunk(2, -1)
        k_y, v_y = self.kv_y(from_y).chunk(2, -1)
        if self.over_channels:
            to_x = attend_channels(self.q_x(from_x), k_y, v_y, self.temperature_x)
            to_y = attend_channels(self.q_y(from_y), k_x, v_x, self.temperature_y)
        else:
            to_x = attend_positions(self.q_x(from_x), k_y, v_y)
            to_y = attend_positions(self.q_y(from_y), k_x, v_x)
        return x + self.out_x(to_x).view(x.shape), y + self.out_y(to_y).view(y.shape)


class VanillaAttention(nn.Module):
    """Self-attention over positions on the concatenated channels (Exp. 5)."""

    def __init__(self, width: int, layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(SelfAttentionLayer(2 * width, width) for _ in range(layers))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        z = concatenate(x)
        for layer in self.layers:
            z = layer(z)
        infrared, visible = z.chunk(2, dim=-1)
        return infrared + visible


class SelfAttentionLayer(nn.Module):
    """(b,H,W,width) to the same; keys, queries and values are ``inner`` wide."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.qkv, self.out = linear(width, 3 * inner), linear(inner, width)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        q, k, v = self.qkv(self.norm(z).flatten(1, 2)).chunk(3, dim=-1)
        return z + self.out(attend_positions(q, k, v)).view(z.shape)


def concatenate(x: torch.Tensor) -> torch.Tensor:
    """(2,b,H,W,C) → (b,H,W,2C), infrared first."""
    return torch.cat((x[0], x[1]), dim=-1)


def attend_positions(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Scaled dot-product attention of (b,L,C) over L; without an L × L matrix in memory where torch can."""
    heads = (x.unflatten(-1, (_heads(x.shape[-1]), -1)).transpose(1, 2) for x in (q, k, v))  # (b,heads,L,C/heads)
    return F.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(-2)


def attend_channels(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, temperature: torch.Tensor) -> torch.Tensor:
    """Attention of (b,L,C) over C: cosines of channels over all positions, times ``temperature`` (heads,1,1)."""
    heads = temperature.shape[0]
    q, k, v = (x.mT.unflatten(1, (heads, -1)) for x in (q, k, v))  # (b,heads,C/heads,L)
    weights = (F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).mT * temperature).softmax(-1)
    return (weights @ v).flatten(1, 2).mT


def _heads(width: int) -> int:
    return width // HEAD if width % HEAD == 0 else 1
