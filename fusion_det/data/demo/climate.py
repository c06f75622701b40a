"""Weather and time of day: what light and what temperatures a scene has, and how badly each camera does in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fusion_det.data.demo.canvas import Colour

Condition = Literal["day", "night", "overcast", "challenge"]
"""The four conditions of M3FD."""


@dataclass(frozen=True)
class Climate:
    """One kind of weather.

    condition: M3FD's name for it. sun: 0..1 general illumination. tint: colour cast of the visible camera.
    sky_top, sky_low: colours of the sky. dark: street lamps, windows and headlights are lit.
    ambient: air temperature, °C; sky, road, wall: how much colder or warmer those look to the infrared camera.
    fog: distance in metres at which three quarters of the visible contrast is gone (None: clear).
    glare: the low sun shines into the lens.
    visible_noise, infrared_noise: standard deviation, 8-bit grey levels.
    """

    condition: Condition
    sun: float
    tint: Colour
    sky_top: Colour
    sky_low: Colour
    ambient: float
    sky: float
    road: float
    wall: float
    visible_noise: float
    infrared_noise: float = 3.0
    dark: bool = False
    fog: float | None = None
    glare: bool = False


DAY = Climate("day", 1.0, (1.02, 1.0, 0.95), (0.36, 0.56, 0.86), (0.74, 0.83, 0.92), 17.0, -17.0, 3.0, 2.5, 2.5)
NIGHT = Climate(
    "night",
    0.13,
    (0.92, 0.92, 1.12),
    (0.030, 0.035, 0.075),
    (0.10, 0.10, 0.15),
    11.0,
    -13.0,
    1.0,
    1.5,
    6.5,
    dark=True,
)
OVERCAST = Climate(
    "overcast", 0.72, (0.97, 1.0, 1.03), (0.60, 0.63, 0.67), (0.76, 0.78, 0.80), 14.0, -9.0, 1.0, 1.0, 3.0, 3.5
)
FOG = Climate(
    "challenge",
    0.80,
    (1.0, 1.0, 1.0),
    (0.70, 0.72, 0.74),
    (0.73, 0.74, 0.75),
    10.0,
    -5.0,
    1.0,
    1.0,
    3.0,
    3.5,
    dark=True,
    fog=9.5,
)
GLARE = Climate(
    "challenge",
    0.72,
    (1.10, 1.0, 0.84),
    (0.62, 0.66, 0.74),
    (0.96, 0.86, 0.66),
    16.0,
    -14.0,
    2.0,
    2.0,
    3.0,
    glare=True,
)

CYCLE = (DAY, NIGHT, FOG, OVERCAST, NIGHT, DAY, NIGHT, GLARE, OVERCAST, NIGHT)
"""Climates of consecutive capture runs: by turns, so that even a small demo has all four conditions."""
