"""What is where: a street and the people, vehicles and lamps on it, for every capture run, from a seed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from fusion_det.data.demo.canvas import SUPERSAMPLING, Camera
from fusion_det.data.demo.climate import CYCLE, Climate

Kind = Literal["People", "Car", "Bus", "Motorcycle", "Lamp", "Truck", "Tree"]
View = Literal["front", "rear", "left", "right"]
"""Side of a vehicle turned to the camera's view: its front, its rear, or its flank while heading left/right."""
State = Literal["running", "warm", "cold"]
"""running: engine and lights on; warm: parked a while ago, lights off; cold: as cold as its surroundings."""

SIZES = ((320, 240),) * 7 + ((288, 216), (352, 240), (272, 192), (256, 208))
"""Image sizes (width, height) that capture runs draw from: mostly one, as in M3FD (3926 of 4200 pairs)."""
FRAME_SECONDS = 0.4
LENGTHS: dict[str, float] = {"Car": 4.4, "Bus": 10.0, "Truck": 7.5, "Motorcycle": 2.0}
"""Metres, bumper to bumper."""


@dataclass(frozen=True)
class Actor:
    """Something that stands or moves in the street, at the time of the run's first frame.

    x, z: of the middle of its near side, metres; vx, vz: metres per second. look: seed of its appearance.
    variant: which drawing of its kind ("rider", "walker", "traffic light", "lantern").
    """

    kind: Kind
    x: float
    z: float
    look: int
    vx: float = 0.0
    vz: float = 0.0
    view: View = "rear"
    state: State = "running"
    variant: str = ""

    def at(self, frame: int) -> Actor:
        """The same actor ``frame`` frames later."""
        seconds = frame * FRAME_SECONDS
        return replace(self, x=self.x + seconds * self.vx, z=self.z + seconds * self.vz)


@dataclass(frozen=True)
class Street:
    """half: half the road's width; zebra: depth of the pedestrian crossing (None: there is none); metres.

    pools: (x, z) of the light of street lamps on the ground.
    """

    half: float
    zebra: float | None
    pools: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Run:
    """A capture run: a few consecutive frames of one street by one camera."""

    number: int
    first: int
    frames: int
    camera: Camera
    climate: Climate
    street: Street
    actors: tuple[Actor, ...]
    backdrop_seed: int

    @property
    def name(self) -> str:
        return f"r{self.number:03d}"


def generator(*key: int) -> np.random.Generator:
    """The random numbers that belong to ``key`` (seed, run, …)."""
    return np.random.Generator(np.random.PCG64(list(key)))


def uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """A number in [low, high)."""
    return low + (high - low) * float(rng.random())


def run_of(seed: int, index: int) -> tuple[int, int]:
    """(run number, index of the run's first frame) for frame ``index`` of the demo with this seed."""
    number, first = 0, 0
    while True:
        length = run_length(seed, number)
        if index < first + length:
            return number, first
        number, first = number + 1, first + length


def run_length(seed: int, number: int) -> int:
    """Frames of a capture run: 3 to 6."""
    return int(generator(seed, number, 0).integers(3, 7))


def plan_run(seed: int, number: int, first: int) -> Run:
    """Lay out capture run ``number``, whose first frame has index ``first``."""
    rng = generator(seed, number, 1)
    width, height = (SUPERSAMPLING * side for side in SIZES[int(rng.integers(len(SIZES)))])
    camera = Camera(
        width,
        height,
        focal=width * uniform(rng, 0.95, 1.15),
        centre_x=width * uniform(rng, 0.42, 0.58),
        horizon=height * uniform(rng, 0.43, 0.52),
        mount=uniform(rng, 1.7, 2.4),
    )
    climate = CYCLE[number % len(CYCLE)]
    zebra = uniform(rng, 10.0, 14.0) if rng.random() < 0.6 else None
    half = uniform(rng, 5.2, 6.2)
    actors: list[Actor] = []
    for place in (_vehicles, _motorcycles, _people, _lamps, _trees):
        actors += place(rng, number, half, zebra, climate)
    # At night what is cold in infrared stands under the street lamps, so that one of the cameras can see it.
    pools = [(a.x, a.z) for a in actors if a.state == "cold" and a.kind in LENGTHS]
    pools.append((uniform(rng, -half, half), uniform(rng, 16.0, 28.0)))
    street = Street(half, zebra, tuple(pools))
    return Run(
        number,
        first,
        run_length(seed, number),
        camera,
        climate,
        street,
        tuple(actors),
        int(rng.integers(1 << 31)),
    )


def _look(rng: np.random.Generator) -> int:
    return int(rng.integers(1 << 31))


