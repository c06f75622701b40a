"""Everything that has no box and does not move: sky, skyline, façades, pavements, the road and its markings."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fusion_det.data.demo.canvas import Camera, Colour
from fusion_det.data.demo.climate import Climate
from fusion_det.data.demo.layout import Run, Street, generator, uniform

FAR = 200.0
"""Depth given to the sky, metres."""
FACADES: tuple[Colour, ...] = (
    (0.62, 0.54, 0.46),
    (0.52, 0.50, 0.50),
    (0.66, 0.60, 0.52),
    (0.48, 0.38, 0.34),
    (0.58, 0.60, 0.62),
    (0.44, 0.46, 0.52),
)


@dataclass(frozen=True, eq=False)
class Backdrop:
    """Planes in sub-pixels: colour, glow (H, W, 3); heat (°C), depth (m) (H, W); all float32.

    ``colour`` is already lit, unlike that of a brush.
    """

    colour: np.ndarray
    glow: np.ndarray
    heat: np.ndarray
    depth: np.ndarray

    def window(self, rows: slice, columns: slice) -> Backdrop:
        """A part of the planes that shares their memory."""
        part = (rows, columns)
        return Backdrop(self.colour[part], self.glow[part], self.heat[part], self.depth[part])


def illumination(climate: Climate, street: Street, x: np.ndarray | float, z: np.ndarray | float) -> np.ndarray:
    """Light falling on places of the ground (metres): sun or moon, street lamps, our own low beam."""
    light = np.full(np.broadcast(x, z).shape, climate.sun, np.float64)
    if climate.dark and climate.fog is None:
        for pool_x, pool_z in street.pools:
            distance = np.square((x - pool_x) / 3.0) + np.square((z - pool_z - 1.5) / 4.5)
            light = light + 0.55 / ((1.0 + distance * distance) * (1.0 + distance))
        light = light + 0.10 / (1.0 + np.square(z / 7.0))
    return light


def draw_backdrop(run: Run) -> Backdrop:
    """Draw the street of ``run``, empty."""
    rng = generator(run.backdrop_seed)
    camera, climate = run.camera, run.climate
    shape = (camera.height, camera.width)
    planes = Backdrop(
        colour=np.zeros((*shape, 3), np.float32),
        glow=np.zeros((*shape, 3), np.float32),
        heat=np.zeros(shape, np.float32),
        depth=np.full(shape, FAR, np.float32),
    )
    _sky(planes, camera, climate, rng)
    _skyline(planes, camera, climate, rng)
    _houses(planes, camera, climate, run.street, rng)
    _ground(planes, camera, climate, run.street, rng)
    return planes


def cloudiness(rng: np.random.Generator, height: int, width: int, cell: int) -> np.ndarray:
    """(height, width) float32 in [0, 1]: value noise, bilinear between random figures ``cell`` apart."""
    rows, columns = height // cell + 2, width // cell + 2
    grid = rng.random((rows, columns))
    y, x = np.arange(height) / cell, np.arange(width) / cell
    yi, xi = y.astype(int), x.astype(int)
    fy, fx = (y - yi)[:, None], (x - xi)[None, :]
    upper = grid[yi][:, xi] * (1 - fx) + grid[yi][:, xi + 1] * fx
    lower = grid[yi + 1][:, xi] * (1 - fx) + grid[yi + 1][:, xi + 1] * fx
    return (upper * (1 - fy) + lower * fy).astype(np.float32)


def _sky(planes: Backdrop, camera: Camera, climate: Climate, rng: np.random.Generator) -> None:
    height, width = planes.heat.shape
    rise = np.clip((np.arange(height) + 0.5) / camera.horizon, 0.0, 1.0)[:, None]
    clouds = 0.65 * cloudiness(rng, height, width, 96) + 0.35 * cloudiness(rng, height, width, 32)
    cover = np.clip((clouds - 0.5) * 3.0, 0.0, 1.0)
    white = (0.25 if climate.dark and climate.fog is None else 1.0) * 0.55 * climate.sun
    for channel in range(3):
        clear = climate.sky_top[channel] * (1.0 - rise) + climate.sky_low[channel] * rise
        planes.colour[..., channel] = clear + cover * np.maximum(0.0, white * 1.6 - clear) * 0.6
    # Clear sky is much colder than a cloud; towards the horizon one looks through more air.
    planes.heat[:] = climate.ambient + climate.sky * (1.0 - 0.6 * rise * rise) * (1.0 - 0.35 * cover)


def _wall(
    planes: Backdrop,
    mask: np.ndarray,
    across: np.ndarray,
    up: np.ndarray,
    depth: np.ndarray | float,
    colour: Colour,
    climate: Climate,
    rng: np.random.Generator,
) -> None:
    """Paint a façade with rows of windows where ``mask``; ``across``/``up`` are metres on the wall."""
    # Windows repeat every 3 m and every storey of 3.2 m; a table of random figures decides which are lit.
    column, storey = np.floor(across / 3.0).astype(int), np.floor(up / 3.2).astype(int)
    window = ((across - column * 3.0) > 0.8) & ((across - column * 3.0) < 2.2)
    window &= ((up - storey * 3.2) > 0.9) & ((up - storey * 3.2) < 2.5)
    table = rng.random((16, 32))
    figure = table[storey % 16, column % 32]
    lit = window & (figure < (0.30 if climate.dark else 0.0))
    pane = 0.18 + 0.30 * figure
    light = climate.sun * uniform(rng, 0.75, 1.0)
    share = 0.9 + 0.1 * (storey % 2)
    for channel in range(3):
        plain = colour[channel] * share
        value = np.where(window, pane * (0.9, 1.0, 1.15)[channel], plain) * light
        planes.colour[..., channel][mask] = value[mask]
        glow = np.where(lit, (0.55, 0.45, 0.26)[channel] * (0.5 + figure), 0.0)
        planes.glow[..., channel][mask] = glow[mask]
    heat = climate.ambient + climate.wall * (0.6 + 0.4 * share) + np.where(window, 1.6 * figure - 0.2, 0.0)
    planes.heat[mask] = heat[mask]
    planes.depth[mask] = np.broadcast_to(depth, mask.shape)[mask]


def _skyline(planes: Backdrop, camera: Camera, climate: Climate, rng: np.random.Generator) -> None:
    """Distant blocks of flats and a belt of trees along the horizon."""
    height, width = planes.heat.shape
    u, v = np.arange(width)[None, :] + 0.5, np.arange(height)[:, None] + 0.5
    for depth in (170.0, 120.0, 85.0):
        scale = camera.scale(depth)
        left = uniform(rng, -20.0, 30.0)
        while left < width:
            across, tall = uniform(rng, 12.0, 26.0) * scale, uniform(rng, 9.0, 34.0) * scale
            colour = FACADES[int(rng.integers(len(FACADES)))]
            top, right = camera.horizon - tall, left + across
            rows = slice(max(0, int(top)), int(camera.horizon) + 1)
            columns = slice(max(0, int(left)), max(0, int(right)))
            part = planes.window(rows, columns)
            if part.heat.size:
                mask = np.ones(part.heat.shape, bool)
                across_wall, up = np.broadcast_arrays(
                    (u[:, columns] - left) / scale, (camera.horizon - v[rows]) / scale
                )
                _wall(part, mask, across_wall, up, depth, colour, climate, rng)
            left = right + uniform(rng, 10.0, 110.0)
    edge = camera.horizon - (1.2 + 2.6 * cloudiness(rng, 1, width, 24) + 1.2 * cloudiness(rng, 1, width, 7)) * (
        camera.scale(60.0)
    )
    mask = (v > edge) & (v < camera.horizon + 2)
    green = 0.14 + 0.10 * cloudiness(rng, height, width, 6)
    for channel in range(3):
        planes.colour[..., channel][mask] = ((0.62, 1.0, 0.5)[channel] * green * climate.sun)[mask]
        planes.glow[..., channel][mask] = 0.0
    planes.heat[mask] = (climate.ambient - 2.0 + 6.0 * (green - 0.19))[mask]
    planes.depth[mask] = 60.0


def _houses(planes: Backdrop, camera: Camera, climate: Climate, street: Street, rng: np.random.Generator) -> None:
    """Houses along both pavements: the wall along the street, and the end that faces us."""
    height, width = planes.heat.shape
    u, v = np.arange(width)[None, :] + 0.5, np.arange(height)[:, None] + 0.5
    for side in (-1.0, 1.0):
        offset = side * (street.half + uniform(rng, 4.2, 6.0))
        blocks = []
        z = uniform(rng, 11.0, 22.0)
        while z < 58.0:
            length = uniform(rng, 9.0, 18.0)
            blocks.append((z, z + length, uniform(rng, 6.0, 15.0), FACADES[int(rng.integers(len(FACADES)))]))
            z += length + (uniform(rng, 2.0, 12.0) if rng.random() < 0.5 else 0.0)
        for near, far, tall, colour in reversed(blocks):
            rows = slice(
                max(0, int(camera.horizon - camera.scale(near) * (tall - camera.mount))),
                min(height, int(camera.horizon + camera.scale(near) * camera.mount) + 1),
            )
            # The wall along the street: depth follows from the column, height from the row and the depth.
            inner = camera.centre_x + side * camera.focal * abs(offset) / far
            outer = camera.centre_x + side * camera.focal * abs(offset) / near
            columns = slice(max(0, int(min(inner, outer))), max(0, min(width, int(max(inner, outer)) + 1)))
            part = planes.window(rows, columns)
            if part.heat.size:
                reach = np.maximum((u[:, columns] - camera.centre_x) * side, 0.5)
                depth = np.minimum(np.maximum(camera.focal * abs(offset) / reach, near), far)
                up = camera.mount - (v[rows] - camera.horizon) * depth / camera.focal
                across = np.broadcast_to(depth - near, up.shape)
                mask = (up >= 0.0) & (up <= tall)
                _wall(part, mask, across, np.maximum(up, 0.0), depth, colour, climate, rng)
            # The end that faces us.
            scale = camera.scale(near)
            ends = (outer, outer + side * 9.0 * scale)
            columns = slice(max(0, int(min(ends))), max(0, min(width, int(max(ends)))))
            part = planes.window(rows, columns)
            if part.heat.size:
                across = np.abs(u[:, columns] - outer) / scale
                up = camera.mount - (v[rows] - camera.horizon) / scale
                across, up = np.broadcast_arrays(across, np.maximum(up, 0.0))
                shaded = (colour[0] * 0.8, colour[1] * 0.8, colour[2] * 0.82)
                mask = (up > 0.0) & (up <= tall)
                _wall(part, mask, across, up, near, shaded, climate, rng)


def _ground(planes: Backdrop, camera: Camera, climate: Climate, street: Street, rng: np.random.Generator) -> None:
    """Asphalt with markings, kerbs, pavements of slabs, and grass behind them."""
    height, width = planes.heat.shape
    top = int(camera.horizon) + 2
    u, v = np.arange(width)[None, :] + 0.5, np.arange(top, height)[:, None] + 0.5
    z = camera.focal * camera.mount / (v - camera.horizon)
    x = (u - camera.centre_x) * z / camera.focal
    z = np.broadcast_to(z, x.shape)
    beside, half = np.abs(x), street.half
    keep = planes.depth[top:] < z  # houses stand before the ground behind them
    grain = cloudiness(rng, height - top, width, 40) * 0.06 + rng.random(x.shape).astype(np.float32) * 0.05
    tracks = 0.03 * np.clip(1.0 - np.abs(np.abs(beside - half * 0.3) - 0.75) / 0.35, 0.0, 1.0)
    asphalt = 0.27 + grain - tracks
    slabs = 0.50 + grain - 0.10 * (((z % 1.5) < 0.08) | ((beside % 1.0) < 0.05))
    paint = ((beside < 0.09) & ((z % 6.0) < 3.0)) | (np.abs(beside - half + 0.25) < 0.07)
    if street.zebra is not None:
        across = (z > street.zebra) & (z < street.zebra + 3.0)
        paint = (paint & ~across) | (across & ((x % 1.0) < 0.5) & (beside < half - 0.4))
        paint |= (np.abs(z - street.zebra + 1.2) < 0.15) & (x > 0) & (beside < half - 0.3)
    grey = np.where(beside < half, np.where(paint, 0.78 + grain, asphalt), slabs)
    grey = np.where((beside >= half) & (beside < half + 0.22), 0.62, grey)
    grass = beside > half + 4.0
    light = illumination(climate, street, x, z)
    for channel in range(3):
        colour = np.where(grass, (0.20, 0.30, 0.14)[channel] + 2.0 * (grain - 0.05), grey)
        planes.colour[top:, :, channel] = np.where(keep, planes.colour[top:, :, channel], colour * light)
        planes.glow[top:, :, channel] *= keep
    warm = np.where(beside < half, climate.road + 8.0 * tracks, climate.road * 0.75)
    warm = np.where(grass, -1.5, warm) + np.where(paint & (beside < half), -0.5, 0.0)
    heat = climate.ambient + warm + 12.0 * (grain - 0.055)
    # Far ground is seen at a grazing angle, where it mirrors the cold sky.
    heat = heat + 0.35 * climate.sky * (z / (z + 60.0))
    planes.heat[top:] = np.where(keep, planes.heat[top:], heat)
    planes.depth[top:] = np.where(keep, planes.depth[top:], z)
