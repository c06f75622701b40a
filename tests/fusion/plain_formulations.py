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
from fusion_det.fusion.methods.ddfm import network as ddfm
from fusion_det.fusion.methods.defusion import blocks as defusion
from fusion_det.fusion.methods.emma import network as emma
from fusion_det.fusion.methods.fusionmamba import blocks as fusionmamba_blocks
from fusion_det.fusion.methods.fusionmamba import network as fusionmamba
from fusion_det.fusion.methods.fusionmamba import scans as fusionmamba_scans
from fusion_det.fusion.methods.irfs import network as irfs
from fusion_det.fusion.methods.mambadfuse import blocks as mambadfuse_blocks
from fusion_det.fusion.methods.mambadfuse import network as mambadfuse
from fusion_det.fusion.methods.semla import network as semla
from fusion_det.fusion.methods.u2fusion import network as u2fusion
from fusion_det.fusion.ssm import selective_scan

METHODS = ("defusion", "u2fusion", "irfs", "emma", "cddfuse", "semla", "crossfuse", "mambadfuse", "fusionmamba")
"""Those whose published networks are compared with their plain formulation; of DDFM's, for its size, a narrow one is."""


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


def _diffusion_unet(self: Any, x: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
    embedding = self.time_embed(ddfm.embedded(timesteps, self.config.width))
    kept = []
    for stage in self.input_blocks:
        x = stage(x, embedding)
        kept.append(x)
    x = self.middle_block(x, embedding)
    for stage in self.output_blocks:
        x = stage(torch.cat((x, kept.pop()), dim=1), embedding)
    return self.out(x)


def _diffusion_block(self: Any, x: torch.Tensor, embedding: torch.Tensor) -> torch.Tensor:
    h = self._resampled(F.silu(self.in_layers[0](x)))
    h = self.in_layers[2](h)
    scale, shift = self.emb_layers(embedding)[..., None, None].chunk(2, dim=1)
    h = F.silu(self.out_layers[0](h) * (1 + scale) + shift)
    return self.skip_connection(self._resampled(x)) + self.out_layers[3](h)


def _diffusion_attention(self: Any, x: torch.Tensor) -> torch.Tensor:
    qkv = self.qkv(self.norm(x).flatten(2))  # of each head its queries, keys and values in turn
    q, k, v = qkv.unflatten(1, (self.heads, -1)).flatten(0, 1).chunk(3, dim=1)
    weights = (q.mT @ k / q.shape[1] ** 0.5).softmax(-1)
    heads = (v @ weights.mT).unflatten(0, (len(x), -1)).flatten(1, 2)
    return x + self.proj_out(heads).unflatten(2, x.shape[-2:])


def _mamba_branch(branch: mambadfuse_blocks.Branch, tokens: torch.Tensor) -> torch.Tensor:
    """As mamba_ssm computes it, (b,L,C) → (b,d,L); the convolution is cut at its end."""
    length, rank, states = tokens.shape[1], branch.dt_proj.in_features, branch.A_log.shape[1]
    p, gate = (branch.in_proj.weight @ tokens.mT).chunk(2, dim=1)
    conv = branch.conv1d
    u = F.silu(F.conv1d(p, conv.weight, conv.bias, padding=conv.kernel_size[0] - 1, groups=conv.groups)[..., :length])
    t, B, C = (branch.x_proj.weight @ u).split((rank, states, states), dim=1)
    delta, A = branch.dt_proj.weight @ t, -branch.A_log.exp()
    return selective_scan(u, delta, A, B[:, None], C[:, None], branch.D, branch.dt_proj.bias, True, z=gate)


def _mamba(self: Any, tokens: torch.Tensor, past: None = None) -> torch.Tensor:
    return self.out_proj(_mamba_branch(self.branch, tokens).mT)


def _multi_modal_mamba(self: Any, *sequences: Any) -> torch.Tensor:
    branches = (self.branch, *self.extra_branches)
    scanned = [_mamba_branch(branch, tokens) for branch, tokens in zip(branches, sequences[:3], strict=True)]
    return self.out_proj(sum(scanned).mT)  # type: ignore[union-attr]


def _mambadfuse(self: Any, ir: torch.Tensor, vi: torch.Tensor) -> torch.Tensor:
    size = (ir.shape[-2], ir.shape[-1])

    def embedded(maps: torch.Tensor) -> torch.Tensor:
        return self.patch_embed(maps.flatten(2).mT)

    def mapped(tokens: torch.Tensor) -> torch.Tensor:
        return tokens.mT.unflatten(2, size)

    def low_level(image: torch.Tensor) -> torch.Tensor:
        x = F.leaky_relu(self.low_level_feature_extraction1(image), 0.2)
        return embedded(F.leaky_relu(self.low_level_feature_extraction2(x), 0.2))

    a, residual_a = self.high_level_feature_extraction1(low_level(ir))
    b, residual_b = self.high_level_feature_extraction2(low_level(vi))
    for exchange in self.exchanges:
        a, b, residual_a, residual_b = exchange(a, b, residual_a, residual_b)
    a, b = mapped(a), mapped(b)
    a = self.shallow_fusion1(torch.cat((a, b), dim=1)) + a
    b = self.shallow_fusion2(torch.cat((b, a), dim=1)) + b
    fused, a, b = embedded((a + b) / 2), embedded(a), embedded(b)
    residual = None
    for block in self.fusions:
        scanned, residual = block.scan(fused, residual, a, b, None)
        fused = (block.dwconv(mapped(scanned)) + mapped(scanned)).flatten(2).mT
    x = mapped(self.feature_re(self.patch_embed(fused))[0])
    for convolution in (self.conv_last1, self.conv_last2):
        x = F.leaky_relu(convolution(x), 0.2)
    return self.conv_last3(x)


def _efficient_scan(self: Any, p: torch.Tensor) -> torch.Tensor:
    """Four sequences side by side in one scan, as the authors' CUDA kernel takes them."""
    height, width = p.shape[1:3]
    parts = fusionmamba_scans.deal(p)
    half = parts[0].shape[1:3]
    sequences = torch.stack(
        [(part.transpose(1, 2) if k % 2 else part).flatten(1, 2).mT for k, part in enumerate(parts)], 1
    )
    params = torch.einsum("bkdl,kcd->bkcl", sequences, self.x_proj_weight)
    t, B, C = params.split((self.rank, self.states, self.states), dim=2)
    delta = torch.einsum("bkrl,kdr->bkdl", t, self.dt_projs_weight)
    flat = (sequences.flatten(1, 2), delta.flatten(1, 2), -self.A_logs.exp(), B, C, self.Ds)
    y = selective_scan(*flat, self.dt_projs_bias.flatten(), True).unflatten(1, (4, -1)).transpose(2, 3)
    scanned = [
        y[:, k].unflatten(1, half[::-1] if k % 2 else half).transpose(1, 2) if k % 2 else y[:, k].unflatten(1, half)
        for k in range(4)
    ]
    return self.out_norm(fusionmamba_scans.gather(scanned, height, width))


def _es2d(self: Any, x: torch.Tensor) -> torch.Tensor:
    p, gate = self.in_proj(x).chunk(2, dim=-1)
    p = F.silu(self.conv2d(p.permute(0, 3, 1, 2))).permute(0, 2, 3, 1)
    return self.out_proj(self.scan(p) * F.silu(gate))


def _cross_es2d(self: Any, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    (p, gate), (q, _) = self.in_proj1(x).chunk(2, dim=-1), self.in_proj2(y).chunk(2, dim=-1)
    p, q = (F.silu(self.conv2d(part.permute(0, 3, 1, 2))).permute(0, 2, 3, 1) for part in (p, q))
    first = F.silu(gate)
    scanned = self.scan(p * q + p + q)
    return self.out_proj(scanned * first + scanned * F.silu(first))


def _learnable_difference(self: Any, x: torch.Tensor) -> torch.Tensor:
    return F.conv2d(x.permute(0, 3, 1, 2), self.make_kernel(), padding=1).permute(0, 2, 3, 1)


def _mlp(self: Any, x: torch.Tensor) -> torch.Tensor:
    return self.fc2(F.gelu(self.fc1(x)))


def _dvss_block(self: Any, x: torch.Tensor) -> torch.Tensor:
    scanned = self.op(self.norm(x))
    convolved = self.conv_branch(scanned + scanned * self.self_attention_cross_channel(scanned))
    x = x + (scanned * self.se(scanned) + convolved * self.se(convolved))
    return x + self.mlp(self.norm2(x))


def _fusionmamba(self: Any, ir: torch.Tensor, vi: torch.Tensor) -> torch.Tensor:
    """One image after the other, and all that the released code computes, used or not."""
    a, b, fused = self.patch_embed1(vi), self.patch_embed2(ir), []
    for layer, cross in zip(self.layers, self.Cross_block, strict=True):
        fused.append(cross(a, b))
        a, b = layer(a), layer(b)
    z = self.layers_up[0](a + b)
    for layer in self.layers_up[1:]:
        z = layer(z + fused.pop())
    return self.final_conv(self.final_up(z).permute(0, 3, 1, 2)) + vi + ir + vi + ir


PLAIN: Mapping[type[nn.Module], Mapping[str, Callable[..., Any]]] = {
    ddfm.UNet: {"forward": _diffusion_unet},
    ddfm.ResidualBlock: {"forward": _diffusion_block},
    ddfm.AttentionBlock: {"forward": _diffusion_attention},
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
    mambadfuse_blocks.Mamba: {"forward": _mamba},
    mambadfuse_blocks.MultiModalMamba: {"fuse": _multi_modal_mamba},
    mambadfuse.MambaDFuseNet: {"forward": _mambadfuse},
    fusionmamba_scans.ES2D: {"forward": _es2d, "scan": _efficient_scan},
    fusionmamba_scans.CrossES2D: {"forward": _cross_es2d, "scan": _efficient_scan},
    fusionmamba_blocks.LearnableDifference: {"forward": _learnable_difference},
    fusionmamba_blocks.Mlp: {"forward": _mlp},
    fusionmamba_blocks.DVSSBlock: {"forward": _dvss_block},
    fusionmamba.FusionMambaNet: {"forward": _fusionmamba},
}
