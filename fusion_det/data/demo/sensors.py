"""Two cameras: what is left of a scene's light and temperatures after optics, weather, noise and 8 bits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fusion_det.data.demo.canvas import SUPERSAMPLING
from fusion_det.data.demo.climate import Climate

FOG_COLOUR = (0.74, 0.75, 0.77)


@dataclass(frozen=True, eq=False)
class Radiance:
    """What reaches the cameras, per pixel, float64: colour and glow (H, W, 3), heat (°C) and depth (m) (H, W)."""

    colour: np.ndarray
    glow: np.ndarray
    heat: np.ndarray
    depth: np.ndarray


def shrink(plane: np.ndarray) -> np.ndarray:
    """Mean over the sub-pixels of each pixel, (H·s, W·s, …) → (H, W, …) float64, added up in a fixed order."""
    step = SUPERSAMPLING
    total = np.zeros((plane.shape[0] // step, plane.shape[1] // step, *plane.shape[2:]))
    for row in range(step):
        for column in range(step):
            total += plane[row::step, column::step]
    return total / (step * step)


def soften(plane: np.ndarray, radius: int, passes: int = 3) -> np.ndarray:
    """Repeated box blur of (H, W) or (H, W, C), edges repeated; nearly Gaussian, sigma ≈ radius for 3 passes.

    The sums are of integers (steps of 2⁻¹⁶), hence the same however the additions are ordered.
    """
    value = np.round(plane * 65536.0).astype(np.int64)
    side = 2 * radius + 1
    for axis in (0, 1):
        for _ in range(passes):
            pad = [(0, 0)] * value.ndim
            pad[axis] = (radius + 1, radius)
            total = np.cumsum(np.pad(value, pad, mode="edge"), axis=axis)
            upper = np.take(total, np.arange(side, total.shape[axis]), axis=axis)
            lower = np.take(total, np.arange(0, total.shape[axis] - side), axis=axis)
            value = (upper - lower) // side
    return value / 65536.0


def noise(rng: np.random.Generator, shape: tuple[int, ...], sigma: float) -> np.ndarray:
    """Nearly normal noise (sum of four uniform bytes) of standard deviation ``sigma``, float64."""
    total = rng.integers(0, 256, (4, *shape), np.uint8).astype(np.int32).sum(axis=0)
    return (total - 510) * (sigma / 147.8)


def to_bytes(levels: np.ndarray) -> np.ndarray:
    """Grey levels to uint8, rounded and saturated."""
    return np.clip(np.floor(levels + 0.5), 0, 255).astype(np.uint8)


def visible_image(
    radiance: Radiance, climate: Climate, camera_seed: np.random.Generator, rng: np.random.Generator
) -> np.ndarray:
    """(H, W, 3) uint8 RGB. ``camera_seed`` draws what stays for a run (the sun's place), ``rng`` the noise."""
    height, width = radiance.heat.shape
    scene, glow = radiance.colour, radiance.glow
    if climate.fog is not None:
        through = 1.0 / (1.0 + (radiance.depth / climate.fog) ** 2) ** 2
        veil = (1.0 - through)[..., None] * np.array(FOG_COLOUR)
        scene = scene * through[..., None] + veil
        # Light sources carry further than what they light up, but blur into a halo.
        glow = glow * (0.25 + 0.75 * through)[..., None] * 0.8
    halo = soften(np.minimum(glow, 2.0), max(2, width // 110))
    wide = soften(halo, max(4, width // 36))
    dark = climate.dark and climate.fog is None
    image = scene + glow + (0.55 if dark else 0.30) * halo + (0.45 if dark else 0.15) * wide
    if climate.glare:
        across, down = camera_seed.random(2).tolist()
        centre_x, centre_y = width * (0.2 + 0.6 * across), height * (0.30 + 0.12 * down)
        y, x = np.arange(height)[:, None], np.arange(width)[None, :]
        distance = ((x - centre_x) / (0.22 * width)) ** 2 + ((y - centre_y) / (0.26 * height)) ** 2
        flare = 1.9 / (1.0 + distance * distance) + 0.18 / (1.0 + 0.2 * distance)
        streak = 0.5 / ((1.0 + ((x - centre_x) / (0.06 * width)) ** 2) * (1.0 + distance * 0.3))
        image = image + (flare + streak)[..., None] * np.array((1.0, 0.94, 0.80))
    image = image * np.array(climate.tint)
    # A soft shoulder keeps highlights from clipping too early; the toe keeps nights from being plain black.
    image = np.maximum(image, 0.0)
    image = np.where(image > 0.7, 0.7 + (image - 0.7) / (1.0 + 1.6 * (image - 0.7)), image)
    levels = 255.0 * image + 4.0
    grain = noise(rng, (height, width), climate.visible_noise)[..., None]
    return to_bytes(levels + 0.7 * grain + noise(rng, (height, width, 3), 0.7 * climate.visible_noise))


def infrared_image(
    radiance: Radiance, climate: Climate, camera_seed: np.random.Generator, rng: np.random.Generator
) -> np.ndarray:
    """(H, W) uint8, white is hot. ``camera_seed`` draws the fixed pattern of the sensor for a run."""
    height, width = radiance.heat.shape
    heat = radiance.heat
    if climate.fog is not None:
        through = 1.0 / (1.0 + (radiance.depth / 90.0) ** 2)
        heat = climate.ambient + (heat - climate.ambient) * through
    heat = 0.35 * heat + 0.65 * soften(heat, 1, passes=1)
    pattern = 1.3 * (camera_seed.random((1, width)) - 0.5) + 0.9 * (camera_seed.random((height, 1)) - 0.5)
    # One gain for all scenes of a climate, from a cold wall to a face: no automatic gain to hide behind.
    low, high = climate.ambient + 0.75 * climate.sky - 2.0, 34.5
    levels = 250.0 * (heat - low) / (high - low) + 4.0
    levels = np.where(levels > 200.0, 200.0 + (levels - 200.0) * 0.6, levels)
    return to_bytes(levels + 2.5 * pattern + noise(rng, (height, width), climate.infrared_noise))
