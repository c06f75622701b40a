"""Quality in reports: figures worked out by hand, ranks, rank correlation against scipy, and the pages."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from fake import FakeMethod, fake_results
from PIL import Image

from fusion_det.pipeline.quality_results import PublishedFigures, QualityResults, QualitySet
from fusion_det.pipeline.results import ExperimentResults, QualityRows
from fusion_det.report import build_quality_report, build_report
from fusion_det.report.association import answer, associate, association_table
from fusion_det.report.quality_pictures import extremes
from fusion_det.report.quality_report import answer as leader
from fusion_det.report.quality_summary import QualitySummary, summarise_quality
from fusion_det.report.quality_tables import Setting, image_rows, published_table, quality_table, rank_table
from fusion_det.report.statistics import kendall, midranks, permutation_p, smallest_permutation_p, spearman
from fusion_det.report.summary import summarise
from fusion_det.report.tables import to_latex, to_markdown

BY_HAND = {
    # two images each; the third image of Qabf is too small for one fusion, so it counts for none
    "vi": {"SF": [9.0, 9.0, 9.0], "MSE": [0.0, 0.0, 0.0], "Qabf": [0.9, 0.9, 0.9]},
    "mean": {"SF": [4.0, 6.0, 8.0], "MSE": [100.0, 200.0, 300.0], "Qabf": [0.2, 0.4, None]},
    "max": {"SF": [6.0, 6.0, 6.0004], "MSE": [50.0, 50.0, 50.0], "Qabf": [0.5, 0.7, 0.1]},
    "gff": {"SF": [7.0, 7.0, 10.0], "MSE": [400.0, 400.0, 400.0], "Qabf": [0.3, 0.3, 0.3]},
}
SETTING = Setting("made up", ("DEMO: made up",), {"dataset": "made_up"})


def write_rows(
    folder: Path, values: dict[str, dict[str, list[float | None]]], stems: list[str], **rows: object
) -> QualityRows:
    files = {}
    for name, columns in values.items():
        files[name] = folder / name / "quality.json"
        files[name].parent.mkdir(parents=True, exist_ok=True)
        files[name].write_text(json.dumps({"stems": stems, "values": columns, "unavailable": {}}))
    metrics = tuple(next(iter(values.values())))
    return QualityRows(**{"profile": "paper", "metrics": metrics, "values": files, **rows})  # type: ignore[arg-type]


@pytest.fixture
def by_hand(results: ExperimentResults, tmp_path: Path) -> QualitySummary:
    rows = write_rows(tmp_path, BY_HAND, ["a", "b", "c"], failures={"ddfm": "no weights"})
    return summarise_quality(rows, summarise(results).methods)


def cells(table: object) -> dict[str, dict[str, tuple[str, str]]]:
    head = table.head  # type: ignore[attr-defined]
    return {
        row[0].text: {h.split(" ")[0]: (c.text, c.mark) for h, c in zip(head[1:], row[1:], strict=True)}
        for row in table.rows  # type: ignore[attr-defined]
    }


def test_means_marks_and_ranks_by_hand(by_hand: QualitySummary) -> None:
    shown = cells(quality_table(by_hand, SETTING))
    assert {name: shown[name]["SF"] for name in ("Visible", "Mean", "Maximum", "GFF†")} == {
        "Visible": ("9.000", ""),  # a control is neither marked nor ranked
        "Mean": ("6.000", "second"),
        "Maximum": ("6.000", "second"),  # 6.00013 prints alike, so it is marked and ranked alike
        "GFF†": ("8.000", "best"),
    }
    assert shown["Mean"]["MSE"] == ("200.0", "second")
    assert shown["Maximum"]["MSE"] == ("50.0", "best")
    assert shown["Mean"]["Qabf"] == ("0.300", "second")
    assert shown["GFF†"]["Qabf"] == ("0.300", "second")
    assert shown["Maximum"]["Qabf"] == ("0.600", "best")
    assert by_hand.counted == {"SF": 3, "MSE": 3, "Qabf": 2}
    ranks = cells(rank_table(by_hand, SETTING))
    assert [ranks["Mean"][k][0] for k in ("SF", "MSE", "Qabf")] == ["2.5", "2", "2.5"]
    assert ranks["Mean"]["mean"][0] == "2.33"
    assert "Visible" not in ranks
    mean = next(m for m in by_hand.methods if m.method.info.name == "mean")
    assert mean.std["SF"] == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("profile", "scale", "texts"), [("paper", 255**2, ["130.1", "195.1"]), ("zoo", 1, ["0.0020", "0.0030"])]
)
def test_small_errors_of_a_profile_are_told_apart(
    results: ExperimentResults, tmp_path: Path, profile: str, scale: float, texts: list[str]
) -> None:
    errors: dict[str, dict[str, list[float | None]]] = {
        name: {"MSE": [error * scale]} for name, error in (("mean", 0.002), ("max", 0.003))
    }
    summary = summarise_quality(write_rows(tmp_path, errors, ["a"], profile=profile), summarise(results).methods)
    shown = cells(quality_table(summary, SETTING))
    assert [shown[name]["MSE"][0] for name in ("Mean", "Maximum")] == texts
    assert [m.rank["MSE"] for m in summary.fusions] == [1, 2]


def test_every_rendering_names_profile_stamp_and_who_is_missing(by_hand: QualitySummary) -> None:
    table = quality_table(by_hand, SETTING)
    for text in (to_markdown(table), to_latex(table)):
        assert "profile" in text
        assert "paper" in text
        assert "DEMO" in text
        assert "no weights" in text
    assert r"\textbf{8.000}" in to_latex(table)
    assert r"SF $\uparrow$" in to_latex(table)


def test_single_images_as_csv(by_hand: QualitySummary) -> None:
    rows = list(image_rows(by_hand, SETTING))
    assert len(rows) == 4 * 3
    row = next(r for r in rows if (r["method"], r["stem"]) == ("mean", "c"))
    assert (row["SF"], row["Qabf"], row["profile"], row["saving"]) == (8.0, None, "paper", "lossless")


def test_extremes_by_hand(by_hand: QualitySummary) -> None:
    found = {(e.metric.name, e.kind): e for e in extremes(by_hand)}
    best, worst = found["SF", "best"], found["SF", "worst"]
    assert (best.stem, best.method.method.info.name, best.value) == ("c", "gff", 10.0)
    assert (worst.stem, worst.method.method.info.name, worst.value, worst.other_value) == ("a", "mean", 4.0, 7.0)
    assert (found["MSE", "best"].value, found["MSE", "worst"].value) == (50.0, 400.0)
    assert found["Qabf", "worst"].value == 0.1


def test_printed_rows_stand_beside_ours(by_hand: QualitySummary) -> None:
    figures = PublishedFigures(
        name="Somebody, Table 1", columns=("SF", "Qabf", "MUSIQ"),
        rows={"DDFM": (7.0, 0.5, 40.0), "GFF": (10.0, 0.25, 30.0)}, years={"GFF": 2013, "DDFM": 2023}, notes=("Saved as JPEG.",),
    )  # fmt: skip
    table = published_table(figures, by_hand, SETTING)
    shown = cells(table)
    assert list(shown) == ["DDFM, printed", "GFF, printed", "GFF, ours†", "Mean, ours", "Maximum, ours"]
    assert shown["GFF, printed"]["SF"] == ("10.000", "best")
    ours = next(row for row in table.rows if row[0].text == "GFF, ours†")
    assert [(c.text, c.note) for c in ours[2:]] == [("8.000", "−20.0 %"), ("0.300", "+20.0 %"), ("n/a", "")]
    assert "Saved as JPEG." in table.notes


def test_rank_statistics_agree_with_scipy() -> None:
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(1)
    for n in (3, 5, 7, 12):
        x, y = rng.integers(0, 6, n).astype(float), rng.normal(size=n)
        x[0] = 9
        assert midranks(x).tolist() == stats.rankdata(x).tolist()
        assert float(spearman(x, y)) == pytest.approx(stats.spearmanr(x, y).statistic)
        assert kendall(x, y) == pytest.approx(stats.kendalltau(x, y).statistic)
    x, y = rng.normal(size=6), rng.normal(size=6)
    exact = stats.permutation_test(
        (x,), lambda a: stats.spearmanr(a, y).statistic, permutation_type="pairings", n_resamples=np.inf
    )
    ours, theirs = permutation_p(x, y), exact.pvalue
    # scipy doubles the smaller tail, we count both; for a statistic symmetric about zero that is the same
    assert ours == pytest.approx(theirs, abs=0.01)
    many = rng.normal(size=12)
    assert permutation_p(many, many + 0.01 * rng.normal(size=12)) < 0.001
    assert np.isnan(float(spearman(np.ones(4), np.arange(4.0))))
    assert permutation_p(np.ones(4), np.arange(4.0)) == 1.0


@pytest.mark.parametrize(("n", "p"), [(3, 1 / 3), (4, 1 / 12), (5, 1 / 60)])
def test_the_smallest_p_is_that_of_equal_orders(n: int, p: float) -> None:
    order = np.arange(float(n))
    assert permutation_p(order, order) == pytest.approx(p) == smallest_permutation_p(n)


def detected_and_measured(tmp_path: Path, count: int) -> ExperimentResults:
    """SF rises with the methods' skill, and so does MSE, which is an error; EN is constant."""
    skills = {f"m{i}": 0.35 + 0.6 * i / count for i in range(count)}
    methods = (
        FakeMethod("vi", "Visible", "control", 0.7, seeds=(0,)),
        *(FakeMethod(name, name.upper(), "cnn", skill, seeds=(0,)) for name, skill in skills.items()),
    )
    results = fake_results(tmp_path / "experiment", methods=methods, replicates=60, images=16, size=(160, 120))
    stems = [i["id"] for i in json.loads(results.ground_truth["test"].read_text())["images"]]
    rng = np.random.default_rng(2)
    noise = rng.normal(0, 0.01, len(stems))
    values = {
        name: {
            "SF": (10 * skill + noise).tolist(),
            "MSE": (1000 * skill + noise).tolist(),
            "EN": [5.0] * len(stems),
        }
        for name, skill in {"vi": 0.5, **skills}.items()
    }
    rows = write_rows(tmp_path, values, stems, images=f"the {len(stems)} test images", color="ycbcr")
    return results.model_copy(update={"quality": rows, "report": {"overlay_ids": [], "disagreement_rows": 0}})


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> ExperimentResults:
    return detected_and_measured(tmp_path_factory.mktemp("measured"), 7)


