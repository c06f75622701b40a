"""Cars, buses and trucks as prisms: a profile in the side plane, extruded to the vehicle's width."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fusion_det.data.demo.canvas import BLACK, Brush, Canvas, Colour, Point, Point3
from fusion_det.data.demo.climate import Climate
from fusion_det.data.demo.layout import Actor, generator, uniform

PAINTS: tuple[Colour, ...] = (
    (0.82, 0.82, 0.83),
    (0.55, 0.56, 0.58),
    (0.13, 0.13, 0.15),
    (0.62, 0.12, 0.12),
    (0.14, 0.24, 0.48),
    (0.78, 0.76, 0.70),
    (0.20, 0.36, 0.30),
)
BUS_PAINTS: tuple[Colour, ...] = ((0.20, 0.45, 0.70), (0.75, 0.65, 0.20), (0.25, 0.55, 0.35), (0.70, 0.25, 0.20))
CARGO_PAINTS: tuple[Colour, ...] = ((0.80, 0.80, 0.78), (0.60, 0.62, 0.60), (0.30, 0.42, 0.55), (0.62, 0.50, 0.30))
CIRCLE: tuple[Point, ...] = (
    (1.0, 0.0),
    (0.866, 0.5),
    (0.5, 0.866),
    (0.0, 1.0),
    (-0.5, 0.866),
    (-0.866, 0.5),
    (-1.0, 0.0),
    (-0.866, -0.5),
    (-0.5, -0.866),
    (0.0, -1.0),
    (0.5, -0.866),
    (0.866, -0.5),
)


@dataclass(frozen=True)
class Part:
    """One roof-line segment of the profile: from (s0, y0) to (s1, y1), nose to tail; glass or painted."""

    s0: float
    y0: float
    s1: float
    y1: float
    glass: bool = False
    hood: bool = False
    inset: float = 0.0


@dataclass(frozen=True)
class Shape:
    """Proportions of a vehicle, metres; s runs from the nose (0) to the tail (length).

    profile: outline of the flank. windows: polygons on the flank. top: what is seen from ahead above the
    nose or the tail. cargo: first s of the cargo box (trucks).
    """

    length: float
    half: float
    height: float
    profile: tuple[Point, ...]
    windows: tuple[tuple[Point, ...], ...]
    top: tuple[Part, ...]
    wheels: tuple[float, ...]
    wheel: float
    nose: float
    tail: float
    cargo: float | None = None


def _car(rise: float) -> Shape:
    """A saloon (rise 0) up to an off-roader (rise 0.3)."""
    roof, belt = 1.44 + rise, 0.92 + 0.5 * rise
    tail = 4.05 + (0.25 if rise > 0.15 else 0.0)
    return Shape(
        length=4.4,
        half=0.90,
        height=roof,
        profile=(
            (0.05, 0.28),
            (0.0, 0.62),
            (0.18, 0.76 + 0.4 * rise),
            (1.15, belt),
            (1.85, roof - 0.04),
            (2.3, roof),
            (3.2, roof - 0.02),
            (tail, belt + 0.04),
            (4.38, belt),
            (4.4, 0.5),
            (4.32, 0.28),
        ),
        windows=(
            ((1.32, belt + 0.02), (1.92, roof - 0.09), (2.48, roof - 0.07), (2.48, belt + 0.02)),
            ((2.58, belt + 0.02), (2.58, roof - 0.07), (3.15, roof - 0.09), (tail - 0.22, belt + 0.05)),
        ),
        top=(
            Part(4.38, belt, tail, belt + 0.04),
            Part(tail, belt + 0.04, 3.2, roof - 0.02, glass=True, inset=0.16),
            Part(3.2, roof - 0.02, 1.85, roof - 0.04, inset=0.20),
            Part(1.15, belt, 1.85, roof - 0.04, glass=True, inset=0.16),
            Part(0.18, 0.76 + 0.4 * rise, 1.15, belt, hood=True),
        ),
        wheels=(0.85, 3.55),
        wheel=0.33,
        nose=0.76 + 0.4 * rise,
        tail=belt,
    )


BUS = Shape(
    length=10.0,
    half=1.25,
    height=3.05,
    profile=((0.0, 0.35), (0.0, 2.6), (0.25, 3.0), (9.9, 3.05), (10.0, 2.8), (10.0, 0.35)),
    windows=tuple(((s, 1.35), (s, 2.5), (s + 1.25, 2.5), (s + 1.25, 1.35)) for s in (0.7, 2.1, 3.5, 4.9, 6.3, 7.7)),
    top=(),
    wheels=(2.2, 7.4),
    wheel=0.48,
    nose=3.0,
    tail=3.0,
)
TRUCK = Shape(
    length=7.5,
    half=1.20,
    height=3.2,
    profile=((0.0, 0.45), (0.0, 1.4), (0.3, 2.35), (1.9, 2.4), (1.9, 0.75), (7.4, 0.75), (7.4, 0.5), (1.9, 0.45)),
    windows=(((0.35, 1.4), (0.55, 2.15), (1.45, 2.15), (1.45, 1.4)),),
    top=(),
    wheels=(1.0, 5.2, 6.3),
    wheel=0.48,
    nose=2.4,
    tail=0.8,
    cargo=2.05,
)


@dataclass(frozen=True)
class Paintwork:
    """The brushes of one vehicle (see ``_paintwork``)."""

    body: Brush
    shade: Brush
    flank: Brush
    glass: Brush
    tyre: Brush
    rim: Brush
    hood: Brush
    grille: Brush
    trim: Brush
    plate: Brush
    headlight: Brush
    taillight: Brush
    exhaust: Brush
    cargo: Brush
    cargo_side: Brush
    sign: Brush


def _times(colour: Colour, factor: float) -> Colour:
    return colour[0] * factor, colour[1] * factor, colour[2] * factor


def _paintwork(actor: Actor, owner: int, climate: Climate, light: float, paint: Colour, cargo: Colour) -> Paintwork:
    """Brushes for the vehicle's state.

    A running engine heats bonnet, grille, tyres and exhaust; a vehicle parked a while ago keeps half of that; a
    cold one has the temperature of the air and, being glossy, mirrors the rest: infrared hardly sees it.
    """
    ambient = climate.ambient
    rises = {"running": 1.0, "warm": 0.75, "cold": 0.0}
    hot = rises[actor.state]
    lit = actor.state == "running" and climate.dark
    # Lights of a running car by day are on in some countries only; a weak gleam keeps both kinds plausible.
    gleam = 1.0 if lit else (0.12 if actor.state == "running" else 0.0)

    def brush(colour: Colour, rise: float, glow: Colour = BLACK) -> Brush:
        blend = 0.88 if actor.state == "cold" else 0.0
        return Brush(colour, ambient + rise * hot, actor.z, light, glow, blend, owner)

    return Paintwork(
        body=brush(paint, 4.0),
        shade=brush(_times(paint, 0.62), 3.0),
        flank=brush(_times(paint, 0.80), 3.5),
        glass=brush((0.10, 0.13, 0.16), -1.0),
        tyre=brush((0.05, 0.05, 0.05), 9.0),
        rim=brush((0.50, 0.50, 0.52), 6.5),
        hood=brush(_times(paint, 0.92), 13.0),
        grille=brush((0.08, 0.08, 0.09), 19.0),
        trim=brush((0.12, 0.12, 0.13), 6.0),
        plate=brush((0.20, 0.30, 0.75), 3.0),
        headlight=brush((0.93, 0.93, 0.90), 10.0, _times((2.0, 1.95, 1.75), gleam)),
        taillight=brush((0.62, 0.06, 0.05), 6.0, _times((1.3, 0.10, 0.07), gleam)),
        exhaust=brush((0.06, 0.06, 0.06), 22.0),
        cargo=brush(cargo, 1.5),
        cargo_side=brush(_times(cargo, 0.78), 1.5),
        sign=brush((0.10, 0.10, 0.10), 1.0, (0.95, 0.50, 0.08) if actor.state == "running" else BLACK),
    )


def draw_vehicle(canvas: Canvas, actor: Actor, owner: int, climate: Climate, light: float) -> None:
    """Draw a car, bus or truck seen from its front, rear, or flank (Actor.view)."""
    rng = generator(actor.look)
    if actor.kind == "Car":
        shape, paints = _car(uniform(rng, 0.0, 0.30)), PAINTS
    else:
        shape, paints = (BUS, BUS_PAINTS) if actor.kind == "Bus" else (TRUCK, PAINTS)
    paint = paints[int(rng.integers(len(paints)))]
    cargo = CARGO_PAINTS[int(rng.integers(len(CARGO_PAINTS)))]
    work = _paintwork(actor, owner, climate, light, paint, cargo)
    if actor.view in ("left", "right"):
        # Heading left the nose is on the left: s grows to the right.
        sign = 1.0 if actor.view == "left" else -1.0
        start = actor.x - sign * shape.length / 2
        _flank(canvas, shape, work, lambda s, y: (start + sign * s, y, actor.z))
        return
    ahead = actor.view == "front"

    def along(s: float) -> float:
        return actor.z + (s if ahead else shape.length - s)

    side = actor.x - shape.half if actor.x > 0 else actor.x + shape.half
    for part in shape.top if ahead else tuple(reversed(shape.top)):
        _strip(canvas, actor.x, shape, work, part, along)
    if abs(actor.x) > shape.half:
        _flank(canvas, shape, work, lambda s, y: (side, y, along(s)))
    (_nose if ahead else _tail)(canvas, actor, shape, work)


def _strip(
    canvas: Canvas, x: float, shape: Shape, work: Paintwork, part: Part, along: Callable[[float], float]
) -> None:
    """A segment of the roof line, across the vehicle."""
    low, high = (part.y0, part.y1) if part.y0 <= part.y1 else (part.y1, part.y0)
    first = shape.half - (0.0 if part.y0 == low and high - low > 0.2 else part.inset)
    last = shape.half - part.inset
    brush = work.glass if part.glass else (work.hood if part.hood else work.shade)
    corners = [
        (x - first, part.y0, along(part.s0)),
        (x - last, part.y1, along(part.s1)),
        (x + last, part.y1, along(part.s1)),
        (x + first, part.y0, along(part.s0)),
    ]
    canvas.surface(corners, work.body if part.glass else brush)
    if part.glass:
        trimmed = [(cx + (0.10 if cx < x else -0.10), cy, cz) for cx, cy, cz in corners]
        canvas.surface(trimmed, brush)


def _flank(canvas: Canvas, shape: Shape, work: Paintwork, place: Callable[[float, float], Point3]) -> None:
    """The side with its windows, wheels and (trucks) cargo box."""
    canvas.surface([place(s, y) for s, y in shape.profile], work.flank)
    if shape.cargo is not None:
        box = ((shape.cargo, 0.95), (shape.cargo, shape.height), (shape.length, shape.height), (shape.length, 0.95))
        canvas.surface([place(s, y) for s, y in box], work.cargo_side)
        for s in (3.3, 4.7, 6.1):
            canvas.surface([place(s, 1.0), place(s, 3.1), place(s + 0.08, 3.1), place(s + 0.08, 1.0)], work.cargo)
    if shape is BUS:
        band = ((0.0, 0.75), (0.0, 1.05), (10.0, 1.05), (10.0, 0.75))
        canvas.surface([place(s, y) for s, y in band], work.body)
    for window in shape.windows:
        canvas.surface([place(s, y) for s, y in window], work.glass)
    wing = min(shape.nose, 0.95)
    bonnet = ((0.02, 0.45), (0.1, wing * 0.9), (0.9, wing), (0.9, 0.7), (0.5, 0.5))
    canvas.surface([place(s, y) for s, y in bonnet], work.hood)
    lamp = min(shape.nose, 1.0) - 0.12
    canvas.surface([place(0.0, lamp - 0.1), place(0.0, lamp + 0.06), place(0.3, lamp + 0.04)], work.headlight)
    tail = shape.length
    lamp = 0.85 if shape.cargo is None else 0.7
    canvas.surface(
        [
            place(tail, lamp - 0.12),
            place(tail, lamp + 0.1),
            place(tail - 0.2, lamp + 0.1),
            place(tail - 0.2, lamp - 0.1),
        ],
        work.taillight,
    )
    for hub in shape.wheels:
        for radius, brush in ((shape.wheel, work.tyre), (shape.wheel * 0.58, work.rim)):
            canvas.surface([place(hub + radius * a, shape.wheel + radius * b) for a, b in CIRCLE], brush)


def _rectangle(canvas: Canvas, actor: Actor, x0: float, y0: float, x1: float, y1: float, brush: Brush) -> None:
    """A rectangle in the vehicle's nearest plane; x is relative to its middle."""
    z = actor.z
    corners = [(actor.x + x0, y0, z), (actor.x + x0, y1, z), (actor.x + x1, y1, z), (actor.x + x1, y0, z)]
    canvas.surface(corners, brush)


