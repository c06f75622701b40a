"""What is drawn and which images are chosen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fake import fake_results
from PIL import Image

from fusion_det.pipeline.results import ExperimentResults
from fusion_det.report import build_report
from fusion_det.report.drawing import FALSE, HIT, MISS, Mark
from fusion_det.report.overlays import draw_panel, panel_marks, zoom_regions
from fusion_det.report.scenes import (
    Objects,
    Panel,
    Scene,
    choose_scenes,
    load_detections,
    load_truth,
    most_telling,
)
from fusion_det.report.scenes import _panel as judge
from fusion_det.report.summary import summarise


def objects(*rows: tuple[list[float], int, float]) -> Objects:
    return Objects(
        np.array([r[0] for r in rows], float).reshape(-1, 4),
        np.array([r[1] for r in rows], np.int64),
        np.array([r[2] for r in rows], float),
    )


TRUTH = objects(([0, 0, 10, 10], 0, 1), ([100, 100, 120, 120], 1, 1))


def panel_of(found: Objects, results: ExperimentResults) -> Panel:
    return judge(summarise(results).methods[0], 0, TRUTH, found)


def test_hits_false_positives_and_misses_by_hand(results: ExperimentResults):
    found = objects(
        ([0, 0, 10, 9], 0, 0.6),  # overlaps the first object, but a surer detection takes it
        ([0, 0, 10, 10], 0, 0.9),  # hit
        ([100, 100, 120, 120], 0, 0.8),  # right place, wrong class
        ([0, 0, 4, 4], 0, 0.5),  # too small an overlap
    )
    panel = panel_of(found, results)
    assert panel.matched.tolist() == [-1, 0, -1, -1]
    assert (panel.hits, panel.false_positives) == (1, 3)
    assert panel.f1 == pytest.approx(2 * 1 / (4 + 2))
    marks = panel_marks(panel, TRUTH, ("People", "Car"))
    assert [m.style for m in marks] == [MISS, FALSE, FALSE, FALSE, HIT]
    assert [m.text for m in marks] == [
        "missed Car", "false People .60", "false People .80", "false People .50", "People .90",
    ]  # fmt: skip


def test_an_empty_image_left_empty_is_perfect(results: ExperimentResults):
    panel = judge(summarise(results).methods[0], 0, objects(), objects())
    assert panel.f1 == 1.0


def test_styles_differ_in_colour_and_in_line():
    styles = (HIT, FALSE, MISS)
    assert len({s.color for s in styles}) == len({s.dash for s in styles}) == 3
    # Told apart in grey too: Rec. 601 luma differs by at least 25 of 255.
    luma = sorted(0.299 * s.color[0] + 0.587 * s.color[1] + 0.114 * s.color[2] for s in styles)
    assert min(np.diff(luma)) > 25


def test_most_telling_prefers_other_conditions_and_other_scenes():
    spread = {"a00001": 0.4, "a00005": 0.39, "a00100": 0.2, "a00200": 0.19, "a00300": 0.0}
    conditions = {"a00001": "night", "a00005": "night", "a00100": "night", "a00200": "day"}
    assert most_telling(spread, conditions, 1) == ["a00001"]
    assert most_telling(spread, conditions, 2) == ["a00001", "a00200"]
    assert most_telling(spread, conditions, 9) == ["a00001", "a00200", "a00100", "a00005"]


def test_fixed_ids_come_first_and_unknown_ones_are_named(results: ExperimentResults):
    asked = results.model_copy(
        update={"report": {"overlay_ids": ["99999", "00015"], "disagreement_rows": 2, "confidence": 0.25}}
    )
    chosen = choose_scenes(asked, summarise(asked))
    assert "99999" in chosen.note
    scenes = chosen.scenes
    assert [s.why for s in scenes] == ["chosen in the experiment", "methods disagree", "methods disagree"]
    assert scenes[0].stem == "00015"
    assert [p.method.info.name for p in scenes[0].panels] == ["ir", "vi", "mean", "max", "gff"]
    assert {p.seed for p in scenes[0].panels} == {0}


def test_chosen_images_outside_the_test_part_are_shown_and_count_nowhere(tmp_path: Path):
    parts = {"00217": "train", "00219": "val"}
    results = fake_results(tmp_path / "with", images=8, replicates=20, extra=parts)
    alone = fake_results(tmp_path / "without", images=8, replicates=20)
    scenes = choose_scenes(results, summarise(results)).scenes
    assert [(s.stem, s.part) for s in scenes[:3]] == [("00217", "train"), ("00219", "val"), ("00015", "test")]
    assert all(s.part == "test" and s.why == "methods disagree" for s in scenes[3:])
    assert len(scenes) == 6
    assert len(scenes[0].truth) > 0
    assert scenes[0].condition == "day"
    assert len(scenes[0].panels) == 5
    index = build_report(results, tmp_path / "out")
    text = index.read_text(encoding="utf-8")
    assert "Training image 00217, day (chosen in the experiment): the detector has seen it" in text
    assert "Validation image 00219" in text
    assert "[training image]" in text
    assert (tmp_path / "out/overlays/00217.jpg").is_file()
    assert [m.mean for m in summarise(results).methods[:1]] == [m.mean for m in summarise(alone).methods[:1]]


def test_a_chosen_image_without_detections_is_named(results: ExperimentResults):
    report = results.report | {"overlay_ids": ["00217"], "overlay_parts": {"00217": "train"}}
    asked = results.model_copy(update={"report": report})
    chosen = choose_scenes(asked, summarise(asked))
    assert "no detections of 00217" in chosen.note
    assert all(s.why == "methods disagree" for s in chosen.scenes)


def test_loaded_boxes_are_corners_and_thresholded(results: ExperimentResults):
    truth = load_truth(results.ground_truth["test"])
    assert len(truth) == results.split.counts["test"]
    assert all((o.xyxy[:, 2:] > o.xyxy[:, :2]).all() and (o.labels >= 0).all() for o in truth.values())
    run = next(r for r in results.runs if r.status == "ok")
    found = load_detections(run.detections["test"], 0.5)
    assert all((o.scores >= 0.5).all() for o in found.values())


def test_zoom_goes_where_methods_are_divided(results: ExperimentResults):
    method = summarise(results).methods[0]
    both = objects(([0, 0, 10, 10], 0, 0.9), ([100, 100, 120, 120], 1, 0.9))
    first = objects(([0, 0, 10, 10], 0, 0.9))
    scene = Scene("x", None, "", TRUTH, (judge(method, 0, TRUTH, both), judge(method, 0, TRUTH, first)))
    assert scene.finders().tolist() == [2, 1]
    x0, y0, x1, y1 = zoom_regions(scene, (320, 240))[0]
    assert x0 <= 100 and x1 >= 120 and y0 <= 100 and y1 >= 120
    assert (x1 - x0) / (y1 - y0) == pytest.approx(4 / 3, rel=0.05)


def test_a_panel_is_enlarged_by_a_whole_factor_and_boxes_lie_where_they_should(tmp_path: Path):
    path = tmp_path / "a.png"
    Image.new("L", (320, 240), 90).save(path)
    image = draw_panel(path, [Mark((100, 100, 200, 180), HIT, "Car .90")], [])
    assert image.size == (960, 720)
    assert image.getpixel((450, 301)) == HIT.color
    assert image.getpixel((450, 420)) == (90, 90, 90)


def test_a_broken_panel_does_not_lose_the_report(results: ExperimentResults, tmp_path: Path):
    moved = tuple(m.model_copy(update={"images": tmp_path / "gone"} if m.images else {}) for m in results.methods)
    index = build_report(results.model_copy(update={"methods": moved}), tmp_path / "out")
    text = index.read_text(encoding="utf-8")
    assert "no longer in the store" in text
    assert not list((tmp_path / "out" / "overlays").glob("**/*.webp"))