def test_a_metric_that_rises_with_detection_is_found(measured: ExperimentResults) -> None:
    summary = summarise(measured)
    assert measured.quality is not None
    quality = summarise_quality(measured.quality, summary.methods)
    found = associate(summary, quality, measured.ground_truth["test"])
    assert found is not None
    assert (found.methods, found.replicates) == (7, 60)
    items = {a.metric.name: a for a in found.items}
    assert items["SF"].rho == pytest.approx(1.0, abs=0.1)
    assert items["MSE"].rho == pytest.approx(
        -(items["SF"].rho or 0)
    )  # a higher error is worse, and detected better here
    assert items["EN"].rho is None
    assert items["SF"].shown
    assert items["SF"].low is not None
    assert items["SF"].low > 0
    assert not found.too_few
    assert "SF ranks 7 fusions as mAP@50 does" in answer(found)
    assert "MSE ranks them the other way round" in answer(found)
    without = associate(summary, quality, None)
    assert without is not None
    assert without.items[0].low is None
    assert not without.items[0].shown
    assert "No interval over images" in " ".join(association_table(without, quality, SETTING).notes)


def test_no_interval_where_quality_is_of_more_images_than_map(measured: ExperimentResults, tmp_path: Path) -> None:
    summary = summarise(measured)
    assert measured.quality is not None
    values, stems = {}, []
    for name, file in measured.quality.values.items():
        document = json.loads(file.read_text())
        values[name] = {k: [*v, 100.0 * len(values)] for k, v in document["values"].items()}
        stems = [*document["stems"], "an image of the training part"]
    quality = summarise_quality(write_rows(tmp_path, values, stems), summary.methods)
    found = associate(summary, quality, measured.ground_truth["test"])
    assert found is not None
    assert found.replicates == 0
    assert all(a.low is None and not a.shown for a in found.items)


