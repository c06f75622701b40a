"""Synthetic infrared/visible road scenes, drawn by code and deterministic by seed.

They stand in for a dataset where none is at hand: six M3FD classes, four conditions, several image sizes, capture
runs of a few frames, and *complementary* failures. People vanish in the visible image at night, in fog and in
glare; lamps and cold vehicles vanish in infrared. Figures obtained on them say how the pipeline works, not how
a fusion method does in the world.
"""

from __future__ import annotations

from fusion_det.data.demo.render import Frame, render_frame
from fusion_det.data.demo.write import GENERATOR_VERSION, write_demo

__all__ = ["GENERATOR_VERSION", "Frame", "render_frame", "write_demo"]
