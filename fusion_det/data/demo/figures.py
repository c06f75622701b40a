"""People, motorcycles, lamps and trees."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fusion_det.data.demo.canvas import NOBODY, Brush, Canvas, Colour, Point
from fusion_det.data.demo.climate import Climate
from fusion_det.data.demo.layout import LENGTHS, Actor, generator, uniform

CLOTHES: tuple[Colour, ...] = (
    (0.16, 0.20, 0.34),
    (0.55, 0.15, 0.15),
    (0.20, 0.33, 0.24),
    (0.75, 0.73, 0.68),
    (0.12, 0.12, 0.13),
    (0.70, 0.55, 0.20),
    (0.36, 0.42, 0.55),
    (0.45, 0.30, 0.42),
)
TROUSERS: tuple[Colour, ...] = ((0.13, 0.14, 0.20), (0.24, 0.26, 0.33), (0.33, 0.28, 0.22), (0.10, 0.10, 0.10))
SKIN: Colour = (0.72, 0.53, 0.43)


class Figure:
    """Draws in metres around a foot point, upright and facing the camera: (x right, y up) → sub-pixels."""

    def __init__(self, canvas: Canvas, x: float, z: float, mirror: float = 1.0, size: float = 1.0) -> None:
        self.canvas, self.mirror, self.size = canvas, mirror, size
        self.scale = canvas.camera.scale(z)
        self.foot = canvas.camera.project((x, 0.0, z))

    def point(self, x: float, y: float) -> Point:
        reach = self.scale * self.size
        return self.foot[0] + self.mirror * x * reach, self.foot[1] - y * reach

    def shape(self, points: list[Point], brush: Brush) -> None:
        self.canvas.polygon([self.point(x, y) for x, y in points], brush)

    def oval(self, x: float, y: float, radius_x: float, radius_y: float, brush: Brush) -> None:
        reach = self.scale * self.size
        self.canvas.ellipse(self.point(x, y), radius_x * reach, radius_y * reach, brush)

    def limb(self, a: Point, b: Point, width: float, brush: Brush) -> None:
        """A thick line between two points; never thinner than a sub-pixel, or it would flicker away."""
        (ax, ay), (bx, by) = self.point(*a), self.point(*b)
        dx, dy = bx - ax, by - ay
        half = max(width * self.scale * self.size, 1.2) / 2 / max(float(np.sqrt(dx * dx + dy * dy)), 1e-6)
        ox, oy = -dy * half, dx * half
        self.canvas.polygon([(ax + ox, ay + oy), (bx + ox, by + oy), (bx - ox, by - oy), (ax - ox, ay - oy)], brush)


def draw_person(
    canvas: Canvas, actor: Actor, owner: int, frame: int, climate: Climate, light: float, start: Point
) -> None:
    """Somebody walking (or riding, see Actor.variant): head, trunk, swinging arms and legs, perhaps a bag."""
    rng = generator(actor.look)
    size = uniform(rng, 0.92, 1.10)
    coat, trousers = CLOTHES[int(rng.integers(len(CLOTHES)))], TROUSERS[int(rng.integers(len(TROUSERS)))]
    if climate.dark and climate.fog is None:
        # Few wear reflectors: at night clothes are as dark as the street behind them.
        coat = (0.06 + 0.35 * coat[0], 0.06 + 0.35 * coat[1], 0.06 + 0.35 * coat[2])
    warmth = uniform(rng, -1.0, 1.5)
    # Clothes lie between skin and air: the colder it is, the more a face stands out.
    cloth = climate.ambient + 0.62 * (33.0 - climate.ambient) + warmth

    def brush(colour: Colour, heat: float) -> Brush:
        return Brush(colour, heat, actor.z, light, owner=owner)

    top, legs = brush(coat, cloth), brush(trousers, cloth - 1.5)
    skin = brush(SKIN, 33.0 + warmth)
    hair = brush((0.11, 0.08, 0.06) if rng.random() < 0.8 else (0.45, 0.35, 0.2), 29.0 + warmth)
    bag = brush(CLOTHES[int(rng.integers(len(CLOTHES)))], climate.ambient + 1.0) if rng.random() < 0.35 else None
    mirror = -1.0 if actor.view == "left" else 1.0
    figure = Figure(canvas, actor.x, actor.z, mirror, size)
    if actor.variant == "rider":
        _rider(figure, actor, top, legs, skin, brush((0.75, 0.75, 0.78) if rng.random() < 0.5 else coat, 26.0))
        return
    sideways = actor.view in ("left", "right")
    # The phase of the gait comes from the way already walked, so that feet do not slide.
    phase = ((actor.x - start[0] + actor.z - start[1]) * 0.7 + uniform(rng, 0.0, 1.0)) % 1.0
    swing = abs(phase - 0.5) * 4.0 - 1.0
    step = 0.30 * swing if sideways else 0.05 * swing
    hip, stance = 0.86, 0.03 if sideways else 0.09
    figure.limb((-stance, hip), (-stance - step, 0.02), 0.17, legs)
    figure.limb((stance, hip), (stance + step, 0.02 + (0.0 if sideways else 0.05 * abs(swing))), 0.17, legs)
    shoulder = 0.15 if sideways else 0.22
    reach = 0.24 * swing if sideways else 0.05
    figure.limb((-shoulder, 1.38), (-shoulder - (reach if sideways else 0.06), 0.85), 0.10, top)
    figure.limb((-shoulder - (reach if sideways else 0.06), 0.88), (-shoulder - reach, 0.80), 0.08, skin)
    width = 0.15 if sideways else 0.21
    figure.shape(
        [(-width, 0.80), (-width - 0.02, 1.36), (-0.07, 1.47), (0.07, 1.47), (width + 0.02, 1.36), (width, 0.80)], top
    )
    figure.limb((shoulder, 1.38), (shoulder + (reach if sideways else 0.06), 0.85), 0.10, top)
    if bag is not None:
        figure.shape([(-width - 0.14, 0.75), (-width - 0.14, 1.10), (-width + 0.06, 1.10), (-width + 0.06, 0.75)], bag)
    figure.limb((0.0, 1.42), (0.0, 1.55), 0.11, skin)
    figure.oval(0.0, 1.62, 0.105, 0.135, skin)
    if actor.view == "rear":
        figure.oval(0.0, 1.65, 0.11, 0.125, hair)
    else:
        figure.shape([(-0.11, 1.63), (-0.10, 1.74), (0.0, 1.775), (0.10, 1.74), (0.11, 1.67), (0.0, 1.69)], hair)


def _rider(figure: Figure, actor: Actor, top: Brush, legs: Brush, skin: Brush, helmet: Brush) -> None:
    if actor.view in ("left", "right"):
        figure.limb((-0.15, 0.82), (0.28, 0.72), 0.17, legs)
        figure.limb((0.28, 0.72), (0.12, 0.32), 0.14, legs)
        figure.shape([(-0.30, 0.78), (-0.18, 1.28), (0.02, 1.38), (0.12, 1.30), (0.02, 0.78)], top)
        figure.limb((0.02, 1.28), (0.45, 1.02), 0.10, top)
        figure.oval(0.10, 1.52, 0.12, 0.14, skin)
        figure.oval(0.08, 1.56, 0.14, 0.13, helmet)
        return
    figure.limb((-0.14, 0.80), (-0.24, 0.34), 0.16, legs)
    figure.limb((0.14, 0.80), (0.24, 0.34), 0.16, legs)
    figure.shape([(-0.22, 0.72), (-0.24, 1.32), (-0.08, 1.42), (0.08, 1.42), (0.24, 1.32), (0.22, 0.72)], top)
    figure.limb((-0.24, 1.30), (-0.36, 0.98), 0.11, top)
    figure.limb((0.24, 1.30), (0.36, 0.98), 0.11, top)
    figure.oval(0.0, 1.54, 0.12, 0.15, skin)
    figure.oval(0.0, 1.60 if actor.view == "front" else 1.56, 0.145, 0.13, helmet)


def draw_motorcycle(canvas: Canvas, actor: Actor, owner: int, climate: Climate, light: float) -> None:
    """A scooter or motorcycle from its side, its front or its rear."""
    rng = generator(actor.look)
    paint = ((0.65, 0.10, 0.10), (0.12, 0.14, 0.18), (0.15, 0.30, 0.62), (0.82, 0.82, 0.84))[int(rng.integers(4))]
    cold, running = actor.state == "cold", actor.state == "running"
    ambient = climate.ambient

    def brush(colour: Colour, rise: float, glow: Colour = (0.0, 0.0, 0.0)) -> Brush:
        if cold:
            return Brush(colour, ambient, actor.z, light, glow, 0.88, owner)
        return Brush(colour, ambient + rise, actor.z, light, glow, 0.0, owner)

    hot = 1.0 if running else 0.7
    tyre, rim = brush((0.05, 0.05, 0.05), 9 * hot), brush((0.45, 0.45, 0.47), 6 * hot)
    body, seat = brush(paint, 5 * hot), brush((0.10, 0.09, 0.09), 7 * hot)
    engine, metal = brush((0.30, 0.30, 0.31), 26 * hot), brush((0.42, 0.42, 0.44), 4 * hot)
    lit = running and climate.dark
    front = brush((0.9, 0.9, 0.85), 8 * hot, (1.9, 1.8, 1.5) if lit else (0.0, 0.0, 0.0))
    rear = brush((0.7, 0.08, 0.06), 3 * hot, (1.2, 0.10, 0.08) if lit else (0.0, 0.0, 0.0))
    mirror = -1.0 if actor.view == "left" else 1.0
    figure = Figure(canvas, actor.x, actor.z, mirror)
    if actor.view in ("left", "right"):
        for x in (-0.62, 0.66):
            figure.oval(x, 0.31, 0.31, 0.31, tyre)
            figure.oval(x, 0.31, 0.18, 0.18, rim)
        figure.shape([(-0.45, 0.42), (-0.30, 0.62), (0.25, 0.60), (0.36, 0.36), (-0.20, 0.28)], engine)
        figure.limb((-0.75, 0.34), (-0.05, 0.30), 0.10, engine)
        figure.shape([(-0.85, 0.66), (-0.72, 0.80), (-0.10, 0.74), (0.12, 0.92), (0.42, 0.88), (0.46, 0.60)], body)
        figure.shape([(-0.72, 0.80), (-0.60, 0.88), (-0.08, 0.82), (-0.10, 0.74)], seat)
        figure.limb((0.66, 0.31), (0.40, 0.98), 0.08, metal)
        figure.limb((0.40, 0.98), (0.26, 1.06), 0.06, metal)
        figure.oval(0.52, 0.86, 0.09, 0.10, front)
        figure.oval(-0.84, 0.70, 0.06, 0.06, rear)
        return
    figure.oval(0.0, 0.32, 0.10, 0.32, tyre)
    figure.shape([(-0.22, 0.35), (-0.26, 0.70), (-0.12, 0.95), (0.12, 0.95), (0.26, 0.70), (0.22, 0.35)], body)
    figure.shape([(-0.24, 0.30), (-0.20, 0.46), (0.22, 0.46), (0.26, 0.30)], engine)
    figure.limb((-0.40, 1.04), (0.40, 1.04), 0.07, metal)
    figure.limb((-0.34, 1.04), (-0.38, 1.20), 0.09, metal)
    figure.limb((0.34, 1.04), (0.38, 1.20), 0.09, metal)
    figure.oval(0.0, 0.84, 0.12, 0.11, front if actor.view == "front" else rear)
    if actor.view == "rear":
        figure.shape([(-0.12, 0.50), (-0.12, 0.64), (0.12, 0.64), (0.12, 0.50)], metal)


SIGNALS: tuple[tuple[Colour, float], ...] = (
    ((1.00, 0.10, 0.08), 0.36),
    ((1.00, 0.70, 0.10), 0.0),
    ((0.10, 0.95, 0.55), -0.36),
)
"""Colours of a traffic light and their height above its middle, metres."""


def draw_lamp(canvas: Canvas, actor: Actor, owner: int, run_frame: int, climate: Climate, light: float) -> None:
    """A traffic light or a lantern. Only its head is the object (as M3FD annotates them), the pole is not."""
    rng = generator(actor.look)
    pole = Brush((0.24, 0.25, 0.26), climate.ambient, actor.z, light, blend=0.92, owner=NOBODY)
    housing = Brush((0.07, 0.08, 0.08), climate.ambient, actor.z, light, blend=0.93, owner=owner)
    height = uniform(rng, 3.3, 4.3)
    figure = Figure(canvas, actor.x, actor.z)
    figure.limb((0.0, 0.0), (0.0, height), 0.12, pole)
    if actor.variant == "lantern":
        strength = 1.5 if climate.dark else 0.0
        globe = replace(
            housing, colour=(0.90, 0.89, 0.84), glow=(strength, 0.88 * strength, 0.62 * strength), blend=0.90
        )
        figure.shape(
            [(-0.16, height - 0.05), (-0.08, height - 0.25), (0.08, height - 0.25), (0.16, height - 0.05)], pole
        )
        figure.shape([(-0.22, height), (-0.38, height + 0.62), (0.38, height + 0.62), (0.22, height)], globe)
        figure.shape(
            [(-0.46, height + 0.62), (-0.10, height + 0.84), (0.10, height + 0.84), (0.46, height + 0.62)], housing
        )
        return
    shade = replace(housing, colour=(0.13, 0.14, 0.14))
    figure.shape(
        [(-0.36, height - 0.62), (-0.36, height + 0.62), (0.36, height + 0.62), (0.36, height - 0.62)], housing
    )
    lit = 0 if (int(rng.integers(3)) + run_frame // 3) % 3 else 2
    for number, (colour, offset) in enumerate(SIGNALS):
        lens = shade
        if number == lit:
            strength = 1.5 if climate.dark else 0.75
            red, green, blue = (strength * part for part in colour)
            lens = replace(housing, colour=colour, glow=(red, green, blue))
        figure.oval(0.0, height + offset, 0.21, 0.17, lens)


def draw_tree(canvas: Canvas, actor: Actor, climate: Climate, light: float) -> None:
    """A trunk and a crown of overlapping clumps of leaves, lighter towards the top."""
    rng = generator(actor.look)
    ambient = climate.ambient
    figure = Figure(canvas, actor.x, actor.z, size=uniform(rng, 0.85, 1.3))
    trunk = Brush((0.26, 0.20, 0.15), ambient + 0.5, actor.z, light)
    figure.limb((0.0, 0.0), (0.0, 2.6), 0.28, trunk)
    for clump in range(16):
        height = 2.2 + 0.14 * clump + uniform(rng, -0.2, 0.2)
        green = 0.20 + 0.018 * clump + uniform(rng, -0.04, 0.05)
        leaves = Brush((0.55 * green, green, 0.42 * green), ambient + uniform(rng, -1.6, -0.2), actor.z, light)
        spread = 1.25 - 0.05 * clump
        radius = uniform(rng, 0.42, 0.75)
        figure.oval(uniform(rng, -spread, spread), height, radius, radius * 0.8, leaves)


def draw_shadow(canvas: Canvas, actor: Actor, climate: Climate, light: float, width: float, length: float) -> None:
    """The darkness under something that stands on the ground; under a running engine the road is warm."""
    near = canvas.camera.project((actor.x, 0.0, max(actor.z - 0.08, 1.0)))
    far = canvas.camera.project((actor.x, 0.0, actor.z + min(length, 2.2)))
    warm = actor.state == "running" and actor.kind in LENGTHS
    heat = climate.ambient + (14.0 if warm else 0.0)
    brush = Brush((0.10, 0.10, 0.11), heat, actor.z, light, blend=0.75 if warm else 1.0)
    radius = max((near[1] - far[1]) / 2, 1.5)
    canvas.ellipse((near[0], (near[1] + far[1]) / 2), width * canvas.camera.scale(actor.z), radius, brush)
