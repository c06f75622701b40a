"""AP against pycocotools, against ultralytics' own code, and against cases small enough to do by hand."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion_det.detection.average_precision import (
    IOU_THRESHOLDS,
    ImageBoxes,
    bootstrap_map50,
    class_ap,
    match_images,
    precision_envelope,
)
from fusion_det.detection.evaluate import evaluate
from fusion_det.detection.matching import box_iou, match_greedy
from fusion_det.errors import FusionDetError

CLASSES = ("People", "Car", "Bus")


def random_scene(
    seed: int, images: int = 12, noise: float = 6.0, distinct: bool = False
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """COCO ground truth and detections: jittered objects, wrong classes, false alarms, misses, tied scores."""
    rng = np.random.default_rng(seed)
    truth: dict[str, Any] = {
        "images": [
            {
                "id": f"{i:05d}",
                "file_name": f"{i:05d}.png",
                "width": 320,
                "height": 240,
                "condition": ["day", "night"][i % 2],
            }
            for i in range(images)
        ],
        "categories": [{"id": k + 1, "name": n} for k, n in enumerate(CLASSES)],
        "annotations": [],
    }
    found = []
    for image in truth["images"]:
        for _ in range(rng.integers(0, 6)):
            x, y = rng.uniform(0, 200, 2)
            w, h = rng.uniform(6, 110, 2)
            label = int(rng.integers(1, 3))  # the third class never occurs: it must not count
            box = [float(x), float(y), float(w), float(h)]
            truth["annotations"].append(
                {
                    "id": len(truth["annotations"]) + 1,
                    "image_id": image["id"],
                    "category_id": label,
                    "bbox": box,
                    "area": float(w * h),
                    "iscrowd": 0,
                }
            )
            for _ in range(rng.integers(0, 4)):
                jitter = rng.normal(0, noise, 4)
                guess = label if rng.random() < 0.8 else int(rng.integers(1, 4))
                found.append(
                    {
                        "image_id": image["id"],
                        "category_id": guess,
                        "bbox": [x + jitter[0], y + jitter[1], max(2.0, w + jitter[2]), max(2.0, h + jitter[3])],
                        "score": float(rng.random() if distinct else np.round(rng.random(), 2)),
                    }
                )
    return truth, found


def pycocotools_stats(truth: dict[str, Any], found: list[dict[str, Any]]) -> np.ndarray:
    coco_module = pytest.importorskip("pycocotools.coco")
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        coco = coco_module.COCO()
        coco.dataset = {**truth, "info": {}}
        coco.createIndex()
        ours = COCOeval(coco, coco.loadRes([dict(d) for d in found]), "bbox")
        ours.evaluate()
        ours.accumulate()
        ours.summarize()
    return ours.stats


@pytest.mark.parametrize("seed", range(6))
def test_coco_figures_agree_with_pycocotools(seed: int) -> None:
    truth, found = random_scene(seed)
    stats = pycocotools_stats(truth, found)
    ours = evaluate(truth, found, replicates=0)["coco"]
    expected = dict(zip(("AP50_95", "AP50", "AP75", "AP_small", "AP_medium", "AP_large"), stats[:6], strict=True))
    for name, value in expected.items():
        assert ours[name] == (None if value == -1 else pytest.approx(value, abs=1e-9)), name


@pytest.mark.parametrize("seed", range(6))
def test_yolo_map_agrees_with_ultralytics_on_the_same_detections(seed: int) -> None:
    """ultralytics' own matching and AP code, fed with the same boxes."""
    torch = pytest.importorskip("torch")
    from ultralytics.models.yolo.detect import DetectionValidator
    from ultralytics.utils.metrics import ap_per_class

    truth, found = random_scene(seed, distinct=True)
    validator = DetectionValidator(args={"task": "detect", "mode": "val"})
    correct, scores, labels, targets = [], [], [], []
    for image in truth["images"]:
        gt = [a for a in truth["annotations"] if a["image_id"] == image["id"]]
        dt = sorted((d for d in found if d["image_id"] == image["id"]), key=lambda d: -d["score"])
        g = np.array([a["bbox"] for a in gt]).reshape(-1, 4)
        d = np.array([x["bbox"] for x in dt]).reshape(-1, 4)
        g[:, 2:] += g[:, :2]
        d[:, 2:] += d[:, :2]
        targets += [a["category_id"] - 1 for a in gt]
        if not dt:
            continue
        scores += [x["score"] for x in dt]
        labels += [x["category_id"] - 1 for x in dt]
        if not gt:
            correct.append(np.zeros((len(dt), 10), bool))
            continue
        correct.append(
            validator.match_predictions(
                torch.tensor([x["category_id"] for x in dt]),
                torch.tensor([a["category_id"] for a in gt]),
                torch.from_numpy(box_iou(g, d)),
            ).numpy()
        )
    order = np.argsort(-np.array(scores), kind="stable")  # ties in the order of the images, as ours
    theirs = ap_per_class(
        np.concatenate(correct)[order], np.array(scores)[order], np.array(labels)[order], np.array(targets)
    )[5]
    ours = evaluate(truth, found, replicates=0)
    # ap_per_class sorts once more, unstably: scores that differ leave it nothing to choose
    assert ours["mAP50"] == pytest.approx(theirs[:, 0].mean(), abs=1e-6)
    assert ours["mAP50_95"] == pytest.approx(theirs.mean(), abs=1e-6)