def test_few_methods_conclude_nothing(tmp_path: Path) -> None:
    results = detected_and_measured(tmp_path, 4)
    summary = summarise(results)
    assert results.quality is not None
    quality = summarise_quality(results.quality, summary.methods)
    found = associate(summary, quality, results.ground_truth["test"])
    assert found is not None
    assert found.too_few
    assert "cannot be answered" in answer(found)
    assert "0.083" in answer(found)
    table = association_table(found, quality, SETTING)
    assert {row[-1].text for row in table.rows} == {"too few"}
    assert "nothing can be said" in answer(None)


def test_the_map_report_has_quality_and_the_question(measured: ExperimentResults, tmp_path: Path) -> None:
    text = build_report(measured, tmp_path).read_text(encoding="utf-8")
    assert "Does quality predict detection?" in text
    assert "Quality of the fused images" in text
    names = {p.name for p in tmp_path.iterdir()}
    assert {"quality.md", "quality.tex", "quality.csv", "quality.json", "quality_per_image.csv"} <= names
    assert {"quality_and_map.md", "quality_and_map.csv", "quality_ranks.md"} <= names
    for link in re.findall(r'href="((?:quality|figures)[^"]*)"', text):
        assert (tmp_path / link).is_file(), link
    for figure in ("quality.svg", "quality_and_map.svg"):
        root = ElementTree.parse(tmp_path / "figures" / figure).getroot()
        assert "DEMO" in "".join(root.itertext())
    rows = list(csv.DictReader(io.StringIO((tmp_path / "quality.csv").read_text())))
    assert {row["profile"] for row in rows} == {"paper"}
    assert {row["demo"] for row in rows} == {"true"}
    again = tmp_path / "again"
    assert build_report(measured, again).read_text(encoding="utf-8") == text


