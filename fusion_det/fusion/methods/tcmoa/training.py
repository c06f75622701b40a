"""How TC-MoA learns (Zhu et al. 2024, arXiv:2403.12494): adapters within a masked auto-encoder that is left as it is."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from fusion_det.errors import ConfigError
from fusion_det.fusion.mae import calm, fit_embedding, fit_linear, load_mae, normalised, patches_of, restored
from fusion_det.fusion.methods.tcmoa.losses import EPOCHS, fusion_loss
from fusion_det.fusion.methods.tcmoa.network import ENLARGED, PATCH, SIZE_MULTIPLE, Record, TCMoANet
from fusion_det.fusion.training.recipe import Phase, Recipe, Sources, Terms
from fusion_det.fusion.training.settings import Option, TrainSettings

ENCODER = "patch_embed", "blocks", "norm"
DECODER = "decoder_embed", "decoder_blocks", "decoder_norm", "decoder_pred"
ADAPTERS = (
    *("blocks_MoA", "FusionLayer", "en_relative_position"),
    *("decoder_blocks_MoA", "de_FusionLayer", "de_relative_position"),
)

DEVIATIONS = (
    "Infrared and visible images alone, the first of the three tasks that the authors train together; random, flipped crops of "
    "the images' own resolution. Modal shifts are zeros, not drawn."
)
OWN_MAE = (
    " The auto-encoder is not MAE's: it learnt to rebuild the pairs' images for {share:.0%} of the steps, nothing being masked, "
    "and learns on with the adapters."
)
FITTED = " Before the first step, patches are embedded by principal components, and predicted by linear regression."

FITTED_BATCHES = 10


class Fused(NamedTuple):
    """RGB images (B,3,H,W) in [0,1], and what happened on the way."""

    image: torch.Tensor
    record: Record


class TCMoARecipe(Recipe):
    """Published: the auto-encoder is MAE's, and frozen; what fuses learns.

    Options:

    - ``mae``: a file with MAE's weights, encoder and decoder (Meta's ``mae_visualize_vit_large_ganloss.pth``; for the
      configuration "base" ``mae_visualize_vit_base.pth``). Without one, which is the default, the auto-encoder learns to rebuild
      images first, and then everything learns to fuse.
    - ``rebuild``: the share of all steps for the former.
    - ``fit``: begin with principal components and a linear regression, for trainings of a few hundred steps.

    Raises:
        ConfigError: crops that the network does not take; a share that is none; weights that are missing, or of another network.
    """

    options: ClassVar[Mapping[str, Option]] = {"mae": "", "rebuild": 0.3, "fit": False}

    def __init__(self, settings: TrainSettings, network: TCMoANet) -> None:
        if settings.crop % SIZE_MULTIPLE:
            fits = settings.crop + -settings.crop % SIZE_MULTIPLE
            raise ConfigError(f"--crop {settings.crop}: tcmoa takes multiples of {SIZE_MULTIPLE}, such as {fits}")
        chosen = self.chosen_options(settings)
        share, has_mae = float(chosen["rebuild"]), bool(chosen["mae"])
        if not 0 < share < 1:
            raise ConfigError(f"--set options.rebuild={share:g}: a share of the training, between 0 and 1")
        if has_mae:
            load_mae(network, Path(str(chosen["mae"])), ENCODER, DECODER, needs_decoder=True)
        self.network, self.fits = network, bool(chosen["fit"]) and not has_mae
        for parameter in network.parameters():
            parameter._no_weight_decay = parameter.ndim < 2  # type: ignore[attr-defined]
        learns = ("adapters", "alphas") if has_mae else ("adapters", "alphas", "mae")
        phases = [Phase("fuse", self._fuse, self._loss, learns, share=1 - share)]
        if not has_mae:
            phases.insert(0, Phase("rebuild", self._rebuild, _rebuilding, ("mae",), share, fuses=False))
        super().__init__(
            settings,
            {
                "mae": nn.ModuleList(network.get_submodule(name) for name in (*ENCODER, *DECODER)),
                "adapters": nn.ModuleList(network.get_submodule(name) for name in ADAPTERS),
                "alphas": nn.ParameterList((network.Alpha_encoder, network.Alpha_decoder)),
            },
            phases,
            DEVIATIONS + ("" if has_mae else OWN_MAE.format(share=share)) + (FITTED if self.fits else ""),
        )

    def helpers(self) -> Iterable[nn.Module]:
        """The network as a whole: its tables of positions belong to none of the parts that learn."""
        return (self.network,)

    def optimizer(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        return torch.optim.AdamW(groups, lr=self.settings.peak_rate, betas=(0.9, 0.95))

    @torch.no_grad()
    def prepare(self, batches: Iterable[Sources]) -> None:
        if self.fits:
            fit(self.network, torch.cat([_both(sources) for sources in itertools.islice(batches, FITTED_BATCHES)]))

    def _rebuild(self, sources: Sources) -> torch.Tensor:
        images = _both(sources)
        return (self.network.rebuilt(images).float() - images).abs().mean()

    def _fuse(self, sources: Sources) -> Fused:
        image, record = self.network.fuse(normalised(sources.ir), normalised(sources.vi))
        return Fused(restored(image).clamp(0, 1), record)

    def _loss(self, sources: Sources, fused: Fused, done: float) -> Terms:
        """In the published epoch that the training has come to."""
        epoch = min(int(done * EPOCHS), EPOCHS - 1)
        ir = sources.ir.expand_as(sources.vi)
        return fusion_loss(fused.image, ir, sources.vi, fused.record, epoch)._asdict()


@torch.no_grad()
def fit(network: TCMoANet, images: torch.Tensor) -> None:
    """Begin with principal components and a linear regression, of images (B,3,H,W)."""
    enlarged = F.interpolate(images, scale_factor=ENLARGED, mode="bilinear", align_corners=False)
    fit_embedding(network.patch_embed.proj, enlarged, network.pos_embed[0, 1:])
    nn.init.eye_(network.decoder_embed.weight)
    for blocks in (network.blocks, network.decoder_blocks):
        calm(blocks)
    seen: list[torch.Tensor] = []
    hook = network.decoder_norm.register_forward_hook(lambda module, inputs, output: seen.append(output))
    network.rebuilt(images)
    hook.remove()
    fit_linear(network.decoder_pred, seen[0].flatten(0, 2), patches_of(enlarged, PATCH).flatten(0, 1))


def _both(sources: Sources) -> torch.Tensor:
    """Infrared and visible images for the network, (2B,3,H,W)."""
    return torch.cat((normalised(sources.ir), normalised(sources.vi)))


def _rebuilding(sources: Sources, distance: torch.Tensor, done: float) -> Terms:
    return {"total": distance}
