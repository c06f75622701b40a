"""How MAEFuse learns (Li et al. 2025, arXiv:2404.11016): to decode, then to fuse tokens, guided by their mean, then images."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from fusion_det.errors import ConfigError
from fusion_det.fusion.mae import (
    CALM,
    calm,
    fit_embedding,
    fit_linear,
    load_mae,
    normalised,
    patches_of,
    restored,
)
from fusion_det.fusion.methods.maefuse.losses import fusion_loss, grey, mean_loss
from fusion_det.fusion.methods.maefuse.network import MAEFuseNet, Window
from fusion_det.fusion.training.recipe import Phase, Recipe, Sources, Terms
from fusion_det.fusion.training.settings import Option, TrainSettings

ENCODER = "patch_embed", "blocks", "norm"
DECODER = "decoder_embed", "decoder_blocks", "decoder_norm", "decoder_pred"
MERGING = "merge_model", "fc1", "fc2", "ln"
DECODING_EPOCHS, MODE_EPOCHS = 50, 80
"""Published epochs of learning to decode, and of each mode of learning to fuse."""

DEVIATIONS = (
    "Random, flipped crops of the images' own resolution, where the authors squeeze whole images to 640 × 640. The modes of "
    "their script follow one another in the order of its list; how often they ran each is not known."
)
APART = " Pairs of a batch do not mix, and the comparative step, which then has no influence, is not trained."
OWN_ENCODER = (
    " The encoder is not MAE's: it learnt with the decoder to rebuild the pairs' images, nothing being masked."
)
FITTED = " Before the first step, patches are embedded by principal components, and predicted by linear regression."

FITTED_BATCHES = 10


class Tokens(NamedTuple):
    """What a phase of tokens ends in, and the encoder's of both sources."""

    fused: torch.Tensor
    ir: torch.Tensor
    vi: torch.Tensor


