"""FSFNet, the fusion network of IRFS (arXiv:2305.09999, Sec. 3.2): two heads with attention, two residual blocks, a tail."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn

from fusion_det.fusion.methods.irfs.config import IRFSConfig
from fusion_det.fusion.strips import strips_of


class SpatialAttention(nn.Module):
    """(B,C,H,W) → (B,1,H,W) in (0,1), from the largest and the mean channel of every place."""

    def __init__(self) -> None:
        super().__init__()
        self.spatial = nn.Sequential(OrderedDict(conv=nn.Conv2d(2, 1, 5, padding=2, bias=False)))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        summary = torch.cat((features.amax(1, keepdim=True), features.mean(1, keepdim=True)), dim=1)
        return self.spatial(summary).sigmoid()


class ChannelAttention(nn.Module):
    """(B,C,H,W) → (B,C,1,1) in (0,1), from the mean of every channel."""

    def __init__(self, config: IRFSConfig) -> None:
        super().__init__()
        self.conv_du = nn.Sequential(
            nn.Conv2d(config.width, config.squeezed, 1, bias=False),
            nn.ReLU(),
            nn.Conv2d(config.squeezed, config.width, 1, bias=False),
            nn.Sigmoid(),
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.conv_du(features.mean((2, 3), keepdim=True))


class Head(nn.Module):
    """Features of one source, (B,1,H,W) → (B,C,H,W), attended by place and by channel."""

    def __init__(self, config: IRFSConfig, slope: nn.PReLU) -> None:
        super().__init__()
        width = config.width
        self.body = nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1, bias=False), slope, nn.Conv2d(width, width, 3, padding=1, bias=False)
        )
        self.SA = SpatialAttention()
        self.CA = ChannelAttention(config)
        self.conv1x1 = nn.Conv2d(2 * width, width, 1, bias=False)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """The published network joins f·s and f·q, s by place and q by channel, and mixes these 2C channels by a 1×1
        convolution. As W (f·s) = (W f)·s and W (f·q) = (W·q) f, neither product is ever made, nor the two put together.
        """
        features = self.body(image)
        mask = self.SA(features)  # (B,1,H,W)
        for_places, for_channels = self.conv1x1.weight.flatten(1).chunk(2, dim=1)
        mixing = for_channels * self.CA(features).flatten(2).mT  # (B,C,C), every image's own
        strips = strips_of(features, halo=0)
        if len(strips) == 1:
            mixed = torch.baddbmm(_pixels(features) @ for_places.mT * _pixels(mask), _pixels(features), mixing.mT)
            return mixed.unflatten(1, features.shape[-2:]).permute(0, 3, 1, 2)
        out = torch.empty_like(features, memory_format=torch.channels_last)
        for strip in strips:
            pixels = _pixels(strip.of(features))
            by_place = (pixels @ for_places.mT).mul_(_pixels(strip.of(mask)))
            torch.baddbmm(by_place, pixels, mixing.mT, out=_pixels(strip.of(out)))
        return out


def _pixels(maps: torch.Tensor) -> torch.Tensor:
    """(B,C,H,W) as (B,HW,C); a view, if the layout is channels last."""
    return maps.permute(0, 2, 3, 1).flatten(1, 2)


class ResidualBlock(nn.Module):
    """Two convolutions and what went into them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(width, width, 3, padding=1)
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.body(features).add_(features)


class FSFNet(nn.Module):
    """The network under its published names; a released ``fusion_model.pth`` is its state dict.

    ``head_1`` sees the visible image and ``head_2`` the infrared one; they share the slope of their activation, which the
    state dict names twice. Parameters start as torch's layers do, as the authors' did. Maps are channels last, in which a CPU
    convolves a third faster.
    """

    def __init__(self, config: IRFSConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or IRFSConfig()
        slope = nn.PReLU()
        self.head_1, self.head_2 = Head(config, slope), Head(config, slope)
        self.body = nn.Sequential(ResidualBlock(config.width), ResidualBlock(config.width))
        self.tail = nn.Sequential(nn.Conv2d(config.width, 1, 3, padding=1, bias=False))
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, ir: torch.Tensor, vi: torch.Tensor) -> torch.Tensor:
        """Fuse.

        Args:
            ir, vi: (B,1,H,W) infrared image and visible luma in [0,1], of any one size.

        Returns:
            (B,1,H,W), the raw output: near [0,1] after training, but not clipped.

        Raises:
            ValueError: other shapes.
        """
        if ir.shape != vi.shape or ir.dim() != 4 or ir.shape[1] != 1:
            raise ValueError(f"ir and vi are (B,1,H,W) of one size, not {tuple(ir.shape)} and {tuple(vi.shape)}")
        features = self.head_1(vi).add_(self.head_2(ir))
        for block in self.body:  # called as a whole it would keep what it was given to its end
            features = block(features)
        return self.tail(features)
