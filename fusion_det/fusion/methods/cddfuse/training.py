"""How CDDFuse learns (Zhao et al. 2023, arXiv:2211.14461): to take images apart and put them together again, then to fuse."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

from fusion_det.fusion.methods.cddfuse.losses import fusion_loss, reconstruction_loss
from fusion_det.fusion.methods.cddfuse.network import CDDFuseNet, Features
from fusion_det.fusion.training.patches import with_contrast
from fusion_det.fusion.training.recipe import Moment, Phase, Recipe, Sources, Terms, halving
from fusion_det.fusion.training.settings import TrainSettings

CODING, FUSING = ("DIDF_Encoder", "DIDF_Decoder"), ("BaseFuseLayer", "DetailFuseLayer")
EPOCHS = 40, 80
"""Published epochs of the two phases."""
HALVED_EVERY = 20
"""Epochs; those of the fusion layers are counted from the second phase on."""

DEVIATIONS = (
    "Crops are random and flipped, not on a fixed grid; those without contrast are left out of their batch, unless it has no "
    "others."
)


class Rebuilt(NamedTuple):
    """What comes out in the first phase: the arguments of ``losses.reconstruction_loss``."""

    ir: torch.Tensor
    vi: torch.Tensor
    rebuilt_ir: torch.Tensor
    rebuilt_vi: torch.Tensor
    from_ir: Features
    from_vi: Features


class Fused(NamedTuple):
    """What comes out in the second phase: the arguments of ``losses.fusion_loss``."""

    ir: torch.Tensor
    vi: torch.Tensor
    fused: torch.Tensor
    from_ir: Features
    from_vi: Features


class CDDFuseRecipe(Recipe):
    """Encoder and decoder first learn to rebuild either modality; then all four networks learn to fuse.

    ``settings.final_rate`` is what the learning rate never falls below.
    """

    clip_each = True

    def __init__(self, settings: TrainSettings, network: CDDFuseNet) -> None:
        self.encoder, self.decoder, self.fuse_features = (
            network.DIDF_Encoder,
            network.DIDF_Decoder,
            network.fuse_features,
        )
        super().__init__(
            settings,
            {name: network.get_submodule(name) for name in (*CODING, *FUSING)},
            [
                Phase("rebuild", self._rebuild, _rebuilding_terms, learns=CODING, share=EPOCHS[0], fuses=False),
                Phase("fuse", self._fuse, _fusion_terms, learns=(*CODING, *FUSING), share=EPOCHS[1]),
            ],
            DEVIATIONS,
        )

    def optimizer(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        return torch.optim.Adam(groups, lr=self.settings.peak_rate)

    def rate(self, network: str, moment: Moment) -> float:
        epoch = moment.phase_done * EPOCHS[1] if network in FUSING else moment.done * sum(EPOCHS)
        return halving(self.settings.peak_rate, epoch, HALVED_EVERY, self.settings.final_rate)

    def _rebuild(self, sources: Sources) -> Rebuilt:
        sources = with_contrast(sources)
        ir, vi = sources.ir, sources.luma
        from_ir, from_vi = self.encoder(ir), self.encoder(vi)
        return Rebuilt(ir, vi, self.decoder(from_ir, ir), self.decoder(from_vi, vi), from_ir, from_vi)

    def _fuse(self, sources: Sources) -> Fused:
        sources = with_contrast(sources)
        ir, vi = sources.ir, sources.luma
        from_ir, from_vi = self.encoder(ir), self.encoder(vi)
        summed = Features(from_vi.base + from_ir.base, from_vi.detail + from_ir.detail)
        return Fused(ir, vi, self.decoder(self.fuse_features(summed), vi), from_ir, from_vi)


def _rebuilding_terms(sources: Sources, rebuilt: Rebuilt, done: float) -> Terms:
    terms = reconstruction_loss(*rebuilt)
    return {"total": terms.total, **terms._asdict()}


def _fusion_terms(sources: Sources, fused: Fused, done: float) -> Terms:
    terms = fusion_loss(*fused)
    return {"total": terms.total, **terms._asdict()}
