"""From a planned capture run to frames: two images and the boxes of what can be seen."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from fusion_det.data.demo.backdrop import Backdrop, draw_backdrop, illumination
from fusion_det.data.demo.canvas import SUPERSAMPLING, Canvas
from fusion_det.data.demo.figures import draw_lamp, draw_motorcycle, draw_person, draw_shadow, draw_tree
from fusion_det.data.demo.layout import LENGTHS, Actor, Run, generator, plan_run, run_of
from fusion_det.data.demo.sensors import Radiance, infrared_image, shrink, visible_image
from fusion_det.data.demo.vehicles import draw_vehicle
from fusion_det.data.pair import M3FD_CLASSES, Boxes

NEAREST = 4.0
"""Metres: what comes closer has driven past the camera."""
LEAST_VISIBLE = 0.25
"""Share of an object that has to be seen for it to be annotated."""
LEAST_SIDE = 4
"""Pixels: smaller boxes are not annotated."""


@dataclass(frozen=True, eq=False)
class Frame:
    """A rendered pair: ir (H, W) and vi (H, W, 3) uint8, the boxes of visible extents, and what each box shows.

    states: per box "running", "warm" or "cold" (see layout.State). condition, run: as in PairRecord.
    """

    ir: np.ndarray
    vi: np.ndarray
    boxes: Boxes
    states: tuple[str, ...]
    condition: str
    run: str


@dataclass(frozen=True, eq=False)
class RunRenderer:
    """Renders the frames of one capture run; the empty street is drawn once."""

    seed: int
    run: Run

    @cached_property
    def backdrop(self) -> Backdrop:
        return draw_backdrop(self.run)

    def frame(self, number: int) -> Frame:
        """Render frame ``number`` (0-based) of the run."""
        canvas, actors, areas = paint_actors(self.run, number)
        boxes, shown = visible_boxes(canvas, actors, areas)
        radiance = compose(self.backdrop, canvas)
        run, climate = self.run, self.run.climate
        vi = visible_image(
            radiance, climate, generator(self.seed, run.number, 2), generator(self.seed, run.number, 3, number)
        )
        ir = infrared_image(
            radiance, climate, generator(self.seed, run.number, 4), generator(self.seed, run.number, 5, number)
        )
        return Frame(ir, vi, boxes, tuple(actors[i].state for i in shown), climate.condition, run.name)


def render_frame(seed: int, index: int) -> Frame:
    """Frame ``index`` (0-based) of the demo with this seed; does not depend on how many frames are made."""
    number, first = run_of(seed, index)
    return RunRenderer(seed, plan_run(seed, number, first)).frame(index - first)


def paint_actors(run: Run, number: int) -> tuple[Canvas, list[Actor], np.ndarray]:
    """Paint what stands in the street, far to near.

    Returns the canvas, the actors (an object's owner number is its index here), and the sub-pixels each would
    cover inside the image if nothing stood before it.
    """
    canvas = Canvas(run.camera)
    starts = {actor.look: (actor.x, actor.z) for actor in run.actors}
    actors = [actor.at(number) for actor in run.actors]
    actors = sorted((a for a in actors if NEAREST <= a.z <= 60.0), key=lambda a: -a.z)
    areas = np.zeros(len(actors), np.int64)
    for owner, actor in enumerate(actors):
        first = len(canvas.brushes)
        light = float(illumination(run.climate, run.street, actor.x, actor.z))
        if actor.kind == "Tree":
            draw_tree(canvas, actor, run.climate, light)
            continue
        if actor.kind == "Lamp":
            draw_lamp(canvas, actor, owner, run.first + number, run.climate, light)
        elif actor.kind == "People":
            if actor.variant != "rider":
                draw_shadow(canvas, actor, run.climate, light, 0.32, 0.5)
            draw_person(canvas, actor, owner, number, run.climate, light, starts[actor.look])
        elif actor.kind == "Motorcycle":
            side = actor.view in ("left", "right")
            draw_shadow(canvas, actor, run.climate, light, 1.0 if side else 0.35, 0.4 if side else 1.6)
            draw_motorcycle(canvas, actor, owner, run.climate, light)
        else:
            side = actor.view in ("left", "right")
            long, wide = LENGTHS[actor.kind], 0.95 if actor.kind == "Car" else 1.3
            draw_shadow(canvas, actor, run.climate, light, long * 0.52 if side else wide, 1.5 if side else long)
            draw_vehicle(canvas, actor, owner, run.climate, light)
        areas[owner] = canvas.count(owner, first)
    return canvas, actors, areas


def visible_boxes(canvas: Canvas, actors: list[Actor], areas: np.ndarray) -> tuple[Boxes, list[int]]:
    """Boxes around what is seen of each object, in pixels, and the actors they belong to (near to far)."""
    owners = canvas.owners()
    corners, labels, shown = [], [], []
    for owner in range(len(actors) - 1, -1, -1):
        if not areas[owner]:
            continue
        rows, columns = np.nonzero(owners == owner)
        if len(rows) < LEAST_VISIBLE * areas[owner]:
            continue
        box = [
            columns.min() // SUPERSAMPLING,
            rows.min() // SUPERSAMPLING,
            columns.max() // SUPERSAMPLING + 1,
            rows.max() // SUPERSAMPLING + 1,
        ]
        if box[2] - box[0] < LEAST_SIDE or box[3] - box[1] < LEAST_SIDE:
            continue
        corners.append(box)
        labels.append(M3FD_CLASSES.index(actors[owner].kind))
        shown.append(owner)
    return Boxes(np.array(corners, np.float64).reshape(-1, 4), np.array(labels, np.int64)), shown


def compose(backdrop: Backdrop, canvas: Canvas) -> Radiance:
    """Put the painted brushes before the backdrop and shrink to pixels."""
    table = canvas.brushes
    painted = canvas.ids > 0
    ids = canvas.ids[painted]
    colour, glow = backdrop.colour.copy(), backdrop.glow.copy()
    heat, depth = backdrop.heat.copy(), backdrop.depth.copy()
    colour[painted] = np.array([[c * b.light for c in b.colour] for b in table], np.float32)[ids]
    glow[painted] = np.array([b.glow for b in table], np.float32)[ids]
    blend = np.array([b.blend for b in table], np.float32)[ids]
    heat[painted] = blend * heat[painted] + np.array([(1 - b.blend) * b.heat for b in table], np.float32)[ids]
    depth[painted] = np.array([b.depth for b in table], np.float32)[ids]
    return Radiance(shrink(colour), shrink(glow), shrink(heat), shrink(depth))
