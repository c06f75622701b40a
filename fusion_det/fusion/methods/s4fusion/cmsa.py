"""The Cross-Modal Spatial Awareness Module: two modalities scanned in turns (S4Fusion, arXiv:2405.20881, Sec. III-C)."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

from fusion_det.fusion.methods.s4fusion.blocks import DIRECTIONS, SS2D
from fusion_det.fusion.methods.s4fusion.config import S4FusionConfig
from fusion_det.fusion.ssm import project
from fusion_det.fusion.ssm.layers import uniform_parameter


class CrossSS2D(SS2D):
    """One CMSA block without its residual: (2,b,H,W,C), infrared first, to the same.

    Private to a modality are the projections from its features to t, B and C (``x_proj_weight`` of the infrared,
    ``y_proj_weight`` of the visible map); all else is shared, and so is the state they are scanned through.
    """

    def __init__(self, width: int, config: S4FusionConfig) -> None:
        super().__init__(width, config.fusion_states, config.expansion)
        shape = (DIRECTIONS, self.rank + 2 * self.states, self.inner)
        self.y_proj_weight = uniform_parameter(shape, self.inner**-0.5)
        self.mark_proj = (
            uniform_parameter((self.inner, 2 * self.inner), (2 * self.inner) ** -0.5) if config.patch_mark else None
        )
        self.ln_1 = nn.LayerNorm(width) if config.pre_norm else nn.Identity()
        self.marked_parameters = config.marked_parameters

    def split(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return super().split(self.ln_1(x))

    def scan_inputs(self, p: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        marked = self.mark(p)
        features = marked if self.marked_parameters else p
        weights = self.x_proj_weight, self.y_proj_weight
        params = torch.stack([project(x, weight.flatten(0, 1)) for x, weight in zip(features, weights, strict=True)])
        return marked, params.unflatten(-1, (DIRECTIONS, -1))

    def mark(self, p: torch.Tensor) -> torch.Tensor:
        """Add to both modalities the mark of their common position, linear in both (Eqs. 7 and 8)."""
        if self.mark_proj is None:
            return p
        for_infrared, for_visible = self.mark_proj.split(self.inner, dim=1)
        return p + (project(p[0], for_infrared) + project(p[1], for_visible))

    def step_sizes(self, x: torch.Tensor, stage: Literal["projected", "biased", "step"] = "step") -> torch.Tensor:
        """Δ of every modality, position, direction and channel, (2,b,H,W,4,d), for this block's input ``x``.

        Large where the current patch matters more than what the state holds (Sec. IV-H).

        Args:
            stage: "step" is Δ itself, the softplus of "biased", which is "projected" plus ``dt_projs_bias``. The averages
                of Table VIII are negative, so they are no steps; those of its first layer are near zero, which in the
                released code never learns, and whose bias began between -6.9 and -2.3: so they are "projected".
        """
        _, params = self.scan_inputs(self.split(x)[0])
        delta = torch.einsum("mbhwkr,kdr->mbhwkd", params[..., : self.rank], self.dt_projs_weight)
        if stage == "projected":
            return delta
        delta = delta + self.dt_projs_bias
        return delta if stage == "biased" else F.softplus(delta)


class CMSA(nn.Module):
    """Fuses one level: (2,b,H,W,C), infrared first, to (b,H,W,C)."""

    def __init__(self, width: int, config: S4FusionConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(CrossSS2D(width, config) for _ in range(config.fusion_blocks))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.interact(x).sum(0)

    def interact(self, x: torch.Tensor) -> torch.Tensor:
        """Both modalities' features after the last block, (2,b,H,W,C), of which :meth:`forward` gives the sum (Fig. 14)."""
        for block in self.layers:
            x = x + block(x)
        return x
