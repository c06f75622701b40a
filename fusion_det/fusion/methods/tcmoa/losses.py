"""TC-MoA's training loss for infrared and visible images (Zhu et al. 2024, arXiv:2403.12494; the published code).

Images are (B,3,H,W) floats in [0,1]; losses are tensors without dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F

from fusion_det.fusion.filters import extend
from fusion_det.fusion.methods.tcmoa.adapter import Prompts, Routing
from fusion_det.fusion.methods.tcmoa.network import Record
from fusion_det.fusion.training.terms import SIGMA, WINDOW, ssim_of_means

EPOCHS, MEAN_EPOCHS = 20, 2
"""Published epochs, and those at the beginning in which the fused image is drawn to the mean of its sources."""
BALANCE = 1e-3


class LossTerms(NamedTuple):
    """total, and its parts as they are added, but for ``balance``, which is divided by the number of the epoch."""

    total: torch.Tensor
    pixels: torch.Tensor
    gradient: torch.Tensor
    ssim: torch.Tensor
    prompts: torch.Tensor
    balance: torch.Tensor


def fusion_loss(fused: torch.Tensor, ir: torch.Tensor, vi: torch.Tensor, record: Record, epoch: int) -> LossTerms:
    """The loss in an epoch, which is counted from 0 on."""
    prompts, balance, ssim = prompt_loss(record), balance_loss(record.routings), ssim_loss(fused, ir, vi)
    if epoch < MEAN_EPOCHS:
        gradient = fused.new_zeros(())
        pixels = 3 * (fused - (vi + ir) / 2).abs().mean()
    else:
        gradient = 1.5 * gradient_loss(fused, ir, vi)
        pixels = 1.5 * (fused - torch.maximum(vi, ir)).abs().mean()
        ssim = 2 * ssim
    total = pixels + gradient + ssim + prompts + balance / (epoch + 1)
    return LossTerms(total, pixels, gradient, ssim, prompts, balance)


def gradient_loss(fused: torch.Tensor, ir: torch.Tensor, vi: torch.Tensor) -> torch.Tensor:
    """3 mean |G(f) - G*|; G* is G of that source in which it is stronger at a pixel, with its sign."""
    visible, infrared = slopes(vi), slopes(ir)
    stronger = torch.where(visible.abs() >= infrared.abs(), visible, infrared)
    return 3 * (slopes(fused) - stronger).abs().mean()


def slopes(image: torch.Tensor) -> torch.Tensor:
    """G: slopes of all channels across and down together, (B,C,H,W) to (B,1,H,W), zeros beyond the border.

    The sum of correlations with [-.2 0 .2; -1 0 1; -.2 0 .2] and [.2 1 .2; 0 0 0; -.2 -1 -.2].
    """
    padded = extend(image.sum(1, keepdim=True), (1, 1, 1, 1), "zero")
    down = padded[..., 1:-1, :] + 0.2 * (padded[..., :-2, :] + padded[..., 2:, :])
    across = padded[..., 1:-1] + 0.2 * (padded[..., :-2] + padded[..., 2:])
    return down[..., 2:] - down[..., :-2] + across[..., :-2, :] - across[..., 2:, :]


def ssim_loss(fused: torch.Tensor, ir: torch.Tensor, vi: torch.Tensor) -> torch.Tensor:
    """The mean of 1 - SSIM to either source."""
    return 1 - (ssim(fused, vi) + ssim(fused, ir)) / 2


def ssim(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Mean SSIM over all channels, with zeros beyond the borders."""
    half = WINDOW // 2
    offsets = torch.arange(WINDOW, device=x.device, dtype=x.dtype) - half
    taps = torch.exp(-offsets.square() / (2 * SIGMA**2))
    taps = taps / taps.sum()
    maps = torch.cat((x, y, x * x, y * y, x * y)).flatten(0, 1)[:, None]
    maps = F.conv2d(maps, taps.view(1, 1, 1, -1), padding=(0, half))
    means = F.conv2d(maps, taps.view(1, 1, -1, 1), padding=(half, 0)).chunk(5)
    return ssim_of_means(*means).mean()


def prompt_loss(record: Record) -> torch.Tensor:
    """The sources' weights are to add up to 1 at every token; the encoder's adapters count for 0.75, the decoder's for 0.25."""
    return 0.75 * _excess(record.encoder) + 0.25 * _excess(record.decoder)


def _excess(prompts: Sequence[Prompts]) -> torch.Tensor:
    return torch.stack([(each.vi + each.ir - 1).square().mean() for each in prompts]).mean()


def balance_loss(routings: Sequence[Routing]) -> torch.Tensor:
    """All experts are to have work: 0.001 (cv²(importance) + cv²(load)) of every adapter, summed; cv² = variance / mean²."""
    return BALANCE * torch.stack([_unevenness(r.importance) + _unevenness(r.load) for r in routings]).sum()


def _unevenness(values: torch.Tensor) -> torch.Tensor:
    return values.var() / (values.mean().square() + 1e-10)
