"""The training loss of S4Fusion (arXiv:2405.20881, Sec. III-D, Eqs. 13 and 14).

    L = L_per + 15 L_1 + 15 L_ssim + 15 L_grad

Images are (B,1,H,W) floats, the sources in [0,1], the fused one as the network gives it (nominally in [0,1], not clipped:
clipping has no gradient where it acts). All losses are means over the batch, as tensors without dimensions. The text leaves the
first-order details open; they are as the authors' published bytecode has them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple

import torch
from torch import nn

from fusion_det.fusion.training.classifiers import Classifier
from fusion_det.fusion.training.settings import Edges, Intensity, TermWeights
from fusion_det.fusion.training.terms import gaussian_means, sobel, sobel_responses, ssim_of_means


class InformationWeights(NamedTuple):
    """How much of each source the fused image is asked to keep, (B,) each; they sum to one."""

    ir: torch.Tensor
    vi: torch.Tensor


def information(features: Sequence[torch.Tensor]) -> torch.Tensor:
    """How much an image tells a pretrained network: its features' mean squared Sobel response, averaged over the maps.

    Args:
        features: one (B,C,H,W) map a stage; sizes differ.

    Returns:
        (B,), not negative. After U2Fusion (Xu et al. 2020, Eq. 3).
    """
    return torch.stack([sobel(maps).square().mean((1, 2, 3)) for maps in features]).mean(0)


def information_weights(ir: torch.Tensor, vi: torch.Tensor, temperature: float) -> InformationWeights:
    """Softmax over the two sources of information / temperature; (B,) and (B,)."""
    weights = torch.stack((ir, vi)).div(temperature).softmax(0)
    return InformationWeights(weights[0], weights[1])


def l1_loss(ir: torch.Tensor, vi: torch.Tensor, fused: torch.Tensor, weights: InformationWeights) -> torch.Tensor:
    """Σ over sources S of w_S · mean |S - fused|."""
    return _weighted((ir - fused).abs(), (vi - fused).abs(), weights)


def brighter_loss(ir: torch.Tensor, vi: torch.Tensor, fused: torch.Tensor) -> torch.Tensor:
    """mean | max(ir, vi) - fused |: at every pixel the brighter source."""
    return (torch.maximum(ir, vi) - fused).abs().mean()


def ssim_loss(ir: torch.Tensor, vi: torch.Tensor, fused: torch.Tensor, weights: InformationWeights) -> torch.Tensor:
    """Σ over sources S of w_S · mean D, D = (1 - SSIM(S, fused)) / 2 clamped to [0,1] at every pixel."""
    maps = gaussian_means(torch.cat((ir, vi, fused, ir * ir, vi * vi, fused * fused, ir * fused, vi * fused), dim=1))
    mean_ir, mean_vi, mean_fused, ir_ir, vi_vi, fused_fused, ir_fused, vi_fused = maps.split(1, dim=1)
    from_ir = _dissimilarity(mean_ir, mean_fused, ir_ir, fused_fused, ir_fused)
    from_vi = _dissimilarity(mean_vi, mean_fused, vi_vi, fused_fused, vi_fused)
    return _weighted(from_ir, from_vi, weights)


def gradient_loss(ir: torch.Tensor, vi: torch.Tensor, fused: torch.Tensor) -> torch.Tensor:
    """mean | max(S(ir), S(vi)) - S(fused) | with S = :func:`sobel`: at every pixel the stronger of the two edges."""
    return (torch.maximum(sobel(ir), sobel(vi)) - sobel(fused)).abs().mean()


def edge_loss(ir: torch.Tensor, vi: torch.Tensor, fused: torch.Tensor) -> torch.Tensor:
    """mean |∇s - ∇fused|₁, ∇ = Sobel's two responses and s at every pixel the source with the larger |∇|₁; borders repeated."""
    from_ir, from_vi, own = (sobel_responses(image, "replicate") for image in (ir, vi, fused))
    ir_stronger = from_ir[0].abs() + from_ir[1].abs() > from_vi[0].abs() + from_vi[1].abs()
    parts = [(torch.where(ir_stronger, a, b) - c).abs() for a, b, c in zip(from_ir, from_vi, own, strict=True)]
    return (parts[0] + parts[1]).mean()


