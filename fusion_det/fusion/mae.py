"""Masked auto-encoders (He et al. 2022) as the compared methods MAEFuse and TC-MoA build on them, nothing being masked.

Transformer and blocks are timm's. Images are (B,3,H,W) floats, normalised as MAE was trained; tokens are (B,N,C), row by row.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from timm.models.vision_transformer import Block, VisionTransformer
from torch import nn

from fusion_det.errors import ConfigError, MethodError
from fusion_det.fusion.checkpoint import describe_differences, read_checkpoint, shapes_of

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet's red, green and blue."""

LAYER_NORM = partial(nn.LayerNorm, eps=1e-6)


def normalised(image: torch.Tensor) -> torch.Tensor:
    """(B,3,H,W) for a network, of (B,3,H,W) RGB or (B,1,H,W) grey in [0,1]."""
    return (image - image.new_tensor(MEAN).view(3, 1, 1)) / image.new_tensor(STD).view(3, 1, 1)


def restored(image: torch.Tensor) -> torch.Tensor:
    """RGB (B,3,H,W), about [0,1], of what a network gave."""
    return image * image.new_tensor(STD).view(3, 1, 1) + image.new_tensor(MEAN).view(3, 1, 1)


def vision_transformer(
    width: int, depth: int, heads: int, *, size: int, patch: int, class_token: bool
) -> VisionTransformer:
    """An encoder of square images under MAE's names: ``patch_embed``, ``blocks``, ``norm``, ``pos_embed`` and ``cls_token``."""
    vit = VisionTransformer(
        img_size=size,
        patch_size=patch,
        embed_dim=width,
        depth=depth,
        num_heads=heads,
        class_token=class_token,
        global_pool="",
        num_classes=0,
        norm_layer=LAYER_NORM,
        weight_init="skip",
    )
    initialise(vit)
    return vit


def decoder_blocks(width: int, depth: int, heads: int) -> nn.ModuleList:
    """MAE's decoder is made of the same blocks as its encoder."""
    blocks = (Block(width, heads, qkv_bias=True, norm_layer=LAYER_NORM) for _ in range(depth))  # type: ignore[arg-type]
    return nn.ModuleList(blocks)


def initialise(module: nn.Module) -> None:
    """MAE's first weights: Xavier's uniform ones in linear layers and in the embedding of patches, zeros in their biases."""
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Conv2d):
            nn.init.xavier_uniform_(part.weight.data.flatten(1))
            if part.bias is not None:
                nn.init.zeros_(part.bias)