def test_values_gone_from_the_store_leave_the_rest(measured: ExperimentResults, tmp_path: Path) -> None:
    assert measured.quality is not None
    gone = dict.fromkeys(measured.quality.values, tmp_path / "nowhere.json")
    rows = measured.quality.model_copy(update={"values": gone})
    text = build_report(measured.model_copy(update={"quality": rows}), tmp_path).read_text(encoding="utf-8")
    assert "Does quality predict detection?" not in text


@pytest.fixture
def measured_set(results: ExperimentResults, tmp_path: Path) -> QualityResults:
    sources = {}
    for stem in ("a", "b", "c"):
        for folder in ("ir", "vi", "mean", "max", "gff"):
            file = tmp_path / "pictures" / folder / f"{stem}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((40, 60), 80, np.uint8)).save(file)
        sources[stem] = (tmp_path / "pictures" / "ir" / f"{stem}.png", tmp_path / "pictures" / "vi" / f"{stem}.png")
    rows = write_rows(tmp_path, BY_HAND, ["a", "b", "c"], failures={"ddfm": "no weights", "ir": "not asked for"})
    methods = tuple(
        m.model_copy(update={"images": tmp_path / "pictures" / m.name}) if m.name in BY_HAND else m
        for m in results.methods
    )
    one = QualitySet(dataset=results.dataset, title="Made up", methods=methods, quality=rows, sources=sources)
    return QualityResults(experiment="q", title="Quality, made up", sets=(one,), missing={"tno": "not in place"})


def test_the_page_of_quality(measured_set: QualityResults, tmp_path: Path) -> None:
    out = tmp_path / "report"
    text = build_quality_report(measured_set, out).read_text(encoding="utf-8")
    assert "GFF has the best mean rank" in text or "Maximum has the best mean rank" in text
    assert "tno: not in place" in text
    assert "DEMO" in text
    assert text.count("<article") == 2 * 3
    assert not re.findall(r'<(?:script|img|link|iframe)[^>]*\b(?:src|href)="(?!data:)', text)
    for link in re.findall(r'<a href="([^#"][^"]*)"', text):
        assert (out / link).is_file(), link
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    (measured_set.sets[0].sources["c"][0]).unlink()
    again = build_quality_report(measured_set, out).read_text(encoding="utf-8")
    assert "no longer where they were" in again


def test_a_leader_is_named_only_among_several(by_hand: QualitySummary) -> None:
    assert "of 3 fusions over 3 metrics" in leader(by_hand, "Made up")
