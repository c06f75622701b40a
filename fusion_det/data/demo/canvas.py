"""A pinhole camera over a flat street, and a canvas on which materials (not colours) are painted.

Everything is rasterised here with exactly rounded arithmetic (+, −, ×, ÷ and comparisons of float64), so that
the same scene gives the same pixels on every machine and with every version of OpenCV, Pillow or libm.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

SUPERSAMPLING = 2
"""Sub-pixels per pixel and axis of the planes before the sensors see them."""

Colour = tuple[float, float, float]
Point = tuple[float, float]
Point3 = tuple[float, float, float]

BLACK: Colour = (0.0, 0.0, 0.0)
NOBODY = -1
"""Owner of what is painted but has no box: trees, poles, shadows."""


@dataclass(frozen=True)
class Camera:
    """Pinhole camera looking along +Z; all pixel figures are in sub-pixels.

    width, height: of the canvas. focal: focal length. centre_x, horizon: principal point.
    mount: metres above the ground.
    """

    width: int
    height: int
    focal: float
    centre_x: float
    horizon: float
    mount: float

    def project(self, point: Point3) -> Point:
        """World point (X right, Y above ground, Z ahead; metres, Z > 0) to (u, v) in sub-pixels."""
        x, y, z = point
        return self.centre_x + self.focal * x / z, self.horizon + self.focal * (self.mount - y) / z

    def scale(self, z: float) -> float:
        """Sub-pixels per metre at depth ``z``."""
        return self.focal / z


@dataclass(frozen=True)
class Brush:
    """What a surface is made of, as far as two cameras can tell.

    colour: visible reflectance in [0, 1]; glow: light it sends out itself.
    heat: temperature in °C. blend: share of the temperature that is taken from what stands behind
        instead: a surface in thermal equilibrium with (or mirroring) its surroundings.
    light: illumination falling on it, 1 = full daylight. depth: metres from the camera.
    owner: index of the object it belongs to, or NOBODY.
    """

    colour: Colour
    heat: float
    depth: float
    light: float = 1.0
    glow: Colour = BLACK
    blend: float = 0.0
    owner: int = NOBODY


@dataclass
class Canvas:
    """Painter's canvas: each sub-pixel holds the number of the brush that painted it last (0: the backdrop)."""

    camera: Camera
    ids: np.ndarray = field(init=False)
    brushes: list[Brush] = field(init=False)

    def __post_init__(self) -> None:
        self.ids = np.zeros((self.camera.height, self.camera.width), np.uint16)
        self.brushes = [Brush(BLACK, 0.0, 1.0)]

    def _number(self, brush: Brush) -> int:
        # Figures paint part after part with few brushes, so looking at the latest ones is enough.
        for back in range(1, min(12, len(self.brushes)) + 1):
            if self.brushes[-back] is brush:
                return len(self.brushes) - back
        self.brushes.append(brush)
        return len(self.brushes) - 1

    def _window(self, x0: float, y0: float, x1: float, y1: float) -> tuple[int, int, int, int] | None:
        """Sub-pixel range (left, top, right, bottom) of a rectangle inside the canvas; None when outside."""
        left, top = max(0, int(np.floor(x0))), max(0, int(np.floor(y0)))
        right = min(self.camera.width, int(np.ceil(x1)))
        bottom = min(self.camera.height, int(np.ceil(y1)))
        return (left, top, right, bottom) if left < right and top < bottom else None

    def polygon(self, points: Sequence[Point], brush: Brush) -> None:
        """Fill a polygon given in sub-pixels (even-odd rule, sampled at sub-pixel centres)."""
        xs, ys = [p[0] for p in points], [p[1] for p in points]
        window = self._window(min(xs), min(ys), max(xs), max(ys))
        if window is None:
            return
        left, top, right, bottom = window
        columns = np.arange(left, right) + 0.5
        rows = (np.arange(top, bottom) + 0.5)[:, None]
        inside = np.zeros((bottom - top, right - left), bool)
        for (ax, ay), (bx, by) in zip(points, [*points[1:], points[0]], strict=True):
            if ay == by:
                continue
            crosses = (ay <= rows) != (by <= rows)
            inside ^= crosses & (columns < ax + (rows - ay) * ((bx - ax) / (by - ay)))
        self.ids[top:bottom, left:right][inside] = self._number(brush)

    def surface(self, corners: Sequence[Point3], brush: Brush) -> None:
        """Fill the projection of a polygon in the world."""
        self.polygon([self.camera.project(corner) for corner in corners], brush)

    def ellipse(self, centre: Point, radius_x: float, radius_y: float, brush: Brush) -> None:
        """Fill an axis-parallel ellipse given in sub-pixels."""
        x, y = centre
        window = self._window(x - radius_x, y - radius_y, x + radius_x, y + radius_y)
        if window is None:
            return
        left, top, right, bottom = window
        dx = (np.arange(left, right) + 0.5 - x) / radius_x
        dy = ((np.arange(top, bottom) + 0.5 - y) / radius_y)[:, None]
        self.ids[top:bottom, left:right][dx * dx + dy * dy <= 1.0] = self._number(brush)

    def disc(self, centre: Point3, radius: float, brush: Brush) -> None:
        """Fill a disc of ``radius`` metres that faces the camera."""
        pixels = radius * self.camera.scale(centre[2])
        self.ellipse(self.camera.project(centre), pixels, pixels, brush)

    def owners(self) -> np.ndarray:
        """(H, W) int16: the object that each sub-pixel shows, NOBODY where none."""
        return np.array([brush.owner for brush in self.brushes], np.int16)[self.ids]

    def count(self, owner: int, first: int = 0) -> int:
        """Sub-pixels that show ``owner``, all of whose brushes have numbers of at least ``first``."""
        recent = self.ids[self.ids >= first] - first
        belongs = np.array([brush.owner == owner for brush in self.brushes[first:]], bool)
        return int(np.count_nonzero(belongs[recent]))