def entropy(logits: torch.Tensor) -> torch.Tensor:
    """Entropy in nats of the softmax over classes, (B,classes) → (B,), between 0 and log(classes) (Eq. 14).

    1e-9 is added to every probability, so that a class that is ruled out has a finite logarithm.
    """
    probabilities = logits.softmax(1) + 1e-9
    return -(probabilities * probabilities.log()).sum(1)


def _weighted(ir: torch.Tensor, vi: torch.Tensor, weights: InformationWeights) -> torch.Tensor:
    return (weights.ir * ir.mean((1, 2, 3))).mean() + (weights.vi * vi.mean((1, 2, 3))).mean()


def _dissimilarity(
    mean_x: torch.Tensor, mean_y: torch.Tensor, xx: torch.Tensor, yy: torch.Tensor, xy: torch.Tensor
) -> torch.Tensor:
    """(1 - SSIM) / 2, clamped to [0,1], from the local means of x, y, x², y² and xy."""
    return ((1 - ssim_of_means(mean_x, mean_y, xx, yy, xy)) / 2).clamp(0, 1)


@dataclass(frozen=True)
class LossTerms:
    """The loss of a batch, and its four terms before they are weighted; tensors without dimensions."""

    total: torch.Tensor
    perception: torch.Tensor
    l1: torch.Tensor
    ssim: torch.Tensor
    gradient: torch.Tensor

    def terms(self) -> dict[str, torch.Tensor]:
        """By name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


class FusionLoss(nn.Module):
    """The whole loss.

    Args:
        classifier: weighs the sources by the information it finds in them, and judges the fused image; with None both sources
            weigh one half and the perception term is zero.
        temperature: of :func:`information_weights`; the paper does not give its own. See :func:`balanced_temperature`.
            None weighs both sources one half.
        intensity: "weighted" for :func:`l1_loss`, "brighter" for :func:`brighter_loss` in its place.
        edges: "strength" for :func:`gradient_loss`, "direction" for :func:`edge_loss` in its place.
    """

    def __init__(
        self,
        classifier: Classifier | None,
        weights: TermWeights | None = None,
        temperature: float | None = 1.0,
        intensity: Intensity = "weighted",
        edges: Edges = "strength",
    ) -> None:
        super().__init__()
        self.classifier, self.weights, self.temperature = classifier, weights or TermWeights(), temperature
        self.intensity, self.edges = intensity, edges

    def forward(self, ir: torch.Tensor, vi: torch.Tensor, fused: torch.Tensor, perception: float = 1.0) -> LossTerms:
        """All (B,1,H,W), float32, H and W at least 6. perception: factor on that term's weight."""
        w, balance = self.weights, self.balance(ir, vi)
        l1 = brighter_loss(ir, vi, fused) if self.intensity == "brighter" else l1_loss(ir, vi, fused, balance)
        ssim = ssim_loss(ir, vi, fused, balance)
        gradient = (edge_loss if self.edges == "direction" else gradient_loss)(ir, vi, fused)
        doubt = fused.new_zeros(())
        if self.classifier is not None and w.perception * perception:
            doubt = entropy(self.classifier(fused)).mean()
        total = w.perception * perception * doubt + w.l1 * l1 + w.ssim * ssim + w.gradient * gradient
        return LossTerms(total, doubt, l1, ssim, gradient)

    @torch.no_grad()
    def balance(self, ir: torch.Tensor, vi: torch.Tensor) -> InformationWeights:
        """The weights of both sources, (B,) each."""
        if self.classifier is None or self.temperature is None:
            half = ir.new_full((len(ir),), 0.5)
            return InformationWeights(half, half)
        return information_weights(*source_information(self.classifier, ir, vi), self.temperature)


@torch.no_grad()
def source_information(classifier: Classifier, ir: torch.Tensor, vi: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """:func:`information` of infrared and visible images (B,1,H,W), (B,) each."""
    both = information(classifier.features(torch.cat((ir, vi))))
    return both[: len(ir)], both[len(ir) :]


def balanced_temperature(ir: torch.Tensor, vi: torch.Tensor) -> float:
    """The temperature at which a pair of median contrast has weights of 0.73 and 0.27: the median of |g(ir) - g(vi)|.

    The information's scale is that of the classifier's features, so no number serves every classifier, and the paper names
    none. This one is found from training pairs, (n,) and (n,), and keeps the weights from being all alike or all or nothing.
    """
    return max(float((ir - vi).abs().median()), torch.finfo(torch.float32).tiny)
