"""Table VII in print and as data, from made-up figures."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from fusion_det.efficiency.assessment import Cost
from fusion_det.efficiency.flops import FlopCount
from fusion_det.efficiency.job import Measurement
from fusion_det.efficiency.parameters import ParameterCount
from fusion_det.efficiency.settings import EfficiencySettings
from fusion_det.fusion import get_card
from fusion_det.report.table_vii import COLUMNS, table_vii, write_table_vii

SETTINGS = EfficiencySettings(warmup=2)


def measured(*seconds: float, trained: bool = True, memory: int | None = 50 << 20, exact: bool = True) -> Measurement:
    return Measurement(seconds, memory, 900 << 20, exact, trained, "Some CPU", "float32", 2)


def network(by_torch: int = 3_000_000_000, config: str = "released", **kwargs: object) -> Cost:
    return Cost(
        get_card("s4fusion"),
        config,
        (481, 649),
        ParameterCount(2_000_000, 1_500_000, (("head", 500_000),)),
        FlopCount(10**9, 10**9, 10**9, by_torch, scans=9 * 10**8, scans_exact=7 * 10**8),
        **kwargs,  # type: ignore[arg-type]
    )


def classic(seconds: float = 0.02) -> Cost:
    return Cost(get_card("gff"), None, (480, 640), ParameterCount(0, 0), None, measured(seconds))


def texts(costs: list[Cost], settings: EfficiencySettings = SETTINGS) -> list[dict[str, str]]:
    table = table_vii(costs, settings)
    return [{head: cell.text for head, cell in zip(table.head, row, strict=True)} for row in table.rows]


def test_a_network_and_a_classical_method() -> None:
    ours, other = texts([network(measurement=measured(1.2345, 0.9, 2.0, trained=False)), classic()])
    assert ours == {
        "": "S4Fusion",
        "params [M]": "2.000",
        "used [M]": "1.500",
        "layers [G]": "3.00",
        "by torch [G]": "3.00",
        "scans [G]": "0.90",
        "GFLOPs": "3.90",
        "time [ms]": "1234",
        "memory [MiB]": "50",
        "paper GFLOPs": "48.93",
        "paper params [M]": "2.03",
    }
    assert other["params [M]"] == other["used [M]"] == "0"
    assert other["GFLOPs"] == other["scans [G]"] == "n/a"
    assert other["time [ms]"] == "20.0"
    assert other["paper GFLOPs"] == "–"


def test_notes_say_what_a_reader_must_know() -> None:
    costs = [network(measurement=measured(1.0, 2.0, 3.0, trained=False)), classic()]
    notes = " ".join(table_vii(costs, SETTINGS).notes)
    for words in (
        "S4Fusion 481×649",
        "a multiply-add being two",
        "9 operations a step, channel and state",
        "S4Fusion 0.70 G",
        "agree to the last operation",
        "head (500000)",
        "untrained weights, on which time does not depend: S4Fusion",
        "1 to 3 calls after 2 to warm up",
        "Some CPU, 2 CPU threads, float32",
        "could not be reproduced",
        "scans left out, are: S4Fusion 1.50 G (paper 48.93 G)",
    ):
        assert words in notes


def test_counters_that_disagree_are_named() -> None:
    notes = " ".join(table_vii([network(by_torch=2_970_000_000)], SETTINGS).notes)
    assert "they differ for S4Fusion (−1.00%)" in notes


@pytest.mark.parametrize(("seconds", "text"), [(2e-7, "<0.1"), (0.00123, "1.23"), (0.0123, "12.3"), (12.3, "12300")])
def test_times(seconds: float, text: str) -> None:
    assert texts([classic(seconds)])[0]["time [ms]"] == text


def test_memory_that_is_not_known() -> None:
    assert texts([network(measurement=measured(1.0, memory=None))])[0]["memory [MiB]"] == "n/a"
    bound = [network(measurement=measured(1.0, exact=False))]
    assert texts(bound)[0]["memory [MiB]"] == "≤ 50"
    assert any("whole life" in note for note in table_vii(bound, SETTINGS).notes)


def test_variants_have_names_and_no_paper() -> None:
    assert [row[""] for row in texts([network(), network(config="va")])] == ["S4Fusion", "S4Fusion (va)"]
    assert [row["paper GFLOPs"] for row in texts([network(), network(config="va")])] == ["48.93", "–"]


def test_another_size_shows_no_paper() -> None:
    settings = EfficiencySettings(size=(768, 1024), measure=False)
    assert list(texts([network()], settings)[0]) == [
        *("", "params [M]", "used [M]", "layers [G]", "by torch [G]", "scans [G]", "GFLOPs")
    ]
    assert any("not shown at another size" in note for note in table_vii([network()], settings).notes)


def test_a_row_that_failed_says_why() -> None:
    failed = Cost(get_card("s4fusion"), "released", (481, 649), problem="it was killed")
    row = texts([failed])[0]
    assert row["params [M]"] == row["GFLOPs"] == row["time [ms]"] == "–"
    assert "S4Fusion: it was killed" in table_vii([failed], SETTINGS).notes


def test_files(tmp_path: Path) -> None:
    costs = [network(measurement=measured(1.0, 2.0, 3.0)), classic()]
    write_table_vii(costs, SETTINGS, {"commit": "abc"}, tmp_path)
    rows = list(csv.DictReader(io.StringIO((tmp_path / "table_vii.csv").read_text())))
    assert tuple(rows[0]) == COLUMNS
    assert rows[0]["flops"] == "3900000000"
    assert rows[0]["flops_layers"] == rows[0]["flops_by_torch"] == "3000000000"
    assert (rows[0]["seconds_low"], rows[0]["seconds"], rows[0]["seconds_high"]) == ("1.5", "2", "2.5")
    assert rows[1]["flops"] == ""
    document = json.loads((tmp_path / "table_vii.json").read_text())
    assert (document["schema"], document["schema_version"]) == ("fusion_det/table_vii", 1)
    assert document["settings"]["size"] == [480, 640]
    assert document["provenance"] == {"commit": "abc"}
    first = document["methods"][0]
    assert first["seconds_all"] == [1.0, 2.0, 3.0]
    assert first["unused"] == {"head": 500_000}
    assert first["paper_gflops"] == 48.93
    assert r"\begin{table*}" in (tmp_path / "table_vii.tex").read_text()
    assert "| S4Fusion | 2.000 |" in (tmp_path / "table_vii.md").read_text()