def _tyres(canvas: Canvas, actor: Actor, shape: Shape, work: Paintwork) -> None:
    for side in (-1.0, 1.0):
        inner, outer = side * (shape.half - 0.28), side * (shape.half - 0.03)
        _rectangle(canvas, actor, min(inner, outer), 0.0, max(inner, outer), shape.wheel * 1.3, work.tyre)


def _nose(canvas: Canvas, actor: Actor, shape: Shape, work: Paintwork) -> None:
    half, x, z = shape.half, actor.x, actor.z
    _tyres(canvas, actor, shape, work)
    if shape.cargo is not None:
        far = z + shape.cargo
        corners: list[Point3] = [(x - half, 0.9, far), (x - half, shape.height, far)]
        corners += [(x + half, shape.height, far), (x + half, 0.9, far)]
        canvas.surface(corners, work.cargo)
    bevel = 0.10
    canvas.surface(
        [
            (x - half, 0.30, z),
            (x - half, shape.nose - 0.12, z),
            (x - half + bevel, shape.nose, z),
            (x + half - bevel, shape.nose, z),
            (x + half, shape.nose - 0.12, z),
            (x + half, 0.30, z),
        ],
        work.body,
    )
    if shape.top:
        _rectangle(canvas, actor, -half * 0.48, 0.46, half * 0.48, 0.64, work.grille)
        lamps, size = 0.60, 0.15
    else:
        glass = (0.95, 2.55) if shape is BUS else (1.35, 2.2)
        _rectangle(canvas, actor, -half + 0.12, glass[0] + 0.25, half - 0.12, glass[1], work.glass)
        if shape is BUS:
            _rectangle(canvas, actor, -half * 0.6, 2.65, half * 0.6, 2.88, work.sign)
        _rectangle(canvas, actor, -half * 0.6, 0.60, half * 0.6, 0.95, work.grille)
        lamps, size = 0.75, 0.19
    _rectangle(canvas, actor, -half, 0.28, half, 0.40, work.trim)
    _rectangle(canvas, actor, -0.24, 0.38, 0.24, 0.48, work.plate)
    for side in (-1.0, 1.0):
        canvas.disc((x + side * (half - 0.24), lamps, z), size, work.headlight)


