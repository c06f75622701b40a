"""The U2Fusion network: a densely connected encoder and a plain decoder of 3 × 3 convolutions (Xu et al. 2022, Sec. 3.5)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from fusion_det.fusion.methods.u2fusion.bands import BAND, Layer, RowStore, run_in_bands
from fusion_det.fusion.methods.u2fusion.config import U2FusionConfig

SLOPE = 0.2


class U2FusionNet(nn.Module):
    """The network, under names that follow those of the published TensorFlow variables."""

    def __init__(self, config: U2FusionConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or U2FusionConfig()
        self.encoder = nn.ModuleDict({"conv1_1": _convolution(2, config.width)})
        for i in range(1, config.dense + 1):
            self.encoder[f"dense_block_conv{i}"] = _convolution(i * config.width, config.width)
        before = (config.dense + 1) * config.width
        self.decoder = nn.ModuleDict()
        for i, width in enumerate((*config.decoder, 1), start=1):
            self.decoder[f"conv2_{i}"] = _convolution(before, width)
            before = width

    def forward(self, ir: torch.Tensor, vi: torch.Tensor) -> torch.Tensor:
        """Fused luma (b,1,H,W) in [0,1] of infrared and visible luma (b,1,H,W) in [0,1]; H and W at least 2."""
        return self.logits(ir, vi).tanh() / 2 + 0.5

    def logits(self, ir: torch.Tensor, vi: torch.Tensor, band: int | None = None) -> torch.Tensor:
        """What the last convolution gives, (b,1,H,W).

        Without gradients the image is gone through from top to bottom, ``band`` rows at a time: the same arithmetic in a
        seventh of the memory and half the time (1024 × 768 pixels on a CPU). None: ``BAND`` there, all rows elsewhere.
        """
        sources = torch.cat((vi, ir), dim=1)
        if torch.is_grad_enabled():
            return self._whole(sources)
        return self._in_bands(sources, band or (BAND if sources.device.type == "cpu" else sources.shape[-2]))

    def _whole(self, sources: torch.Tensor) -> torch.Tensor:
        first, *dense = _convolutions(self.encoder)
        x = F.leaky_relu(first(bordered(sources)), SLOPE)
        for layer in dense:
            x = torch.cat((F.leaky_relu(layer(bordered(x)), SLOPE), x), dim=1)
        *hidden, last = _convolutions(self.decoder)
        for layer in hidden:
            x = F.leaky_relu(layer(bordered(x)), SLOPE)
        return last(bordered(x))

    def _in_bands(self, sources: torch.Tensor, band: int) -> torch.Tensor:
        """The encoder's features lie in one store, the newest before the older ones, so that none has to be concatenated."""
        encoder, decoder = _convolutions(self.encoder), _convolutions(self.decoder)
        height, width, total = sources.shape[-2], self.config.width, len(encoder) * self.config.width
        rows = min(height, band + len(encoder) + len(decoder) + 1)
        image, features = RowStore(sources, 2, rows), RowStore(sources, total, rows)
        layers, everything = [], slice(None)
        for i, layer in enumerate(encoder):
            new = total - i * width
            source, reads = (features, slice(new, total)) if i else (image, everything)
            layers.append(Layer(layer, source, reads, features, slice(new - width, new), _activate))
        source = features
        for layer in decoder[:-1]:
            target = RowStore(sources, layer.out_channels, rows)
            layers.append(Layer(layer, source, everything, target, everything, _activate))
            source = target
        result = RowStore(sources, 1, height)
        layers.append(Layer(decoder[-1], source, everything, result, everything, nn.Identity()))
        run_in_bands(sources, image, layers, band)
        return result.get(everything, 0, height)[..., 1:-1, 1:-1]


def _activate(maps: torch.Tensor) -> torch.Tensor:
    return F.leaky_relu_(maps, SLOPE)


def bordered(x: torch.Tensor) -> torch.Tensor:
    """One pixel more on every side, mirrored about the outermost one."""
    return F.pad(x, (1, 1, 1, 1), mode="reflect")


def _convolutions(part: nn.ModuleDict) -> list[nn.Conv2d]:
    return [layer for layer in part.values() if isinstance(layer, nn.Conv2d)]


def _convolution(inputs: int, outputs: int) -> nn.Conv2d:
    """3 × 3 without a border of its own. Published initialisation: normal, σ = 0.05, truncated at 2 σ; no bias."""
    layer = nn.Conv2d(inputs, outputs, 3)
    nn.init.trunc_normal_(layer.weight, std=0.05, a=-0.1, b=0.1)
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return layer