def test_ap_by_hand() -> None:
    # Two objects; three detections by falling score: hit, false alarm, hit. Precision 1, 1/2, 2/3 at recall 1/2, 1/2, 1.
    # Envelope: 1 up to recall 0.5, then linear interpolation from 1 at 0.5 … 2/3 held to 1 (as numpy.interp joins the points).
    truth = [ImageBoxes(np.array([[0, 0, 10, 10], [50, 50, 60, 60]]), np.array([0, 0]))]
    found = [
        ImageBoxes(
            np.array([[0, 0, 10, 10], [80, 80, 90, 90], [50, 50, 60, 60]]),
            np.array([0, 0, 0]),
            np.array([0.9, 0.8, 0.7]),
        )
    ]
    envelope = precision_envelope(np.array([0.5, 0.5, 1.0]), np.array([1.0, 0.5, 2 / 3]))
    assert envelope[:50] == pytest.approx(1.0)
    assert envelope[51:100] == pytest.approx(2 / 3)
    ap = class_ap(match_images(truth, found, 2))
    assert np.isnan(ap[1]), "a class without objects has no AP"
    # 49 steps at 1, one falling from 1 to 2/3, 49 at 2/3, and the last falling from 2/3 to the sentinel 0.
    assert ap[0] == pytest.approx(0.01 * (49 + (1 + 2 / 3) / 2 + 49 * 2 / 3 + (2 / 3) / 2), abs=1e-9)


def test_one_object_is_found_once_and_by_the_surest() -> None:
    gt = np.array([[0, 0, 10, 10]])
    boxes = np.array([[0, 0, 10, 9], [0, 0, 10, 10], [0, 0, 10, 10]])
    got = match_greedy(gt, np.array([1]), boxes, np.array([1, 1, 0]), np.array([0.9, 0.8, 0.99]))
    assert got.tolist() == [0, -1, -1]


def test_no_detections_is_zero_and_no_objects_is_undefined() -> None:
    truth, found = random_scene(0)
    nothing = evaluate(truth, [], replicates=5)
    assert nothing["mAP50"] == 0.0
    assert nothing["coco"]["AP50"] == 0.0
    empty = {**truth, "annotations": []}
    assert evaluate(empty, found)["mAP50"] is None
    assert evaluate(empty, found)["coco"]["AP50"] is None


def test_detection_of_another_split_is_refused() -> None:
    truth, found = random_scene(0)
    with pytest.raises(FusionDetError, match="99999"):
        evaluate(truth, [{**found[0], "image_id": "99999"}])


