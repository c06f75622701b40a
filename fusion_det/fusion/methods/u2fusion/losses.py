"""The training loss of U2Fusion (Xu et al. 2022, Sec. 3.2 to 3.4), as the published code computes it.

    L = L_ssim + 20 L_mse

Both compare the fused image with the two sources, weighted for each sample by how much information a VGG-16 finds in
them. Images are (B,1,H,W) floats in [0,1], weights (B,2), the first source's before the second's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from fusion_det.fusion.training.terms import WINDOW, ssim_map

MSE_WEIGHT = 20.0
VGG_SIZE = 224
VGG_MEAN = (103.939, 116.779, 123.68)
"""Of the images of ImageNet, blue, green, red, in levels: what the Caffe-trained VGG-16 expects to be taken off."""


@dataclass(frozen=True)
class ContentLoss:
    """The loss of a batch and its two parts before they are weighted; tensors without dimensions."""

    total: torch.Tensor
    ssim: torch.Tensor
    mse: torch.Tensor


def content_loss(first: torch.Tensor, second: torch.Tensor, fused: torch.Tensor, weights: torch.Tensor) -> ContentLoss:
    """The loss of fused images, all (B,1,H,W), H and W at least 11.

    The published code multiplies weights (B) and squared errors (B,1), which gives B × B products: the squared errors are
    weighted by the mean weights of the batch, not each by its own.
    """
    dissimilarity = torch.stack([1 - ssim(source, fused) for source in (first, second)], dim=1)
    errors = torch.stack([(fused - source).square().mean((1, 2, 3)) for source in (first, second)], dim=1)
    from_ssim = (weights * dissimilarity).sum(1).mean()
    from_mse = (weights.mean(0) * errors.mean(0)).sum()
    return ContentLoss(from_ssim + MSE_WEIGHT * from_mse, from_ssim, from_mse)


def ssim(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Mean SSIM of each pair of images (B,1,H,W) in [0,1], over the windows that lie wholly inside: (B,)."""
    half = WINDOW // 2
    return ssim_map(x, y)[..., half:-half, half:-half].mean((1, 2, 3))


def source_weights(first: torch.Tensor, second: torch.Tensor, scale: float) -> torch.Tensor:
    """Softmax of information / ``scale`` over the two sources, (B) and (B) → (B,2). Published scales: 3200, 3500, 100."""
    return torch.stack((first, second), dim=1).div(scale).softmax(1)


def information(features: Sequence[torch.Tensor]) -> torch.Tensor:
    """:func:`gradient_energy` averaged over the feature maps of several layers, (B,); published: VGG-16's conv1_2, conv2_2,
    conv3_3, conv4_3 and conv5_3, each after its ReLU, of :func:`vgg_input`.
    """
    return torch.stack([gradient_energy(maps) for maps in features]).mean(0)


def gradient_energy(maps: torch.Tensor) -> torch.Tensor:
    """Mean squared difference of each pixel of (B,C,H,W) to the mean of its eight neighbours, zeros beyond the border: (B,)."""
    around = 9 * F.avg_pool2d(maps, 3, 1, 1) - maps
    return (around / 8 - maps).square().mean((1, 2, 3))


def vgg_input(source: torch.Tensor) -> torch.Tensor:
    """What VGG-16 is shown of grey images (B,1,H,W) in [0,1]: (B,3,224,224) in levels, blue, green, red, around their mean.

    Pixel i of the result is pixel ⌊i·size/224⌋ of the image.
    """
    levels = 255 * F.interpolate(source, (VGG_SIZE, VGG_SIZE), mode="nearest")
    return levels - levels.new_tensor(VGG_MEAN).view(1, 3, 1, 1)