def _tail(canvas: Canvas, actor: Actor, shape: Shape, work: Paintwork) -> None:
    half = shape.half
    _tyres(canvas, actor, shape, work)
    if shape.cargo is not None:
        _rectangle(canvas, actor, -half, 0.55, half, 0.80, work.trim)
        _rectangle(canvas, actor, -half, 0.85, half, shape.height, work.cargo)
        _rectangle(canvas, actor, -0.03, 0.9, 0.03, shape.height - 0.1, work.cargo_side)
        _rectangle(canvas, actor, -half, shape.height - 0.12, half, shape.height, work.cargo_side)
        _rectangle(canvas, actor, -half * 0.4, 0.30, half * 0.4, 0.58, work.exhaust)
        lamp = 0.68
    else:
        _rectangle(canvas, actor, -half, 0.30, half, shape.tail, work.body)
        lamp = 0.78 if shape.top else 1.05
        if shape is BUS:
            _rectangle(canvas, actor, -half + 0.18, 1.65, half - 0.18, 2.55, work.glass)
            _rectangle(canvas, actor, -half * 0.6, 0.55, half * 0.6, 1.15, work.grille)
            _rectangle(canvas, actor, -half * 0.4, 2.66, half * 0.4, 2.86, work.sign)
        _rectangle(canvas, actor, -half, 0.28, half, 0.42, work.trim)
        _rectangle(canvas, actor, half * 0.3, 0.20, half * 0.7, 0.34, work.exhaust)
        _rectangle(canvas, actor, -0.24, 0.52, 0.24, 0.64, work.plate)
    for side in (-1.0, 1.0):
        edge = side * half
        inner = edge - side * (0.34 if shape.top else 0.22)
        _rectangle(canvas, actor, min(edge, inner), lamp - 0.08, max(edge, inner), lamp + 0.09, work.taillight)