@given(seed=st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_perfect_detections_score_one_and_iou_is_symmetric(seed: int) -> None:
    truth, _ = random_scene(seed, images=4)
    perfect = [
        {"image_id": a["image_id"], "category_id": a["category_id"], "bbox": a["bbox"], "score": 0.9}
        for a in truth["annotations"]
    ]
    if perfect:
        result = evaluate(truth, perfect, replicates=0)
        # 0.995: ultralytics' last interpolation step falls to the sentinel at recall 1 on its way.
        assert result["mAP50"] >= 0.99
        assert result["coco"]["AP50_95"] == pytest.approx(1.0)
    boxes = np.random.default_rng(seed).uniform(0, 50, (5, 4))
    boxes[:, 2:] += boxes[:, :2]
    iou = box_iou(boxes, boxes)
    assert np.allclose(iou, iou.T)
    assert np.allclose(np.diag(iou), 1)


def test_bootstrap_weights_equal_repeating_the_images() -> None:
    """A replicate is the mAP50 of the test set with images repeated as drawn: computed here by really repeating them."""
    rng = np.random.default_rng(3)

    def image(k: int) -> tuple[ImageBoxes, ImageBoxes]:
        gt = rng.uniform(0, 80, (3, 4))
        gt[:, 2:] = gt[:, :2] + rng.uniform(10, 30, (3, 2))
        labels = rng.integers(0, 2, 3)
        return ImageBoxes(gt, labels), ImageBoxes(gt + rng.normal(0, 4, (3, 4)), labels, rng.random(3))

    pairs = [image(k) for k in range(6)]
    matches = match_images([p[0] for p in pairs], [p[1] for p in pairs], 2)
    weight = np.array([2, 0, 1, 3, 0, 1])
    repeated = [p for p, w in zip(pairs, weight, strict=True) for _ in range(w)]
    again = match_images([p[0] for p in repeated], [p[1] for p in repeated], 2)
    assert class_ap(matches, 0, weight.astype(float)) == pytest.approx(class_ap(again), abs=1e-3)
    assert len(IOU_THRESHOLDS) == 10


def test_a_class_that_a_replicate_lacks_does_not_make_map_jump() -> None:
    """Nine images with a car that is found and one with a bus that is not: mAP50 is a half, in every replicate."""
    box = np.array([[0.0, 0.0, 10.0, 10.0]])
    car, bus = ImageBoxes(box, np.array([0])), ImageBoxes(box, np.array([1]))
    found = ImageBoxes(box, np.array([0]), np.array([0.9]))
    matches = match_images([car] * 9 + [bus], [found] * 9 + [ImageBoxes(box[:0], np.zeros(0, int), np.zeros(0))], 2)
    replicates = bootstrap_map50(matches, [str(i) for i in range(10)], replicates=50)
    assert replicates == pytest.approx(class_ap(matches).mean(), abs=1e-9)


def test_bootstrap_is_paired_and_grouped() -> None:
    truth, found = random_scene(1, images=16)
    a = evaluate(truth, found, replicates=50)["bootstrap"]
    b = evaluate(truth, found, replicates=50)["bootstrap"]
    assert a == b
    assert a["unit"] == "image"
    for i, item in enumerate(truth["images"]):
        item["run"] = f"r{i // 4}"
    grouped = evaluate(truth, found, replicates=200)["bootstrap"]
    assert grouped["unit"] == "run"
    worse = [{**d, "score": d["score"]} for d in found[::2]]
    assert len(evaluate(truth, worse, replicates=200)["bootstrap"]["mAP50"]) == 200
    # Four groups of four differ more from each other than sixteen single images average out: wider spread.
    assert np.std(grouped["mAP50"]) > 0
    assert len(set(np.round(grouped["mAP50"], 9))) <= 35, "four groups can be drawn in 35 ways only"
    truth["images"][0]["run"] = None
    mixed = evaluate(truth, found, replicates=3)["bootstrap"]
    assert (mixed["unit"], mixed["groups"]) == ("run or image", 5), "four runs, and one image whose run is unknown"
    assert bootstrap_map50(_matches(truth, found), ["x"] * 16, replicates=3) == pytest.approx(
        evaluate(truth, found, replicates=0)["mAP50"]
    )


def _matches(truth: dict[str, Any], found: list[dict[str, Any]]) -> Any:
    from fusion_det.detection.evaluate import _by_image

    return match_images(*_by_image(truth, found), len(CLASSES))
