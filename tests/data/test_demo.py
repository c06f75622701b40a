"""The demo's scenes: reproducible, boxes that fit, and failures of the two cameras that complement each other."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import sys
import time
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fusion_det.data import open_dataset
from fusion_det.data.demo import Frame, render_frame, write_demo
from fusion_det.data.demo.canvas import Brush, Camera, Canvas
from fusion_det.data.demo.layout import Actor, plan_run, run_length, run_of
from fusion_det.data.demo.render import RunRenderer, paint_actors, visible_boxes
from fusion_det.data.demo.sensors import noise, soften
from fusion_det.data.pair import M3FD_CLASSES
from fusion_det.errors import DatasetError
from fusion_det.progress import NoProgress

RUNS = 20


@pytest.fixture(scope="module")
def frames() -> list[Frame]:
    """One frame of each of the first runs of seed 0."""
    firsts = np.cumsum([0, *(run_length(0, n) for n in range(RUNS - 1))])
    return [render_frame(0, int(first)) for first in firsts]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_demo(tmp_path_factory.mktemp("demo") / "demo", scenes=24, workers=2)


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def pixels(frame: Frame) -> str:
    parts = (frame.ir, frame.vi, frame.boxes.xyxy, frame.boxes.labels)
    return hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest()[:16]


# -- the same for the same seed --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seed", "index", "expected"),
    [(0, 0, "3489d07e4196b48e"), (0, 12, "4f3680e403d9fb9f"), (7, 40, "660c8df7cdb5a8cb")],
)
def test_pixels_are_the_recorded_ones(seed: int, index: int, expected: str) -> None:
    # Day, fog and night. When this fails on purpose, raise GENERATOR_VERSION and record the new ones.
    assert pixels(render_frame(seed, index)) == expected


def test_files_do_not_depend_on_the_number_of_workers_or_of_scenes(demo: Path, tmp_path: Path) -> None:
    alone = digests(write_demo(tmp_path / "demo", scenes=9, workers=1))
    together = digests(demo)
    assert len(alone) == 3 * 9 + 1
    for name, digest in alone.items():
        if name != "scenes.json":
            assert together[name] == digest


def test_other_seeds_give_other_scenes() -> None:
    assert len({pixels(render_frame(seed, 0)) for seed in range(4)}) == 4


def test_frames_of_a_run_share_the_street_and_move() -> None:
    first, second = render_frame(0, 0), render_frame(0, 1)
    assert first.run == second.run
    assert first.ir.shape == second.ir.shape
    # Same street (most pixels alike up to noise), other positions (some boxes moved).
    difference = np.abs(first.vi.astype(int) - second.vi.astype(int)).max(axis=2)
    assert np.median(difference) < 12
    assert not np.array_equal(first.boxes.xyxy, second.boxes.xyxy)


@given(seed=st.integers(0, 1000), index=st.integers(0, 200))
def test_run_of_inverts_the_lengths(seed: int, index: int) -> None:
    number, first = run_of(seed, index)
    assert first == sum(run_length(seed, n) for n in range(number))
    assert 0 <= index - first < run_length(seed, number) <= 6


# -- files -----------------------------------------------------------------------------------------------------------


def test_a_reader_finds_no_problem_and_the_same_boxes(demo: Path) -> None:
    dataset = open_dataset(demo)
    assert dataset.synthetic
    assert dataset.classes == M3FD_CLASSES
    assert [record.stem for record in dataset] == [f"{i:05d}" for i in range(24)]
    for index in (0, 7, 23):
        record, frame = dataset.records[index], render_frame(0, index)
        assert record.boxes is not None
        assert (record.condition, record.run) == (frame.condition, frame.run)
        np.testing.assert_array_equal(record.boxes.xyxy, frame.boxes.xyxy)
        np.testing.assert_array_equal(record.boxes.labels, frame.boxes.labels)
        np.testing.assert_array_equal(np.asarray(Image.open(record.ir)), frame.ir)
        np.testing.assert_array_equal(np.asarray(Image.open(record.vi)), frame.vi)


def test_a_second_call_writes_nothing_and_other_settings_write_anew(tmp_path: Path) -> None:
    out = write_demo(tmp_path / "demo", scenes=2, workers=1)
    before = (out / "Ir" / "00000.png").stat().st_mtime_ns
    write_demo(out, scenes=2, workers=1)
    assert (out / "Ir" / "00000.png").stat().st_mtime_ns == before
    write_demo(out, scenes=1, workers=1)
    assert [path.name for path in (out / "Vis").iterdir()] == ["00000.png"]
    assert json.loads((out / "scenes.json").read_text())["generator"]["scenes"] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["demo"], "a temporary folder was left behind"


class CountingProgress(NoProgress):
    """How many drawings were begun."""

    def __init__(self) -> None:
        self.started = 0

    def start(self, description: str, total: int | None, done: int = 0) -> None:
        self.started += 1


def test_two_at_once_draw_once(tmp_path: Path) -> None:
    progress = CountingProgress()
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(write_demo, tmp_path / "demo", scenes=3, workers=1, progress=progress) for _ in range(2)]
    assert [future.result() for future in both] == [tmp_path / "demo"] * 2 and progress.started == 1
    assert [path.name for path in tmp_path.iterdir()] == ["demo"]


def test_a_killed_drawing_leaves_no_workers_and_is_swept(tmp_path: Path) -> None:
    psutil = pytest.importorskip("psutil")
    program = "import sys; from pathlib import Path; from fusion_det.data.demo import write_demo\n"
    program += "write_demo(Path(sys.argv[1]), scenes=500, workers=2)"
    drawing = psutil.Popen([sys.executable, "-c", program, str(tmp_path / "demo")])
    while not list(tmp_path.glob(".demo.*/Ir/*.png")):
        assert drawing.poll() is None
        time.sleep(0.05)
    workers = drawing.children(recursive=True)
    drawing.kill()
    drawing.wait()
    assert len(workers) >= 2 and not psutil.wait_procs(workers, timeout=20)[1]
    assert list(tmp_path.glob(".demo.*.tmp"))
    write_demo(tmp_path / "demo", scenes=1)
    assert [path.name for path in tmp_path.iterdir()] == ["demo"]


def test_what_is_no_demo_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(DatasetError, match="nothing was overwritten"):
        write_demo(tmp_path / "mine", scenes=1, workers=1)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize("wrong", [{"scenes": 0}, {"seed": -1}])
def test_impossible_settings_are_refused(tmp_path: Path, wrong: dict[str, int]) -> None:
    with pytest.raises(DatasetError, match="scenes >= 1 and seed >= 0"):
        write_demo(tmp_path / "demo", **wrong)


# -- boxes -----------------------------------------------------------------------------------------------------------


def test_boxes_lie_inside_and_are_not_tiny(frames: list[Frame]) -> None:
    for frame in frames:
        height, width = frame.ir.shape
        assert frame.vi.shape == (height, width, 3)
        assert frame.ir.dtype == frame.vi.dtype == np.uint8
        xyxy = frame.boxes.xyxy
        assert np.all(xyxy >= 0) and np.all(xyxy[:, [0, 2]] <= width) and np.all(xyxy[:, [1, 3]] <= height)
        assert np.all(xyxy[:, 2:] - xyxy[:, :2] >= 4)


STANDING = [
    Actor("People", -1.0, 9.0, 11, view="left", variant="walker"),
    Actor("People", 1.0, 12.0, 12, view="front", variant="walker"),
    Actor("Car", 2.0, 9.0, 13, view="rear"),
    Actor("Car", -2.0, 10.0, 14, view="front"),
    Actor("Car", 0.0, 11.0, 15, view="right"),
    Actor("Bus", 2.5, 16.0, 16, view="front"),
    Actor("Truck", -2.5, 16.0, 17, view="rear"),
    Actor("Motorcycle", 0.5, 8.0, 18, view="left"),
    Actor("Motorcycle", 0.5, 8.0, 19, view="front"),
    Actor("Lamp", -5.0, 18.0, 20, state="cold", variant="traffic light"),
    Actor("Lamp", 5.0, 18.0, 21, state="cold", variant="lantern"),
]


@pytest.mark.parametrize("actor", STANDING, ids=lambda a: f"{a.kind}-{a.view}-{a.variant}")
def test_the_box_of_a_lone_object_is_the_extent_of_what_it_changes(actor: Actor) -> None:
    run = dataclasses.replace(plan_run(0, 0, 0), actors=(actor,))
    empty = dataclasses.replace(run, actors=())
    canvas, actors, areas = paint_actors(run, 0)
    boxes, shown = visible_boxes(canvas, actors, areas)
    assert shown == [0]
    assert M3FD_CLASSES[boxes.labels[0]] == actor.kind
    # The shadow and the pole belong to no object.
    owned = canvas.owners() == 0
    rows, columns = np.nonzero(owned)
    extent = [columns.min() // 2, rows.min() // 2, columns.max() // 2 + 1, rows.max() // 2 + 1]
    assert boxes.xyxy[0].tolist() == extent
    # Independently, in the images: outside the box (and its shadow, its pole and the blur) nothing changes but noise,
    # which is the same in both; inside it the object reaches every side.
    with_it, without = RunRenderer(0, run).frame(0), RunRenderer(0, empty).frame(0)
    changed = np.abs(with_it.vi.astype(int) - without.vi.astype(int)).max(axis=2) > 24
    x0, y0, x1, y1 = boxes.xyxy[0].astype(int)
    below = np.zeros_like(changed)
    below[y1 - max(4, (y1 - y0) // 3) :, :] = True  # shadows and poles
    outside = changed & ~below
    outside[max(y0 - 1, 0) : y1 + 1, max(x0 - 1, 0) : x1 + 1] = False
    assert not outside.any()
    rows, columns = np.nonzero(changed[y0:y1, x0:x1])
    assert columns.min() <= 3 and rows.min() <= 3 and columns.max() >= x1 - x0 - 4


def test_hidden_objects_are_not_annotated_and_half_hidden_ones_shrink() -> None:
    run = plan_run(0, 0, 0)

    def boxes(*actors: Actor) -> dict[str, list[float]]:
        canvas, painted, areas = paint_actors(dataclasses.replace(run, actors=actors), 0)
        found, _ = visible_boxes(canvas, painted, areas)
        names = [M3FD_CLASSES[label] for label in found.labels]
        return dict(zip(names, found.xyxy.tolist(), strict=True))

    bus = Actor("Bus", 2.0, 10.0, 16, view="rear")
    behind = Actor("People", 3.2, 16.0, 11, view="front", variant="walker")
    assert set(boxes(behind, bus)) == {"Bus"}
    # The bus' right edge, at x = 2.0 + 1.25 and z = 10, covers up to x = 5.2 at z = 16: half of this person.
    beside = dataclasses.replace(behind, x=5.2)
    alone, partly = boxes(beside)["People"], boxes(beside, bus)["People"]
    assert abs(partly[0] - boxes(bus)["Bus"][2]) <= 1
    assert alone[0] + 1 < partly[0] < alone[2] - 1
    assert partly[2] == alone[2]


# -- what the two cameras see ----------------------------------------------------------------------------------------


def contrast(image: np.ndarray, mask: np.ndarray, box: np.ndarray) -> float:
    """|mean of the object − mean of a 3-pixel ring around its box|, grey levels."""
    x0, y0, x1, y1 = box.astype(int)
    ring = np.zeros(mask.shape, bool)
    ring[max(0, y0 - 3) : y1 + 3, max(0, x0 - 3) : x1 + 3] = True
    ring[y0:y1, x0:x1] = False
    return abs(float(image[mask].mean()) - float(image[ring].mean()))


@pytest.fixture(scope="module")
def contrasts() -> dict[tuple[str, str, str], np.ndarray]:
    """(class, climate, state) → (n, 2): contrast in the visible and in the infrared image."""
    found: dict[tuple[str, str, str], list[tuple[float, float]]] = defaultdict(list)
    first = 0
    for number in range(RUNS):
        run = plan_run(0, number, first)
        first += run.frames
        frame = RunRenderer(0, run).frame(0)
        canvas, actors, areas = paint_actors(run, 0)
        boxes, shown = visible_boxes(canvas, actors, areas)
        owners = canvas.owners()[::2, ::2]
        grey = frame.vi.astype(float) @ [0.299, 0.587, 0.114]
        climate = "fog" if run.climate.fog else "glare" if run.climate.glare else run.climate.condition
        for box, label, state, owner in zip(boxes.xyxy, boxes.labels, frame.states, shown, strict=True):
            mask = owners == owner
            if mask.sum() >= 12:
                pair = contrast(grey, mask, box), contrast(frame.ir.astype(float), mask, box)
                found[M3FD_CLASSES[label], climate, state].append(pair)
    return {key: np.array(value) for key, value in found.items()}


def gather(contrasts: dict[tuple[str, str, str], np.ndarray], *wanted: tuple[str, str, str]) -> np.ndarray:
    """Rows of all keys that match one of ``wanted``; "*" matches anything."""
    rows = [
        value
        for key, value in contrasts.items()
        if any(all(w in ("*", k) for k, w in zip(key, pattern, strict=True)) for pattern in wanted)
    ]
    return np.concatenate(rows)


def test_people_vanish_in_the_visible_night_and_in_fog_but_not_in_infrared(
    contrasts: dict[tuple[str, str, str], np.ndarray],
) -> None:
    people = gather(contrasts, ("People", "night", "*"), ("People", "fog", "*"))
    assert len(people) >= 10
    visible, infrared = np.median(people, axis=0)
    assert infrared > 40
    assert visible < 0.25 * infrared


def test_lamps_and_cold_vehicles_vanish_in_infrared_but_not_in_visible(
    contrasts: dict[tuple[str, str, str], np.ndarray],
) -> None:
    for name, factor in (("Lamp", 0.25), ("Car", 0.6)):
        visible, infrared = np.median(gather(contrasts, (name, "*", "cold")), axis=0)
        assert visible > 10
        assert infrared < factor * visible


def test_each_camera_misses_much_and_both_together_little(
    contrasts: dict[tuple[str, str, str], np.ndarray],
) -> None:
    faint = gather(contrasts, ("*", "*", "*")) < 8.0
    visible, infrared = faint.mean(axis=0)
    assert 0.2 < visible < 0.6
    assert 0.2 < infrared < 0.6
    assert faint.all(axis=1).mean() < 0.6 * min(visible, infrared)


def test_all_classes_conditions_and_several_sizes_occur(frames: list[Frame]) -> None:
    classes = Counter(M3FD_CLASSES[label] for frame in frames for label in frame.boxes.labels)
    assert set(classes) == set(M3FD_CLASSES)
    assert min(classes.values()) >= 5
    assert {frame.condition for frame in frames[:10]} == {"day", "night", "overcast", "challenge"}
    sizes = Counter(frame.ir.shape for frame in frames)
    assert sizes.most_common(1)[0][0] == (240, 320)
    assert len(sizes) >= 3


# -- drawing ---------------------------------------------------------------------------------------------------------

CAMERA = Camera(64, 48, focal=60.0, centre_x=32.0, horizon=20.0, mount=2.0)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(-10, 70), st.integers(-10, 60)), min_size=3, max_size=6))
def test_polygons_agree_with_an_independent_point_test(points: list[tuple[int, int]]) -> None:
    # Corners at integers and sub-pixel centres at halves: no centre lies in a corner's row.
    canvas = Canvas(CAMERA)
    canvas.polygon([(float(x), float(y)) for x, y in points], Brush((1.0, 1.0, 1.0), 0.0, 1.0))
    for y in range(0, 48, 5):
        for x in range(0, 64, 5):
            crossings, near = 0, False
            for (ax, ay), (bx, by) in zip(points, [*points[1:], points[0]], strict=True):
                if min(ay, by) < y + 0.5 < max(ay, by):
                    at = ax + (y + 0.5 - ay) * (bx - ax) / (by - ay)
                    near |= abs(at - x - 0.5) < 1e-9
                    crossings += at > x + 0.5
            assert near or bool(canvas.ids[y, x]) == bool(crossings % 2)


def test_projection_of_known_points() -> None:
    assert CAMERA.project((0.0, 2.0, 5.0)) == (32.0, 20.0)  # at the camera's height: on the horizon
    assert CAMERA.project((1.0, 0.0, 6.0)) == (42.0, 40.0)


def test_soften_is_three_box_filters() -> None:
    plane = np.random.default_rng(0).random((40, 50))
    expected = plane
    for _ in range(3):
        expected = cv2.blur(expected, (7, 7), borderType=cv2.BORDER_REPLICATE)
    np.testing.assert_allclose(soften(plane, 3)[12:-12, 12:-12], expected[12:-12, 12:-12], atol=2e-4)


def test_noise_has_the_asked_deviation() -> None:
    sample = noise(np.random.default_rng(0), (200, 200), 5.0)
    assert abs(sample.mean()) < 0.15
    assert abs(sample.std() - 5.0) < 0.1
