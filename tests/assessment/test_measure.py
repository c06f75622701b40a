"""Saved images measured: what is read, what is refused, what a kill costs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from fusion_det.assessment import measure
from fusion_det.assessment.images import check_fused, check_sources, grey_levels, read_pixels, saved_as
from fusion_det.assessment.measure import Protocol, Triple, load_scorers, measure_image, measure_images, write_values
from fusion_det.data.pair import PairRecord
from fusion_det.errors import QualityError
from fusion_det.quality import FORMULAS, evaluate

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "metrics" / "golden.json").read_text())
FOUR = Protocol(("SF", "AG", "VIF", "Qabf"))


def save(file: Path, seed: int, size: tuple[int, int] = (70, 52), mode: str = "L") -> Path:
    rng = np.random.default_rng(seed)
    shape = (size[1], size[0], 3) if mode == "RGB" else (size[1], size[0])
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8), mode).save(file)
    return file


@pytest.fixture
def triples(tmp_path: Path) -> list[Triple]:
    return [
        Triple(
            f"{i}",
            save(tmp_path / "ir" / f"{i}.png", i),
            save(tmp_path / "vi" / f"{i}.png", 10 + i, mode="RGB"),
            save(tmp_path / "fused" / f"{i}.png", 20 + i, mode="RGB"),
        )
        for i in range(6)
    ]


def record(triple: Triple, size: tuple[int, int] = (70, 52)) -> PairRecord:
    return PairRecord(triple.stem, triple.ir, triple.vi, *size)


def test_values_are_those_of_the_formulas_on_the_luma(triples: list[Triple], tmp_path: Path) -> None:
    measured = measure_images(triples, Protocol(FORMULAS), tmp_path / "journal", workers=3)
    assert list(measured) == [t.stem for t in triples]
    grey = [
        torch.from_numpy(np.asarray(Image.open(f).convert("L"))[None, None].copy())
        for f in (triples[2].ir, triples[2].vi, triples[2].fused)
    ]
    small = [name for name in FORMULAS if name != "MS_SSIM"]
    expected = evaluate(*grey, metrics=small)
    for name in small:  # Pillow's luma is rounded otherwise in very few pixels
        assert measured["2"][name] == pytest.approx(float(expected[name]), rel=1e-3), name
    assert measured["2"]["MS_SSIM"] is None, "52 pixels are too few"


def test_the_number_of_threads_is_left_as_it_was(triples: list[Triple], tmp_path: Path) -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        measure_images(triples, Protocol(("SF",)), tmp_path / "journal", workers=2)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_luma_of_a_colour_file_is_that_of_the_recorded_conversion(tmp_path: Path) -> None:
    corners = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [10, 20, 30]]], np.uint8)
    assert grey_levels(corners).tolist() == [[76, 150], [29, 18]]  # 76.245, 149.685, 29.07, 18.15
    equal = np.arange(256, dtype=np.uint8)[:, None].repeat(3, axis=1)[None]
    assert (grey_levels(equal)[0] == np.arange(256)).all()


def test_recorded_values_from_files(shared_data: Path) -> None:
    folder = shared_data.parent / "reference" / "metrics"
    if not folder.is_dir():
        pytest.skip(f"the recorded values' images are not at {folder}")
    triple = Triple("t1", *(folder / f"t1_mean_{role}.png" for role in ("ir", "vi", "fused")))
    formula = GOLDEN["triples"][0]["values"]["formula_f64"]
    found = measure_image(triple, FOUR, {})
    for name in FOUR.metrics:
        assert found[name] == pytest.approx(formula.get(f"paper.{name}", formula.get(f"cdd.{name}")), rel=1e-6), name


def test_a_killed_run_measures_only_what_is_missing(
    triples: list[Triple], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = tmp_path / "journal"
    whole = measure_images(triples, FOUR, tmp_path / "other")
    real = measure.measure_image
    seen: list[str] = []

    class KilledError(Exception):
        pass

    def until_the_fourth(triple: Triple, *rest: Any) -> Any:
        seen.append(triple.stem)
        if triple.stem == "3":
            raise KilledError
        return real(triple, *rest)

    monkeypatch.setattr(measure, "measure_image", until_the_fourth)
    with pytest.raises(KilledError):
        measure_images(triples, FOUR, journal)
    with journal.open("a") as handle:
        handle.write('{"stem": "3", "val')  # what a kill in the middle of a line leaves
    seen.clear()
    monkeypatch.setattr(measure, "measure_image", lambda t, *rest: (seen.append(t.stem), real(t, *rest))[1])
    assert measure_images(triples, FOUR, journal) == whole
    assert seen == ["3", "4", "5"]


def test_values_on_disk(triples: list[Triple], tmp_path: Path) -> None:
    measured = measure_images(triples[:2], FOUR, tmp_path / "journal")
    write_values(tmp_path / "quality.json", FOUR, measured, {"MUSIQ": "no weights"})
    document = json.loads((tmp_path / "quality.json").read_text())
    assert document["stems"] == ["0", "1"]
    assert document["values"]["SF"] == [measured["0"]["SF"], measured["1"]["SF"]]
    assert (document["profile"], document["saving"], document["unavailable"]) == (
        "paper",
        "lossless",
        {"MUSIQ": "no weights"},
    )


def test_jpeg_is_a_saving_habit_that_changes_values_and_only_the_fused_image(triples: list[Triple]) -> None:
    plain = measure_image(triples[0], FOUR, {})
    habit = measure_image(triples[0], Protocol(FOUR.metrics, saving="jpeg-75"), {})
    assert plain != habit
    pixels = read_pixels(triples[0].fused)
    again = saved_as(pixels, "jpeg-75")
    assert (again.shape, again.dtype) == (pixels.shape, pixels.dtype)
    assert saved_as(pixels, "lossless") is pixels


def test_learned_metrics_without_weights_are_unavailable_with_a_cure() -> None:
    scorers, unavailable = load_scorers(("SF", "MUSIQ"))
    if scorers:
        pytest.skip("pyiqa and its weights are here")
    assert "pip install pyiqa" in unavailable["MUSIQ"] or "download" in unavailable["MUSIQ"]


def test_learned_metrics_see_the_colours(triples: list[Triple]) -> None:
    def red(batch: torch.Tensor) -> torch.Tensor:
        return batch[:, 0].double().mean(dim=(-2, -1))

    found = measure_image(triples[0], Protocol(("SF", "MUSIQ")), {"MUSIQ": red})
    assert found["MUSIQ"] == pytest.approx(read_pixels(triples[0].fused)[..., 0].mean())


def test_every_unusable_fused_image_is_named_with_its_cure(triples: list[Triple], tmp_path: Path) -> None:
    folder = tmp_path / "fused"
    (folder / "0.png").unlink()
    save(folder / "1.png", 1, size=(35, 26))
    Image.fromarray(np.zeros((52, 70), np.uint16)).save(folder / "2.png")
    (folder / "3.png").write_bytes(b"no image")
    with pytest.raises(QualityError) as caught:
        check_fused("ours", folder, [record(t) for t in triples])
    text = str(caught.value)
    for words in ("has no image 0.*", "1.png: is 35×26, but its pair is 70×52", "2.png: is not 8-bit", "3.png"):
        assert words in text
    assert "fusion-det fuse" in text
    assert "5.png" not in text


def test_sources_of_sixteen_bits_are_refused(triples: list[Triple]) -> None:
    Image.fromarray(np.zeros((52, 70), np.uint16)).save(triples[4].ir)
    with pytest.raises(QualityError, match=r"4\.png: is not 8-bit"):
        check_sources([record(t) for t in triples])


def test_other_formats_and_names_are_found(triples: list[Triple], tmp_path: Path) -> None:
    folder = tmp_path / "fused"
    Image.open(folder / "0.png").save(folder / "0.bmp")
    (folder / "0.png").unlink()
    files = check_fused("ours", folder, [record(t) for t in triples])
    assert files["0"] == folder / "0.bmp"
