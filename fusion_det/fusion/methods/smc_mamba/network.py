"""The SMC-Mamba network: one encoder for both sources, MAFE and MCCM at two resolutions, a convolutional decoder."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from fusion_det.fusion.methods.smc_mamba.config import SMCMambaConfig
from fusion_det.fusion.methods.smc_mamba.mafe import MAFE
from fusion_det.fusion.methods.smc_mamba.mccm import MCCM, Consensus

_LEAST_LEVEL = 1 / 512
"""Grey levels are kept so far from 0 and 1 before their logit is taken: half a step of 8 bits."""


class Insight(NamedTuple):
    """A fused image and how it came about, for the losses of the training.

    image: (B,1,H,W). levels: of MCCM at full and at half resolution. features: of each of them, the enhanced features of both
    sources, (2,B,H,W,C).
    """

    image: torch.Tensor
    levels: tuple[Consensus, Consensus]
    features: tuple[torch.Tensor, torch.Tensor]


class SMCMambaNet(nn.Module):
    """Two images (B,1,H,W) in [0,1] to a fused one in (0,1), after a sigmoid. H and W are multiples of 16."""

    def __init__(self, config: SMCMambaConfig) -> None:
        super().__init__()
        full, half = config.widths
        self.stem = nn.Conv2d(1, full, 3, padding=1)
        self.down = nn.Conv2d(full, half, 2, stride=2)
        self.enhance = nn.ModuleList(MAFE(width, config) if config.mafe else nn.Identity() for width in config.widths)
        self.fuse = nn.ModuleList(MCCM(width, config) for width in config.widths)
        self.decoder = Decoder(full, half, config)

    def forward(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        # One source after the other: half the memory of both at once.
        (first_fine, first_coarse), (second_fine, second_coarse) = self._encode(first), self._encode(second)
        fine = self.fuse[0](first_fine, second_fine)
        del first_fine, second_fine
        fused: torch.Tensor = self.decoder(first, second, fine, self.fuse[1](first_coarse, second_coarse))
        return fused

    def look_inside(self, first: torch.Tensor, second: torch.Tensor) -> Insight:
        """The same image, with all experts consulted."""
        maps = self._encode(torch.cat((first, second)))
        fine, coarse = (self.level(i).consult_all(*x.chunk(2)) for i, x in enumerate(maps))
        image = self.decoder(first, second, fine.fused, coarse.fused)
        return Insight(image, (fine, coarse), (maps[0].unflatten(0, (2, -1)), maps[1].unflatten(0, (2, -1))))

    def level(self, index: int) -> MCCM:
        """What fuses the features at full (0) or half (1) resolution."""
        fuse = self.fuse[index]
        assert isinstance(fuse, MCCM)
        return fuse

    def _encode(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Features at full and at half resolution, (b,H,W,C)."""
        x = F.gelu(self.stem(images.contiguous(memory_format=torch.channels_last)))
        fine = self.enhance[0](x.permute(0, 2, 3, 1))
        coarse = F.gelu(self.down(fine.permute(0, 3, 1, 2))).permute(0, 2, 3, 1)
        return fine, self.enhance[1](coarse)


class Decoder(nn.Module):
    """Fused features of both resolutions, and the sources, to the fused image.

    The head's outputs: the weight of the first source's base, a correction, and for each band the factors of both details.
    """

    def __init__(self, full: int, half: int, config: SMCMambaConfig) -> None:
        super().__init__()
        self.radii = config.radii
        self.up = nn.Conv2d(half, full, 1)
        self.mix = nn.Conv2d(full, full, 3, padding=1)
        self.refine = nn.Conv2d(full, full, 3, padding=1)
        self.head = nn.Conv2d(full, 2 + 2 * len(self.radii) if config.head == "blend" else 1, 3, padding=1)

    def forward(
        self, first: torch.Tensor, second: torch.Tensor, fine: torch.Tensor, coarse: torch.Tensor
    ) -> torch.Tensor:
        upper = F.interpolate(self.up(coarse.permute(0, 3, 1, 2)), scale_factor=2, mode="bilinear", align_corners=False)
        x = F.gelu(self.mix(fine.permute(0, 3, 1, 2) + upper))
        x = x + F.gelu(self.refine(x))
        y = self.head(x)
        if y.shape[1] == 1:
            return torch.sigmoid(y)
        blend = self._blend(torch.cat((first, second), 1), torch.sigmoid(y[:, :1]), torch.sigmoid(y[:, 2:]))
        return torch.sigmoid(torch.logit(blend.clamp(_LEAST_LEVEL, 1 - _LEAST_LEVEL)) + y[:, 1:2])

    def _blend(self, sources: torch.Tensor, weight: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
        """sources: (B,2,H,W). weight: (B,1,H,W) of the first one's base. factors: (B,2n,H,W) of the details in n bands."""
        kept = torch.zeros_like(weight)
        for band, radius in enumerate(self.radii):
            means = box_means(sources, radius)
            kept = kept + (factors[:, 2 * band : 2 * band + 2] * (sources - means)).sum(1, keepdim=True)
            sources = means
        return weight * sources[:, :1] + (1 - weight) * sources[:, 1:] + kept


def box_means(maps: torch.Tensor, radius: int) -> torch.Tensor:
    """Means of squares of 2·radius+1 pixels, of what of them is inside the maps (B,C,H,W)."""
    for height, width in ((radius, 0), (0, radius)):
        maps = F.avg_pool2d(maps, (2 * height + 1, 2 * width + 1), 1, (height, width), count_include_pad=False)
    return maps
