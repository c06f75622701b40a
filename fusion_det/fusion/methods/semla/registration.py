"""From the registration network's maps to points that correspond, and from these to an image that is warped onto the other.

Points are (n,2) arrays of pixels, x and y.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from fusion_det.errors import MethodError
from fusion_det.fusion.methods.semla.network import STRIDE, Registered, similarity

RANSAC_PIXELS = 5.0
"""How far a point of a homography's may be from where it belongs."""
LEAST_MATCHES = 4
"""That a homography needs."""


def match(found: Registered, threshold: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Places of both images that are each other's likest.

    Args:
        found: of one pair.
        threshold: on saliency; only places above it are compared.

    Returns:
        Points of the visible and of the infrared image, int64 (n,2) each, in the order of the visible image's rows.
    """
    salient_vi, salient_ir = ((salient > threshold).flatten() for salient in (found.salient_vi, found.salient_ir))
    alike = similarity(found.features_vi, found.features_ir)[0][salient_vi][:, salient_ir]
    if alike.numel() == 0:
        return np.zeros((0, 2), np.int64), np.zeros((0, 2), np.int64)
    mutual = (alike > 0) & (alike == alike.amax(1, keepdim=True)) & (alike == alike.amax(0, keepdim=True))
    rows = mutual.any(1).nonzero()[:, 0]
    columns = mutual[rows].byte().argmax(1)  # the first, should there be two
    width = found.salient_vi.shape[-1]
    first, second = (
        salient.nonzero()[chosen, 0].cpu().numpy() for salient, chosen in ((salient_vi, rows), (salient_ir, columns))
    )
    return tuple(STRIDE * np.stack((place % width, place // width), axis=1) for place in (first, second))  # type: ignore[return-value]


def saliency_of_pixels(salient: torch.Tensor) -> torch.Tensor:
    """(1,1,h,w) at every pixel, (1,1,8h,8w)."""
    return F.interpolate(salient, scale_factor=STRIDE, mode="bilinear", align_corners=True)


def consistent(points_vi: np.ndarray, points_ir: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Those pairs of points that one homography brings together (RANSAC).

    Raises:
        MethodError: too few points, or no homography.
    """
    homography = inside = None
    if len(points_vi) >= LEAST_MATCHES:
        homography, inside = cv2.findHomography(points_vi, points_ir, cv2.RANSAC, RANSAC_PIXELS)
    if homography is None or inside is None:
        raise MethodError(
            f"semla found {len(points_vi)} points that both images have in common, and RANSAC no homography between them, so "
            "that the pair cannot be registered; if it is aligned, use the common protocol, which fuses without registration"
        )
    kept = inside[:, 0].astype(bool)
    return points_vi[kept], points_ir[kept]


Warp = Callable[[np.ndarray], np.ndarray]
"""Of images (H,W), uint8 or float32, to the same."""


def thin_plate_warp(points: np.ndarray, targets: np.ndarray, height: int, width: int) -> Warp:
    """What brings an image to where ``points`` are, from where the ``targets`` are that correspond to them.

    The thin-plate spline (Bookstein 1989) that takes each of ``points`` to its target, without smoothing, with the kernel
    U(d) = d·ln(d + ε) of the squared distance d. Pixels are OpenCV's bilinear samples, 0 outside of the image.

    Raises:
        MethodError: fewer than three points, or points on one line, through which there is no such spline.
    """
    p, q = points.astype(np.float64), targets.astype(np.float64)
    count = len(p)
    system = np.zeros((count + 3, count + 3))
    system[:count, :count] = _kernel(np.square(p[:, None] - p).sum(-1))
    system[:count, count:] = _affine(p)
    system[count:, :count] = system[:count, count:].T
    if count < 3 or np.linalg.matrix_rank(system[:count, count:]) < 3:
        raise MethodError(
            f"semla found {count} points to bend the infrared image by, which lie on one line; three that do not are needed. "
            "If the pair is aligned, use the common protocol, which fuses without registration"
        )
    solved = np.linalg.solve(system, np.concatenate((q, np.zeros((3, 2)))))
    weights, affine = solved[:count], solved[count:]
    columns, rows = np.meshgrid(np.arange(width, dtype=np.float64), np.arange(height, dtype=np.float64))
    pixels = np.stack((columns, rows), axis=-1)  # (H,W,2)
    source = _affine(pixels) @ affine
    for point, weight in zip(p, weights, strict=True):  # one after the other: no array of pixels by points
        source += _kernel(np.square(pixels - point).sum(-1))[..., None] * weight
    across, down = (np.ascontiguousarray(source[..., axis], dtype=np.float32) for axis in (0, 1))

    def warp(image: np.ndarray) -> np.ndarray:
        return cv2.remap(image, across, down, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=0)

    return warp


def _kernel(squared: np.ndarray) -> np.ndarray:
    return squared * np.log(squared + np.finfo(np.float32).eps)


def _affine(points: np.ndarray) -> np.ndarray:
    """(…,2) to (…,3): 1, x, y."""
    return np.concatenate((np.ones_like(points[..., :1]), points), axis=-1)