def _vehicles(rng: np.random.Generator, number: int, half: float, zebra: float | None, climate: Climate) -> list[Actor]:
    """Cars, buses and trucks: two lanes of traffic, two rows of parked ones, sometimes one crossing."""
    # Every run features one kind of heavy vehicle by turns, so that rare classes are not too rare.
    featured: Kind = ("Bus", "Truck")[number % 2]
    kinds: tuple[Kind, ...] = (*(("Car",) * 7), featured, "Truck", "Bus")
    actors = []
    order = rng.permutation(4)
    for turn, row in enumerate(order):
        parked, side = bool(row >= 2), (-1.0 if row % 2 == 0 else 1.0)
        x = side * (half - 1.15 if parked else half * 0.30)
        z = uniform(rng, 6.5, 10.0)
        for place in range(3):
            wanted = 0.85 if turn < 2 and place == 0 else 0.5
            kind: Kind = (
                featured if turn == 0 and place == 0 and rng.random() < 0.6 else kinds[int(rng.integers(len(kinds)))]
            )
            if kind != "Car":
                z = max(z, uniform(rng, 9.5, 13.0))
            if rng.random() < wanted and z < 30.0:
                state: State = "running"
                if parked:
                    state = "cold" if rng.random() < 0.55 else "warm"
                elif rng.random() < 0.15:
                    state = "warm"
                view: View = "front" if (side < 0) != (parked and rng.random() < 0.3) else "rear"
                speed = uniform(rng, 1.0, 4.0) if state == "running" else 0.0
                vz = -speed * 0.5 if view == "front" and z > 12 else speed
                actors.append(Actor(kind, x + uniform(rng, -0.2, 0.2), z, _look(rng), 0.0, vz, view, state))
            z += LENGTHS[kind] + uniform(rng, 1.5, 6.0)
    if rng.random() < 0.35:
        heading = -1.0 if rng.random() < 0.5 else 1.0
        kind = kinds[int(rng.integers(len(kinds)))]
        actors.append(
            Actor(
                kind,
                uniform(rng, -5.0, 5.0) - heading * 2.0,
                (zebra or 11.0) + uniform(rng, 4.0, 8.0),
                _look(rng),
                heading * uniform(rng, 1.5, 4.0),
                0.0,
                "left" if heading < 0 else "right",
                "running",
            )
        )
    return actors


def _motorcycles(
    rng: np.random.Generator, number: int, half: float, zebra: float | None, climate: Climate
) -> list[Actor]:
    """Motorcycles: parked on the pavement, or with a rider (who is one of the People) on the road."""
    actors = []
    for _ in range(int(rng.integers(0, 3)) + (number % 3 == 0)):
        views: tuple[View, ...] = ("left", "right", "front", "rear")
        view = views[int(rng.integers(4))]
        side = -1.0 if rng.random() < 0.5 else 1.0
        z = uniform(rng, 7.0, 17.0)
        if rng.random() < 0.5:
            state: State = "cold" if rng.random() < 0.7 else "warm"
            actors.append(
                Actor("Motorcycle", side * (half + uniform(rng, 0.5, 1.6)), z, _look(rng), view=view, state=state)
            )
            continue
        speed = uniform(rng, 1.0, 3.0)
        vx = {"left": -speed, "right": speed}.get(view, 0.0)
        vz = {"front": -0.4 * speed, "rear": speed}.get(view, 0.0)
        x = uniform(rng, -half * 0.7, half * 0.7)
        actors.append(Actor("Motorcycle", x, z, _look(rng), vx, vz, view, "running"))
        actors.append(Actor("People", x, z - 0.05, _look(rng), vx, vz, view, "running", "rider"))
    return actors


def _people(rng: np.random.Generator, number: int, half: float, zebra: float | None, climate: Climate) -> list[Actor]:
    """Pedestrians on both pavements and on the crossing."""
    actors = []
    nearest = 10.5 if climate.fog else 8.0
    for _ in range(int(rng.integers(3, 7))):
        side = -1.0 if rng.random() < 0.5 else 1.0
        heading = -1.0 if rng.random() < 0.5 else 1.0
        actors.append(
            Actor(
                "People",
                side * (half + uniform(rng, 0.5, 2.4)),
                uniform(rng, nearest, 20.0),
                _look(rng),
                vx=uniform(rng, -0.2, 0.2),
                vz=heading * uniform(rng, 0.3, 1.2),
                view="rear" if heading > 0 else "front",
                variant="walker",
            )
        )
    for _ in range(int(rng.integers(1, 4)) if zebra else int(rng.random() < 0.4)):
        heading = -1.0 if rng.random() < 0.5 else 1.0
        actors.append(
            Actor(
                "People",
                uniform(rng, -half, half),
                (zebra or uniform(rng, nearest, 20.0)) + uniform(rng, 0.3, 2.6),
                _look(rng),
                vx=heading * uniform(rng, 0.6, 1.4),
                view="left" if heading < 0 else "right",
                variant="walker",
            )
        )
    return actors


def _lamps(rng: np.random.Generator, number: int, half: float, zebra: float | None, climate: Climate) -> list[Actor]:
    """Traffic lights at the crossing and lanterns along the pavements; in equilibrium with the air."""
    actors = []
    for side in (-1.0, 1.0):
        if zebra is not None and rng.random() < 0.8:
            x, z = side * (half + uniform(rng, 0.2, 0.8)), zebra + uniform(rng, 3.0, 5.0)
            actors.append(Actor("Lamp", x, z, _look(rng), state="cold", variant="traffic light"))
        z = uniform(rng, 9.0, 15.0)
        while z < 26.0 and rng.random() < 0.55:
            x = side * (half + uniform(rng, 0.9, 1.3))
            actors.append(Actor("Lamp", x, z, _look(rng), state="cold", variant="lantern"))
            z += uniform(rng, 6.0, 9.0)
    return actors


def _trees(rng: np.random.Generator, number: int, half: float, zebra: float | None, climate: Climate) -> list[Actor]:
    actors = []
    for side in (-1.0, 1.0):
        z = uniform(rng, 12.0, 20.0)
        while z < 40.0 and rng.random() < 0.8:
            actors.append(Actor("Tree", side * (half + uniform(rng, 2.6, 4.0)), z, _look(rng), state="cold"))
            z += uniform(rng, 4.0, 9.0)
    return actors