def position_table(width: int, rows: int, columns: int) -> torch.Tensor:
    """Sines and cosines of a grid's positions, (rows·columns, width) float32, row by row.

    ω_k = 10000^(-4k/width), k < width/4; a position is [sin(column·ω), cos(column·ω), sin(row·ω), cos(row·ω)].
    """
    omega = 10_000.0 ** (-torch.arange(width // 4, dtype=torch.float64) / (width / 4))
    row, column = (torch.arange(count, dtype=torch.float64)[:, None] * omega for count in (rows, columns))
    parts = [column.sin(), column.cos()], [row.sin(), row.cos()]
    across = torch.cat(parts[0], dim=1)[None].expand(rows, -1, -1)
    down = torch.cat(parts[1], dim=1)[:, None].expand(-1, columns, -1)
    return torch.cat((across, down), dim=2).flatten(0, 1).float()


def frozen(table: torch.Tensor) -> nn.Parameter:
    """A parameter that no training changes."""
    return nn.Parameter(table, requires_grad=False)


def image_of(patches: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    """Put patches (B, rows·columns, p·p·3) together, pixels row by row, their channels side by side: (B,3,rows·p,columns·p)."""
    side = round((patches.shape[-1] / 3) ** 0.5)
    cells = patches.unflatten(2, (side, side, 3)).unflatten(1, (rows, columns))  # (B,rows,columns,p,p,3)
    return cells.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)


def tokens_of(images: torch.Tensor, embedding: nn.Module) -> torch.Tensor:
    """Tokens of images without their positions, as a map (B,rows,columns,C). embedding: timm's ``patch_embed``."""
    maps: torch.Tensor = embedding.proj(images)  # type: ignore[operator]
    return maps.permute(0, 2, 3, 1)


def load_mae(
    network: nn.Module, file: Path, encoder: Sequence[str], decoder: Sequence[str], *, needs_decoder: bool
) -> bool:
    """Load a MAE checkpoint, Meta's or timm's, into the parts of a network that have its names.

    What the file holds beside them (a class token, a head, tables of positions) is left out.

    Args:
        encoder, decoder: names of the modules in ``network`` that are MAE's. needs_decoder: it has to be there; else it is loaded
            if it is one of the same shape.

    Returns:
        Whether the decoder was there.

    Raises:
        ConfigError: no such file, or none of a MAE of these parts' size.
    """
    if not file.is_file():
        raise ConfigError(
            f"--set options.mae={file}: there is no such file. Name one with MAE's weights, or leave the option out: then the "
            "auto-encoder learns from the pairs alone"
        )
    try:
        state, _ = read_checkpoint(file, "model")
    except MethodError as error:
        raise ConfigError(f"--set options.mae: {error}") from error
    taken = _fitting(network, state, encoder)
    if isinstance(taken, str):
        raise ConfigError(f"--set options.mae={file} does not fit this configuration's encoder: {taken}")
    whole = _fitting(network, state, decoder)
    if isinstance(whole, str) and needs_decoder:
        raise ConfigError(
            f"--set options.mae={file} does not fit this configuration's decoder, which is to be MAE's own, as in Meta's "
            f"mae_visualize_….pth: {whole}"
        )
    network.load_state_dict(taken if isinstance(whole, str) else {**taken, **whole}, strict=False)
    return not isinstance(whole, str)


def _fitting(
    network: nn.Module, state: Mapping[str, torch.Tensor], parts: Iterable[str]
) -> dict[str, torch.Tensor] | str:
    """What a state dict holds of modules, or how it differs from what they need."""
    prefixes = tuple(f"{part}." for part in parts)
    needed = {name: shape for name, shape in shapes_of(network).items() if name.startswith(prefixes)}
    held = {name: value for name, value in state.items() if name.startswith(prefixes)}
    lines = describe_differences(needed, {name: tuple(value.shape) for name, value in held.items()})
    return "; ".join(lines) or held


LOUDNESS, CALM = 0.25, 0.1
"""Of embedded patches beside their positions, and of what untrained blocks add to tokens, after a fit."""


@torch.no_grad()
def fit_embedding(embedding: nn.Conv2d, images: torch.Tensor, positions: torch.Tensor) -> None:
    """Let an embedding of patches tell those of images (B,3,H,W) apart: principal components instead of random weights.

    Each component gets the square root of its deviation: fine structure, which has hardly any, is then not lost beside
    brightness. They lie in those directions in which a table of positions (N,C) varies least, and are weaker than it: since its
    length is one everywhere, layer norms, which divide by a token's length, leave a patch's contrast to be read.

    For trainings that have no time to find that out step by step.
    """
    side, width = embedding.kernel_size[0], embedding.out_channels
    patches = F.unfold(images, side, stride=side).mT.flatten(0, 1).double()
    mean = patches.mean(0)
    deviations = patches - mean
    variance, directions = torch.linalg.eigh(deviations.mT @ deviations)
    order = variance.argsort(descending=True)[:width]
    weight = directions[:, order].mT * (variance[order].clamp(min=variance.max() * 1e-6) ** -0.25)[:, None]
    table = (positions - positions.mean(0)).double()
    free = torch.linalg.eigh(table.mT @ table)[1][:, : len(weight)]  # of least variance first
    weight = free @ (LOUDNESS * weight / (deviations @ weight.mT).std().clamp(min=1e-12))
    embedding.weight.copy_(weight.view_as(embedding.weight))
    if embedding.bias is not None:
        embedding.bias.copy_(-(weight @ mean))


@torch.no_grad()
def calm(blocks: nn.Module) -> None:
    """Let untrained blocks of timm's change tokens a little only."""
    for name, parameter in blocks.named_parameters():
        if name.endswith(("attn.proj.weight", "mlp.fc2.weight")):
            parameter.mul_(CALM)


@torch.no_grad()
def fit_linear(layer: nn.Linear, tokens: torch.Tensor, targets: torch.Tensor) -> None:
    """Let a layer predict targets (N,P) from tokens (N,C): ridge regression instead of random weights."""
    x, y = tokens.double(), targets.double()
    x_mean, y_mean = x.mean(0), y.mean(0)
    x, y = x - x_mean, y - y_mean
    gram = x.mT @ x
    ridge = 1e-4 * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    weight = torch.linalg.solve(gram + ridge, x.mT @ y).mT
    layer.weight.copy_(weight)
    layer.bias.copy_(y_mean - weight @ x_mean)


def patches_of(images: torch.Tensor, side: int) -> torch.Tensor:
    """The inverse of :func:`image_of`: (B,3,H,W) to (B,N,side·side·3)."""
    cells = images.unflatten(3, (-1, side)).unflatten(2, (-1, side))  # (B,3,rows,p,columns,p)
    return cells.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)
