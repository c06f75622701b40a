"""Fusion as sampling (Zhao et al. 2023, arXiv:2303.06840): from noise to an image that the prior believes in, DDIM step by step,
where after each step the likelihood of both sources has its say about the luma.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch

from fusion_det.fusion.methods.ddfm.em import em_step, fresh_state, sources_of
from fusion_det.fusion.methods.ddfm.network import UNet
from fusion_det.fusion.methods.ddfm.schedule import sample_steps

SEED = 3407
"""Of the published start noise, set anew for every pair."""

LUMA = 65.481, 128.553, 24.966
BLACK, SPAN = 16.0, 219.0
"""Of BT.601 with head room, in 255ths: luma = BLACK + R, G, B · LUMA. The three add up to SPAN."""


class Sample(NamedTuple):
    """What comes out.

    image: x_0, (B,3,H,W) RGB, nominally in [-1,1]. luma: (B,1,H,W), that of the last EM step, on the sources' scale.
    """

    image: torch.Tensor
    luma: torch.Tensor


def start_noise(height: int, width: int, seed: int = SEED) -> torch.Tensor:
    """x_T, (1,3,H,W) float32 on the CPU: depends on its arguments alone, and is the published one on a CPU."""
    return torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(seed))


def sample(
    network: UNet,
    infrared: torch.Tensor,
    visible: torch.Tensor,
    noise: torch.Tensor,
    steps: int,
    after_step: Callable[[], None] | None = None,
) -> Sample:
    """Fuse a batch.

    Gradients, where they are recorded, are those of the last step: through all of them nobody learns, and nobody has the memory.

    Args:
        infrared, visible: (B,1,H,W) float32 in [-1,1]; H and W multiples of the network's.
        noise: x_T, (B,3,H,W) or (1,3,H,W) float32 on the same device.
        steps: calls of the network. after_step: called after each.
    """
    sources, state = sources_of(visible, infrared), fresh_state(visible)
    dtype = next(network.parameters()).dtype
    x = noise.expand(len(visible), -1, -1, -1)
    clean, luma = x, visible
    recording = torch.is_grad_enabled()
    for step in sample_steps(steps):
        last = step.timestep == 0
        with torch.set_grad_enabled(recording and last):
            timestep = torch.tensor([step.timestep], device=x.device)
            predicted = network(x.to(dtype), timestep)[:, :3].float()
            scaled = step.image * x
            clean = (scaled - step.noise * predicted).clamp_(-1, 1)
            estimate = luma_of(clean)
            luma, state, *_ = em_step(sources, state, estimate)
            # Back in RGB: chroma stays, so all channels change alike.
            clean = clean + (luma - estimate) * (255 / SPAN)
            if not last:
                x = step.next_image * clean + step.next_noise / step.noise * (scaled - clean)
        if after_step is not None:
            after_step()
    return Sample(clean, luma)


def luma_of(rgb: torch.Tensor) -> torch.Tensor:
    """Luma with head room, as the published step takes it of [-1,1] as it is: -0.796 … 0.922. (B,3,H,W) to (B,1,H,W)."""
    red, green, blue = (rgb[:, i : i + 1] * (weight / 255) for i, weight in enumerate(LUMA))
    return red + green + blue + BLACK / 255
