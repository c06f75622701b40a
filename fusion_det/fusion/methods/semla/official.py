"""What the published scripts of SemLA do with a pair of image files: resize, register, warp, fuse."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch

from fusion_det.errors import MethodError
from fusion_det.fusion.methods.semla.network import SemLANet
from fusion_det.fusion.methods.semla.registration import (
    consistent,
    match,
    saliency_of_pixels,
    thin_plate_warp,
)


@dataclass(frozen=True)
class Procedure:
    """One of the two scripts. width, height: of the images it works on.

    semantic: matches salient places alone, and fuses both sources where the infrared image is salient, elsewhere the visible one.
    """

    width: int
    height: int
    semantic: bool


DATASET = Procedure(320, 240, semantic=False)
"""For the pairs of a folder."""
SINGLE_PAIR = Procedure(640, 480, semantic=True)


@torch.no_grad()
def fuse_officially(network: SemLANet, ir: np.ndarray, vi: np.ndarray, procedure: Procedure = DATASET) -> np.ndarray:
    """From stored pixels to a colour image of their size.

    The scripts only draw their result. Here it is rounded to 8 bits and resized to the size of the pair.

    Args:
        ir, vi: uint8 (H,W) or (H,W,3) RGB, of one size.

    Returns:
        uint8 (H,W,3) RGB.

    Raises:
        MethodError: the registration network was never trained; or no registration was found.
    """
    if not is_trained(network.backbone):
        raise MethodError(
            "semla registers a pair before it fuses it by --protocol official, and these weights have no trained registration "
            "network: put the authors' registration file beside them (fusion-det methods semla names it), or train it, too "
            "(fusion-det train-fusion semla --set options.registration=0.5)"
        )
    grey = ir if ir.ndim == 2 else cv2.cvtColor(ir, cv2.COLOR_RGB2GRAY)
    colour = vi if vi.ndim == 3 else cv2.cvtColor(vi, cv2.COLOR_GRAY2RGB)
    size = procedure.width, procedure.height
    infrared, visible = (cv2.resize(image, size, interpolation=cv2.INTER_LINEAR) for image in (grey, colour))
    fused = fuse_registered(network, infrared, visible, procedure)
    stored = np.rint(fused * 255).astype(np.uint8)
    return cv2.resize(stored, (vi.shape[1], vi.shape[0]), interpolation=cv2.INTER_LINEAR)


@torch.no_grad()
def fuse_registered(network: SemLANet, ir: np.ndarray, vi: np.ndarray, procedure: Procedure) -> np.ndarray:
    """Register the infrared image with the visible one, warp it onto that, and fuse.

    Args:
        ir: uint8 (H,W), vi: uint8 (H,W,3) RGB; H and W multiples of 8.

    Returns:
        float32 (H,W,3) RGB in [0,1].

    Raises:
        MethodError: no registration was found.
    """
    device = next(network.parameters()).device
    infrared = torch.from_numpy(ir / np.float32(255))[None, None].to(device)
    luma, blue, red = (plane[None, None].to(device) for plane in to_ycbcr(torch.from_numpy(vi / np.float32(255))))
    found = network.backbone(infrared, luma)
    points = consistent(*match(found, 0.5 if procedure.semantic else 0.0))
    # The published script leaves the first of the points out.
    warp = thin_plate_warp(points[0][1:], points[1][1:], *ir.shape)
    warped = torch.from_numpy(warp(ir) / np.float32(255))[None, None].to(device)
    mask = None
    if procedure.semantic:
        salient = saliency_of_pixels(found.salient_ir)[0, 0].cpu().numpy()
        mask = torch.from_numpy(warp(salient))[None, None].to(device)
    fused = network.fusion(warped, luma, mask)
    return to_rgb(fused, blue, red)[0].permute(1, 2, 0).cpu().numpy()


def to_ycbcr(image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Y, Cb and Cr in [0,1], each (…), of RGB (…,3) in [0,1], with the scripts' rounded factors."""
    red, green, blue = image.unbind(-1)
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    return luma.clamp(0, 1), ((blue - luma) * 0.564 + 0.5).clamp(0, 1), ((red - luma) * 0.713 + 0.5).clamp(0, 1)


def to_rgb(luma: torch.Tensor, blue: torch.Tensor, red: torch.Tensor) -> torch.Tensor:
    """RGB (B,3,H,W) in [0,1] of Y, Cb and Cr, (B,1,H,W) each."""
    blue, red = blue - 0.5, red - 0.5
    planes = luma + 1.403 * red, luma - 0.714 * red - 0.344 * blue, luma + 1.773 * blue
    return torch.cat(planes, dim=1).clamp(0, 1)


def is_trained(backbone: torch.nn.Module) -> bool:
    """Whether the registration network has learnt: its batch norms count the batches that they learnt from."""
    counted: torch.Tensor = backbone.get_buffer("reg0.feat_trans.bn.num_batches_tracked")
    return int(counted) > 0
