"""The compared networks as their papers write them: every map whole, every intermediate result made, in torch's usual layout.

What the package computes instead, in strips and with products of weights, must give the same images (``test_plain_formulations``)
in less time and memory (``benchmarks/bench_methods.py``).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from types import MethodType
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from fusion_det.fusion import restormer
from fusion_det.fusion.methods.cddfuse import network as cddfuse
from fusion_det.fusion.methods.crossfuse import attention as crossfuse_attention
from fusion_det.fusion.methods.crossfuse import convolutions as crossfuse_convolutions
from fusion_det.fusion.methods.crossfuse import network as crossfuse
from fusion_det.fusion.methods.defusion import blocks as defusion
from fusion_det.fusion.methods.emma import network as emma
from fusion_det.fusion.methods.irfs import network as irfs
from fusion_det.fusion.methods.semla import network as semla
from fusion_det.fusion.methods.u2fusion import network as u2fusion

METHODS = ("defusion", "u2fusion", "irfs", "emma", "cddfuse", "semla", "crossfuse")
"""Those that have a plain formulation here."""


def as_published(network: nn.Module) -> nn.Module:
    """A copy that computes in the plain way, with equal parameters."""
    plain = copy.deepcopy(network).to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    for module in plain.modules():
        for name, function in PLAIN.get(type(module), {}).items():
            setattr(module, name, MethodType(function, module))
    return plain


def _irfs_head(self: Any, image: torch.Tensor) -> torch.Tensor:
    features = self.body(image)
    return self.conv1x1(torch.cat((features * self.SA(features), features * self.CA(features)), dim=1))


def _sum_with_input(self: Any, features: torch.Tensor) -> torch.Tensor:
    return features + self.body(features)


def _u2fusion(self: Any, ir: torch.Tensor, vi: torch.Tensor) -> torch.Tensor:
    def convolve(layer: nn.Module, maps: torch.Tensor) -> torch.Tensor:
        return layer(F.pad(maps, (1, 1, 1, 1), mode="reflect"))

    first, *dense = self.encoder.values()
    x = F.leaky_relu(convolve(first, torch.cat((vi, ir), dim=1)), 0.2)
    for layer in dense:
        x = torch.cat((F.leaky_relu(convolve(layer, x), 0.2), x), dim=1)
    *hidden, last = self.decoder.values()
    for layer in hidden:
        x = F.leaky_relu(convolve(layer, x), 0.2)
    return convolve(last, x).tanh() / 2 + 0.5


def _channel_norm(self: Any, x: torch.Tensor) -> torch.Tensor:
    pixels = self.body(x.flatten(2).mT)
    return pixels.mT.reshape(x.shape)


def _channel_attention(x: torch.Tensor, qkv: torch.Tensor, scale: torch.Tensor, project: nn.Module) -> torch.Tensor:
    q, k, v = (part.unflatten(1, (len(scale), -1)).flatten(3) for part in qkv.chunk(3, dim=1))  # (B,heads,d,HW)
    attention = (F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).mT * scale).softmax(-1)
    return x + project((attention @ v).flatten(1, 2).unflatten(2, x.shape[-2:]))


def _depthwise_attention(self: Any, x: torch.Tensor, norm: nn.Module) -> torch.Tensor:
    return _channel_attention(x, self.qkv_dwconv(self.qkv(norm(x))), self.temperature, self.project_out)


def _full_attention(self: Any, x: torch.Tensor, norm: nn.Module) -> torch.Tensor:
    return _channel_attention(x, self.qkv2(self.qkv1(norm(x))), self.scale, self.proj)


def _gated_mlp(self: Any, x: torch.Tensor) -> torch.Tensor:
    gate, values = self.dwconv(self.project_in(x)).chunk(2, dim=1)
    return self.project_out(F.gelu(gate) * values)


def _restormer_block(self: Any, x: torch.Tensor) -> torch.Tensor:
    x = self.attn(x, self.norm1)
    return x + self.ffn(self.norm2(x))


def _global_block(self: Any, x: torch.Tensor) -> torch.Tensor:
    x = self.attn(x, self.norm1)
    return x + self.mlp(self.norm2(x))


def _emma_block(self: Any, x: torch.Tensor) -> torch.Tensor:
    x = self.embed(x)
    return self.FFN(torch.cat((self.GlobalFeature(x), self.LocalFeature(x)), dim=1))


def _cddfuse_embedding(self: Any, image: torch.Tensor) -> torch.Tensor:
    return self.proj(image)


def _cddfuse_bottleneck(self: Any, x: torch.Tensor) -> torch.Tensor:
    return self.bottleneckBlock(x)


def _cddfuse_node(self: Any, x: torch.Tensor) -> torch.Tensor:
    z1, z2 = self.shffleconv(x).chunk(2, dim=1)
    z2 = z2 + self.theta_phi(z1)
    return torch.cat((z1 * self.theta_rho(z2).exp() + self.theta_eta(z2), z2), dim=1)


def _cddfuse(self: Any, ir: torch.Tensor, vi: torch.Tensor) -> torch.Tensor:
    visible, infrared = self.DIDF_Encoder(vi), self.DIDF_Encoder(ir)
    base = self.BaseFuseLayer(visible.base + infrared.base)
    detail = self.DetailFuseLayer(visible.detail + infrared.detail)
    decoder = self.DIDF_Decoder
    mixed = decoder.encoder_level2(decoder.reduce_channel(torch.cat((base, detail), dim=1)))
    return torch.sigmoid(decoder.output(mixed) + vi)


def _split_attention(self: Any, x: torch.Tensor) -> torch.Tensor:
    groups = self.conv(x).relu().chunk(2, dim=1)
    means = sum(groups).mean((2, 3), keepdim=True)  # type: ignore[union-attr]
    first, second = self.fc2(self.fc1(means).relu()).unflatten(1, (2, -1)).softmax(1).unbind(1)
    return groups[0] * first + groups[1] * second


def _merge(self: Any, small: torch.Tensor, beside: Any, size: tuple[int, int]) -> torch.Tensor:
    return self.layer(torch.cat((defusion.enlarge(small, size), *beside), dim=1))


def _semla_fusion(self: Any, ir: torch.Tensor, vi: torch.Tensor) -> torch.Tensor:
    maps = [torch.cat((vi, ir))]
    for layer in (self.fuse1, self.fuse2, self.fuse3, self.fuse4):
        maps.append(layer(maps[-1]))
    of_vi, of_ir = torch.cat(maps[1:], dim=1).chunk(2)
    return (torch.tanh(self.fuse5(0.6 * of_ir + 0.6 * of_vi)) + 1) / 2


def _mirrored_convolution(self: Any, x: torch.Tensor) -> torch.Tensor:
    return self.conv2d(x)


def _dense_block(self: Any, x: torch.Tensor) -> torch.Tensor:
    for layer in (self.dense_conv0, self.dense_conv1, self.dense_conv2):
        x = torch.cat((x, layer(x)), dim=1)
    return self.adjust_conv(x)


def _box_filter(self: Any, x: torch.Tensor) -> torch.Tensor:
    return F.conv2d(x, self.weight, padding=1)


def _rolled_attention(self: Any, ir: torch.Tensor, vi: torch.Tensor) -> torch.Tensor:
    """The second blocks see tiles that are rolled by half their size."""
    height, width = ir.shape[-2:]
    to_maps, to_tokens = crossfuse_attention.to_maps, crossfuse_attention.to_tokens
    first = self.self_atten_block1(to_tokens(ir), to_tokens(vi))
    rolled = (to_maps(tokens, height, width).roll((-16, -16), (2, 3)) for tokens in first)
    second = self.self_atten_block2(*(to_tokens(tile) for tile in rolled))
    back = (to_maps(tokens, height, width).roll((16, 16), (2, 3)) for tokens in second)
    return to_maps(self.cross_atten_block(*(to_tokens(tile) for tile in back)), height, width)


def _crossfuse(self: Any, ir: torch.Tensor, vi: torch.Tensor) -> torch.Tensor:
    encoded = [encode(image) for encode, image in zip(self.encoders, (ir, vi), strict=True)]
    shallow, deep = (crossfuse.Pair(*maps) for maps in zip(*encoded, strict=True))
    attended = self.fusion.cross_atten_block.in_tiles(*deep)
    decoder = self.fusion.decoder_fusion
    x = decoder.from_deep(attended, deep)
    return decoder.with_shallow(crossfuse.matched(x, shallow.ir), shallow)


PLAIN: Mapping[type[nn.Module], Mapping[str, Callable[..., Any]]] = {
    irfs.Head: {"forward": _irfs_head},
    irfs.ResidualBlock: {"forward": _sum_with_input},
    u2fusion.U2FusionNet: {"forward": _u2fusion},
    restormer.ChannelNorm: {"forward": _channel_norm},
    restormer.DepthwiseAttention: {"forward": _depthwise_attention},
    restormer.FullAttention: {"forward": _full_attention},
    restormer.GatedMlp: {"forward": _gated_mlp},
    restormer.RestormerBlock: {"forward": _restormer_block},
    restormer.GlobalBlock: {"forward": _global_block},
    emma.Block: {"forward": _emma_block},
    cddfuse.PatchEmbedding: {"forward": _cddfuse_embedding},
    cddfuse.InvertedResidual: {"forward": _cddfuse_bottleneck},
    cddfuse.DetailNode: {"forward": _cddfuse_node},
    cddfuse.CDDFuseNet: {"forward": _cddfuse},
    defusion.SplitAttention: {"forward": _split_attention},
    defusion.Stage: {"merge": _merge},
    semla.FusionNet: {"forward": _semla_fusion},
    crossfuse_convolutions.MirroredConvolution: {"forward": _mirrored_convolution},
    crossfuse_convolutions.DenseBlock: {"forward": _dense_block},
    crossfuse_attention.CrossAttentionModule: {"forward": _rolled_attention},
    crossfuse.BoxFilter: {"forward": _box_filter},
    crossfuse.CrossFuseNet: {"unstretched": _crossfuse},
}
