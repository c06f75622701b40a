"""What a diffusion prior is trained by (Ho et al. 2020, arXiv:2006.11239, Eq. 14, "simple"): to tell the noise from the image."""

from __future__ import annotations

import torch

from fusion_det.fusion.methods.ddfm.schedule import alphas_cumprod


def noised(images: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
    """√ᾱ · image + √(1 - ᾱ) · noise, the image after so many timesteps of diffusion.

    Args:
        images: (B,C,H,W) in [-1,1]. noise: the same shape, normal. timesteps: (B,) whole numbers from 0 to 999.
    """
    alphas = torch.as_tensor(alphas_cumprod()[timesteps.cpu().numpy()], device="cpu")[:, None, None, None]
    image_part, noise_part = (root.sqrt().to(images) for root in (alphas, 1 - alphas))
    return image_part * images + noise_part * noise


def noise_loss(predicted: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """Mean squared error of the predicted noise; ``predicted`` (B,6,H,W) also has the variance, which is left alone."""
    return (predicted[:, :3] - noise).square().mean()