class MAEFuseRecipe(Recipe):
    """Published: MAE's encoder is frozen; a decoder learns to decode, then the fusion layer to fuse, at last both together.

    Options:

    - ``mae``: a file with MAE's weights (ViT-L/16 of Meta or of timm), or with the authors' own, which has a decoder as well.
      Without one, which is the default, the encoder learns in the first phase, together with the decoder.
    - ``mixed``: the pairs of a batch attend to each other, as in the authors' training, not in their inference.
    - ``fit``: begin with principal components and a linear regression, for trainings of a few hundred steps.

    Raises:
        ConfigError: crops that the network does not take; weights that are not there, or of another network.
    """

    options: ClassVar[Mapping[str, Option]] = {"mae": "", "mixed": True, "fit": False}

    def __init__(self, settings: TrainSettings, network: MAEFuseNet) -> None:
        patch, size = network.config.patch, network.config.size
        if settings.crop % patch or settings.crop > size:
            raise ConfigError(
                f"--crop {settings.crop}: maefuse takes multiples of {patch}, at most {size}, such as "
                f"{min(size, settings.crop + -settings.crop % patch)}"
            )
        chosen = self.chosen_options(settings)
        self.network, self.mixed = network, bool(chosen["mixed"])
        mae = network.model1
        has_decoder = bool(chosen["mae"]) and load_mae(
            mae, Path(str(chosen["mae"])), ENCODER, DECODER, needs_decoder=False
        )
        self.fits = bool(chosen["fit"]) and not chosen["mae"]
        for parameter in network.parameters():
            parameter._no_weight_decay = parameter.ndim < 2  # type: ignore[attr-defined]
        super().__init__(
            settings,
            {
                "encoder": _parts(mae, ENCODER),
                "decoder": _parts(mae, DECODER),
                "comparing": network.model2.cross_model,
                "merging": _parts(network.model2, MERGING),
            },
            self._phases(has_encoder=bool(chosen["mae"]), has_decoder=has_decoder),
            DEVIATIONS
            + (OWN_ENCODER if not chosen["mae"] else "")
            + (APART if not self.mixed else "")
            + (FITTED if self.fits else ""),
        )

    def _phases(self, *, has_encoder: bool, has_decoder: bool) -> list[Phase]:
        phases = []
        if not has_decoder:
            learns = ("decoder",) if has_encoder else ("encoder", "decoder")
            phases.append(Phase("rebuild", self._rebuild, _rebuilding, learns, DECODING_EPOCHS, fuses=False))
        if self.mixed:
            phases += [
                Phase("compare, mean", self._compare, _to_mean, ("comparing",), MODE_EPOCHS, fuses=False),
                Phase("compare", self._compare_and_decode, _fusing, ("comparing",), MODE_EPOCHS, fuses=False),
            ]
        return [
            *phases,
            Phase("merge, mean", self._merge, _to_mean, ("merging",), MODE_EPOCHS),
            Phase("merge", self._fuse, _fusing, ("merging",), MODE_EPOCHS),
            Phase("fuse", self._fuse, _fusing, ("merging", *(["comparing"] * self.mixed), "decoder"), MODE_EPOCHS),
        ]

    def helpers(self) -> Iterable[nn.Module]:
        """The network as a whole: its tables of positions belong to none of the parts that learn."""
        return (self.network,)

    def optimizer(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        return torch.optim.AdamW(groups, lr=self.settings.peak_rate, betas=(0.9, 0.95))

    @torch.no_grad()
    def prepare(self, batches: Iterable[Sources]) -> None:
        if self.fits:
            fit(self.network, [_both(sources) for sources in itertools.islice(batches, FITTED_BATCHES)])

    def _window(self, images: torch.Tensor) -> Window:
        """Somewhere in a picture; in the middle where nothing learns, so that every validation is the same."""
        whole = self.network.window(images)
        room = self.network.config.grid - whole.rows
        top, left = torch.randint(room + 1, (2,)).tolist() if torch.is_grad_enabled() else (room // 2, room // 2)
        return self.network.window(images, top, left)

    def _encode(self, sources: Sources) -> tuple[torch.Tensor, torch.Tensor, Window]:
        images = _both(sources)
        window = self._window(images)
        ir, vi = self.network.model1.encode(images, window).chunk(2)
        return ir, vi, window

    def _rebuild(self, sources: Sources) -> torch.Tensor:
        images = _both(sources)
        window, mae = self._window(images), self.network.model1
        return F.mse_loss(mae.decode(mae.encode(images, window), window).float(), images)

    def _compare(self, sources: Sources) -> Tokens:
        ir, vi, window = self._encode(sources)
        return Tokens(self.network.model2.compared(ir, vi, window, mixed=self.mixed), ir, vi)

    def _compare_and_decode(self, sources: Sources) -> torch.Tensor:
        ir, vi, window = self._encode(sources)
        compared = self.network.model2.compared(ir, vi, window, mixed=self.mixed)
        return self.network.model1.decode(compared, window)

    def _merge(self, sources: Sources) -> Tokens:
        ir, vi, window = self._encode(sources)
        return Tokens(self.network.model2(ir, vi, window, mixed=self.mixed), ir, vi)

    def _fuse(self, sources: Sources) -> torch.Tensor:
        ir, vi, window = self._encode(sources)
        return self.network.model1.decode(self.network.model2(ir, vi, window, mixed=self.mixed), window)


@torch.no_grad()
def fit(network: MAEFuseNet, batches: Sequence[torch.Tensor]) -> None:
    """Begin with principal components and linear regressions. batches: infrared images before visible ones, (2B,3,H,W) each."""
    mae, layer = network.model1, network.model2
    fit_embedding(mae.patch_embed.proj, torch.cat(list(batches)), mae.pos_embed[0])
    nn.init.eye_(mae.decoder_embed.weight)
    for blocks in (mae.blocks, mae.decoder_blocks):
        calm(blocks)
    before, patches, sums, means = [], [], [], []
    hook = mae.decoder_pred.register_forward_pre_hook(lambda module, inputs: before.append(inputs[0].flatten(0, 1)))
    for index, images in enumerate(batches):
        # In many places of the grid, for what is read must not depend on it.
        room = network.config.grid - network.window(images).rows
        window = network.window(images, room * (7 * index % 10) // 9, room * (3 * index % 10) // 9)
        tokens = mae.encode(images, window)
        mae.decode(tokens, window)
        patches.append(patches_of(images, network.config.patch).flatten(0, 1))
        ir, vi = tokens.chunk(2)
        sums.append((ir + vi + 2 * window.of(layer.pos_embed)).flatten(0, 1))
        means.append(((ir + vi) / 2).flatten(0, 1))
    hook.remove()
    fit_linear(mae.decoder_pred, torch.cat(before), torch.cat(patches))
    merge = nn.Linear(layer.fc1.in_features, layer.fc1.in_features).to(patches[0].device)
    fit_linear(merge, torch.cat(sums), torch.cat(means))
    width = layer.fc1.in_features
    layer.merge_model.in_proj_weight[-width:] = merge.weight
    nn.init.eye_(layer.merge_model.out_proj.weight)
    layer.merge_model.in_proj_bias[-width:] = merge.bias / 2
    layer.fc2.weight.mul_(CALM)


def _parts(module: nn.Module, names: Iterable[str]) -> nn.ModuleList:
    return nn.ModuleList(module.get_submodule(name) for name in names)


def _both(sources: Sources) -> torch.Tensor:
    """Infrared images and visible luma for the network, (2B,3,H,W)."""
    return normalised(torch.cat((sources.ir, sources.luma)))


def _rebuilding(sources: Sources, distance: torch.Tensor, done: float) -> Terms:
    return {"total": distance}


def _to_mean(sources: Sources, tokens: Tokens, done: float) -> Terms:
    return {"total": mean_loss(*tokens)}


def _fusing(sources: Sources, image: torch.Tensor, done: float) -> Terms:
    terms = fusion_loss(grey(restored(image)), sources.ir, sources.luma)
    return {"total": terms.total, **terms._asdict()}
