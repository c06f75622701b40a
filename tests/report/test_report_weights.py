"""A table says whose weights its rows have, and whether these have seen what the rows are judged by."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fusion_det.pipeline.quality_results import PublishedFigures
from fusion_det.pipeline.results import MethodInfo, QualityRows
from fusion_det.report.provenance import contamination, trained_on, weights_notes
from fusion_det.report.quality_summary import MethodQuality, QualitySummary
from fusion_det.report.quality_tables import Setting, published_table
from fusion_det.report.summary import MethodSummary

TRAINED = "trained 60 steps on demo scenes in this experiment"


def info(label: str, **changes: Any) -> MethodInfo:
    return MethodInfo(name=label.casefold(), label=label, abbreviation=label, family="cnn", color="luma", **changes)


OFFICIAL = info("A", weights="weights/a/a.pth", weights_source="official", trained_on=("msrs",))
SEEN = info("B", weights_source="official", trained_on=("m3fd", "msrs"), contaminated=True)
COUNTED = info(
    "C", weights="own.pth (…)", weights_source="own", trained_on=("m3fd",), contaminated=True, images_trained_on=12
)
CLEAN = info("D", weights=TRAINED, weights_source="trained", trained_on=("demo",), images_trained_on=0)
LIKEWISE = info("E", weights=TRAINED, weights_source="trained", trained_on=("demo",), images_trained_on=0)
UNKNOWN = info("F", weights="f.pth (…)", weights_source="own", trained_on_known=False)
NEEDS_NONE = info("G")


def test_notes() -> None:
    assert weights_notes([OFFICIAL, NEEDS_NONE], 60) == []
    notes = weights_notes([OFFICIAL, SEEN, COUNTED, CLEAN, LIKEWISE, UNKNOWN, NEEDS_NONE], 60, "test images")
    assert notes == [
        f"Not the authors' weights: C: own.pth (…); D and E: {TRAINED}; F: f.pth (…).",
        "† B: the weights were trained on m3fd and msrs, perhaps on some of these test images; "
        "C: the weights were trained on 12 of 60 test images.",
        "What the weights of F were trained on is not known; perhaps on these test images.",
    ]


@pytest.mark.parametrize(
    ("method", "text", "datasets"),
    [
        (OFFICIAL, "none of these images", "msrs"),
        (COUNTED, "the weights were trained on 12 of 60 images", "m3fd"),
        (CLEAN, "none of these images", "demo"),
        (UNKNOWN, "not known", "not known"),
        (NEEDS_NONE, "", "–"),
    ],
    ids=lambda value: value.label if isinstance(value, MethodInfo) else "",
)
def test_cells(method: MethodInfo, text: str, datasets: str) -> None:
    assert contamination(method, 60) == text
    assert trained_on(method) == datasets


def test_rows_of_other_weights_stand_under_the_printed_row_of_their_method() -> None:
    def measured(method: MethodInfo, value: float) -> MethodQuality:
        bare = MethodSummary(method, ok=(), failed=(), values={}, mean=None, std=None, low=None, high=None)
        return MethodQuality(bare, {"SF": np.array([value])}, {"SF": value}, {}, {})

    shipped = MethodInfo(
        name="s4fusion-shipped", method="s4fusion", label="S4Fusion (shipped)", abbreviation="S", family="cnn",
        color="luma", weights_source="shipped",
    )  # fmt: skip
    official = MethodInfo(
        name="s4fusion", method="s4fusion", label="S4Fusion", abbreviation="S", family="cnn", color="luma",
        weights_source="official",
    )  # fmt: skip
    rows = QualityRows(profile="paper", metrics=("SF",))
    methods = (measured(official, 16.0), measured(shipped, 17.0))
    summary = QualitySummary(methods=methods, rows=rows, stems=("1",), metrics=(), counted={}, unavailable={})
    published = PublishedFigures(name="Table II", columns=("SF",), rows={"S4Fusion": (16.0,), "Other": (1.0,)})
    table = published_table(published, summary, Setting("roadscene", (), {}))
    assert [row[0].text for row in table.rows] == [
        "S4Fusion, printed",
        "S4Fusion, ours",
        "S4Fusion (shipped), ours",
        "Other, printed",
    ]
