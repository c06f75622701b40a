"""Numbers and words of the tables, against figures worked out by hand."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import pytest

from fusion_det.pipeline.results import DatasetInfo, ExperimentResults, MethodInfo, MethodRun, SplitInfo
from fusion_det.report.formatting import duration, escape_latex, escape_markdown, join_words, marks, percent, points
from fusion_det.report.headline import headline
from fusion_det.report.summary import stamps, summarise
from fusion_det.report.table_vi import json_document, table_vi
from fusion_det.report.tables import Cell, Table, to_csv, to_latex, to_markdown


def by_hand(
    runs: dict[str, dict[int, tuple[float, list[float]]]], dataset: str = "m3fd", limit: int | None = None
) -> ExperimentResults:
    """method → seed → (mAP50, bootstrap replicates)."""
    paper = {"ir": 73.8, "vi": 79.3, "gff": 80.4, "ddfm": 80.4, "s4": 81.3}
    return ExperimentResults(
        experiment="hand",
        title="",
        dataset=DatasetInfo(
            name=dataset, root=Path("/x"), synthetic=dataset == "demo", classes=("Car",), pairs=10, labelled=10,
            content_digest="d" * 64, limit=limit,
        ),
        split=SplitInfo(name="random-712", seed=0, digest="s" * 64, counts={"test": 2}, boxes={}),
        ground_truth={},
        methods=tuple(
            MethodInfo(
                name=name, label=name.upper(), abbreviation=name[:3].upper(), color="luma",
                family="control" if name in ("ir", "vi") else "cnn", table_vi=paper.get(name),
            )
            for name in runs
        ),
        runs=tuple(
            MethodRun(
                method=name, seed=seed, status="ok",
                metrics={"mAP50": value, "bootstrap": {"seed": 0, "mAP50": replicates}},
            )
            for name, seeds in runs.items()
            for seed, (value, replicates) in seeds.items()
        ),
        detector={"built": "yolov5su"},
    )  # fmt: skip


FLAT = [0.5] * 1000


def test_mean_deviation_and_difference_to_the_better_control():
    results = by_hand(
        {
            "ir": {0: (0.50, FLAT), 1: (0.52, FLAT)},
            "vi": {0: (0.60, [0.60] * 1000), 1: (0.64, [0.64] * 1000)},
            "gff": {0: (0.70, [0.70] * 1000), 1: (0.66, [0.66] * 1000)},
        }
    )
    summary = summarise(results)
    assert summary.reference is not None
    assert summary.reference.info.name == "vi"
    gff = summary.methods[2]
    assert gff.mean == pytest.approx(0.68)
    assert gff.std == pytest.approx(0.0282843, rel=1e-5)
    assert gff.difference is not None
    assert gff.difference.value == pytest.approx(0.06)
    assert (gff.difference.low, gff.difference.high) == pytest.approx((0.06, 0.06))
    assert (gff.difference.seeds_agreeing, gff.difference.seeds_common) == (2, 2)
    assert gff.difference.verdict == "yes"
    assert summary.methods[0].difference is not None
    assert summary.methods[0].difference.verdict == "untested"


def test_verdicts_tell_one_seed_and_disagreeing_seeds_apart():
    up, flat = [0.7] * 1000, [0.6] * 1000
    one = summarise(by_hand({"vi": {0: (0.6, flat)}, "gff": {0: (0.7, up)}})).methods[1]
    assert one.difference is not None
    assert one.difference.verdict == "one seed"
    split = by_hand({"vi": {0: (0.6, flat), 1: (0.6, flat)}, "gff": {0: (0.9, up), 1: (0.5, up)}})
    mixed = summarise(split).methods[1]
    assert mixed.difference is not None
    assert mixed.difference.verdict == "seeds disagree"
    straddling = by_hand({"vi": {0: (0.6, flat)}, "gff": {0: (0.61, [0.55] * 400 + [0.65] * 600)}})
    none = summarise(straddling).methods[1]
    assert none.difference is not None
    assert none.difference.verdict == "no"
    assert "not shown to be more than chance" in headline(straddling, summarise(straddling)).answer


def test_holm_is_over_fusions_only():
    runs = {"ir": {0: (0.5, FLAT)}, "vi": {0: (0.6, [0.6] * 1000)}}
    runs |= {f"f{i}": {0: (0.7, [0.7] * 1000)} for i in range(4)}
    summary = summarise(by_hand(runs))
    assert summary.family == 4
    assert summary.methods[2].difference is not None
    assert summary.methods[2].difference.p_holm == pytest.approx(4 * 2 / 1001)


def drawn(results: ExperimentResults, index: int, **how: object) -> ExperimentResults:
    """The results with one run's bootstrap drawn in another way."""
    runs = list(results.runs)
    metrics = runs[index].metrics
    runs[index] = runs[index].model_copy(update={"metrics": metrics | {"bootstrap": metrics["bootstrap"] | how}})
    return results.model_copy(update={"runs": tuple(runs)})


@pytest.mark.parametrize("how", [{"seed": 1}, {"unit": "run"}, {"groups": 7}])
def test_replicates_of_other_images_are_never_paired(how: dict[str, object]):
    results = by_hand({"vi": {0: (0.6, FLAT)}, "gff": {0: (0.7, FLAT)}})
    difference = summarise(drawn(results, 1, **how)).methods[1].difference
    assert difference is not None
    assert difference.low is None
    assert difference.verdict == "untested"
    seeds = by_hand({"gff": {0: (0.7, FLAT), 1: (0.7, FLAT)}})
    assert summarise(drawn(seeds, 1, **how)).methods[0].low is None


@pytest.mark.parametrize(("unit", "words"), [("run", "whole capture runs"), ("run or image", "where the run is known")])
def test_the_number_of_resampled_groups_is_told_and_few_are_a_caution(unit: str, words: str):
    results = by_hand({"vi": {0: (0.6, FLAT)}, "gff": {0: (0.7, FLAT)}})
    for groups, few in ((19, True), (20, False)):
        both = drawn(drawn(results, 0, unit=unit, groups=groups), 1, unit=unit, groups=groups)
        summary = summarise(both)
        notes = " ".join(table_vi(both, summary).notes)
        assert words in notes
        assert f"{groups} " in notes
        assert ("too narrow" in notes) is few
        assert any("too narrow" in text for text in headline(both, summary).details) is few


def test_paper_row_on_the_whole_of_m3fd_only():
    runs = {"ir": {0: (0.7, FLAT)}, "vi": {0: (0.8, FLAT)}, "gff": {0: (0.8, FLAT)}, "s4": {0: (0.81, FLAT)}}
    whole = by_hand(runs)
    table = table_vi(whole, summarise(whole))
    assert [c.text for c in table.rows[1]] == ["paper", "73.8", "79.3", "80.4", "81.3"]
    assert [c.mark for c in table.rows[1]] == ["", "", "", "second", "best"]
    for other in (by_hand(runs, limit=50), by_hand(runs, dataset="demo")):
        assert "paper" not in [row[0].text for row in table_vi(other, summarise(other)).rows]
        assert all(m["paper_mAP50"] is None for m in json_document(other, summarise(other))["methods"])


def test_figures_that_print_alike_are_marked_alike():
    assert marks([0.8041, 0.8039, 0.7, None, 0.75]) == ["best", "best", "", "", "second"]


def test_how_figures_are_written():
    assert (percent(0.6234), percent(None), points(0.0123), points(-0.0123), points(-0.0001)) == (
        "62.3", "–", "+1.2", "−1.2", "0.0",
    )  # fmt: skip
    assert (duration(3.21), duration(245), duration(7800)) == ("3.2 s", "4 min 05 s", "2 h 10 min")
    assert join_words(["a"]) == "a"
    assert join_words(["a", "b", "c"]) == "a, b and c"


def test_latex_of_hostile_text():
    assert escape_latex(r"50 % of a_b & c#1 {x} ~^\ $5") == (
        r"50 \% of a\_b \& c\#1 \{x\} \textasciitilde{}\textasciicircum{}\textbackslash{} \$5"
    )
    assert escape_latex("Δ ≥ −1 ± 2 † –") == r"$\Delta$ $\geq$ $-$1 $\pm$ 2 \textdagger{} --"


def test_latex_table_is_balanced_and_ascii(report: Path):
    for path in report.glob("*.tex"):
        text = path.read_text(encoding="utf-8")
        plain = re.sub(r"\\[{}]", "", text)
        assert plain.count("{") == plain.count("}")
        assert re.findall(r"\\begin\{(\w+\*?)\}", text) == re.findall(r"\\end\{(\w+\*?)\}", text)[::-1]
        body = text.split(r"\toprule")[1].split(r"\bottomrule")[0]
        rows = [line for line in body.splitlines() if line.rstrip().endswith(r"\\")]
        assert len({len(re.findall(r"(?<!\\)&", row)) for row in rows}) == 1
        assert all(rule in text for rule in (r"\toprule", r"\midrule", r"\bottomrule"))
        assert text.isascii()


def test_wide_latex_tables_are_scaled():
    head = tuple("abcdefghijkl")
    text = to_latex(Table("x", "c", head, (tuple(Cell(h) for h in head),)))
    assert r"\resizebox{\linewidth}{!}{%" in text
    assert r"\begin{table*}" in text


def test_markdown_escapes_what_would_break_the_grid():
    assert escape_markdown("a|b*c_<x>") == r"a\|b\*c\_\<x\>"
    assert escape_markdown("![x](http://a) > b") == r"!\[x\](http://a) \> b"
    table = Table("x", "c", ("", "A|B"), ((Cell("r"), Cell("1.0", "best")),), stamps=("DEMO: not real",))
    text = to_markdown(table)
    assert r"| DEMO | A\|B |" in text
    assert "| r | **1.0** |" in text
    assert text.startswith("**DEMO: not real**")


def test_rows_must_be_as_long_as_the_head():
    with pytest.raises(ValueError, match="head"):
        Table("x", "c", ("a", "b"), ((Cell("1"),),))


def test_csv_is_tidy_and_every_row_is_stamped(report: Path, results: ExperimentResults):
    rows = list(csv.DictReader(io.StringIO((report / "table_vi.csv").read_text(encoding="utf-8"))))
    assert len(rows) == len(results.runs)
    assert {row["demo"] for row in rows} == {"true"}
    assert {row["split_digest"] for row in rows} == {results.split.digest}
    gff = [row for row in rows if row["method"] == "gff"]
    assert [row["contaminated"] for row in gff] == ["true"] * 3
    run = next(r for r in results.runs if r.method == "gff" and r.seed == 1)
    assert float(gff[1]["mAP50"]) == pytest.approx(run.metrics["mAP50"], rel=1e-5)
    assert (gff[1]["train_device"], gff[1]["train_precision"]) == ("cpu", "fp32")
    failed = [row for row in rows if row["method"] == "ddfm"]
    assert all(row["status"] == "failed" and "no weights" in row["reason"] for row in failed)
    classes = list(csv.DictReader(io.StringIO((report / "per_class.csv").read_text(encoding="utf-8"))))
    assert {row["group"] for row in classes} == set(results.dataset.classes)
    assert {row["demo"] for row in classes} == {"true"}


def test_csv_quotes_and_blanks():
    assert to_csv([{"a": 'x,"y"', "b": None, "c": True}], ("a", "b", "c")) == 'a,b,c\n"x,""y""",,true\n'


def test_json_is_versioned_and_complete(report: Path):
    document = json.loads((report / "table_vi.json").read_text(encoding="utf-8"))
    assert (document["schema"], document["schema_version"], document["demo"]) == ("fusion_det/table_vi", 1, True)
    gff = next(m for m in document["methods"] if m["method"] == "gff")
    assert gff["mAP50"] == pytest.approx(sum(gff["seeds"].values()) / 3)
    assert gff["difference"]["reference"] == document["reference"]
    assert gff["train_precision"] == {"0": "fp32", "1": "fp32", "2": "fp32"}
    assert next(m for m in document["methods"] if m["method"] == "ddfm")["status"] == "failed"


@pytest.mark.parametrize("name", ["table_vi.md", "table_vi.tex", "per_class.md", "per_condition.tex", "per_size.md"])
def test_demo_is_stamped_in_every_table(report: Path, name: str):
    assert "DEMO: synthetic" in (report / name).read_text(encoding="utf-8")


def test_limit_is_a_stamp_of_its_own():
    limited = by_hand({"vi": {0: (0.6, FLAT)}}, limit=50)
    assert [s.split(":")[0] for s in stamps(limited)] == ["LIMIT 50"]
    assert "LIMIT 50" in to_markdown(table_vi(limited, summarise(limited)))


def test_rows_trained_in_another_way_are_a_caution(results: ExperimentResults):
    def warned(**how: str) -> list[str]:
        runs = tuple(r.model_copy(update=how) if r.method == "gff" and r.seed == 1 else r for r in results.runs)
        mixed = results.model_copy(update={"runs": runs})
        summary = summarise(mixed)
        notes = [n for n in table_vi(mixed, summary).notes if "not all trained alike" in n]
        assert [d for d in headline(mixed, summary).details if "not all trained alike" in d] == notes
        return notes

    assert warned() == []
    assert warned(device="cpu:0") == []
    assert warned(precision="") == []
    assert "precision (bf16: GFF; the others fp32)" in warned(precision="bf16")[0]
    assert "kind of device (cuda: GFF; the others cpu)" in warned(device="cuda:0")[0]


def test_rows_by_published_procedures_are_a_caution(results: ExperimentResults):
    def warned(protocol: str) -> list[str]:
        methods = tuple(m.model_copy(update={"protocol": protocol}) if m.name == "gff" else m for m in results.methods)
        mixed = results.model_copy(update={"methods": methods})
        return [note for note in table_vi(mixed, summarise(mixed)).notes if "as their authors published it" in note]

    assert warned("common") == []
    assert "not by the common protocol: GFF. Their difference" in warned("official")[0]


def test_contamination_and_failure_are_said_in_the_main_table(report: Path):
    text = (report / "table_vi.md").read_text(encoding="utf-8")
    assert "GFF†" in text
    assert "† GFF: the weights were trained" in text
    assert "https://example.org/ddfm" in text
    assert "| failed |" in text


def test_headline_stays_honest():
    clear = by_hand(
        {
            "vi": {0: (0.6, [0.6] * 1000), 1: (0.6, [0.6] * 1000)},
            "gff": {0: (0.7, [0.7] * 1000), 1: (0.7, [0.7] * 1000)},
        }
    )
    assert "helps most: 10.0 points above VI alone" in headline(clear, summarise(clear)).answer
    worse = by_hand({"vi": {0: (0.6, FLAT)}, "gff": {0: (0.5, FLAT)}})
    assert "no fusion beat VI alone" in headline(worse, summarise(worse)).answer
    lonely = by_hand({"gff": {0: (0.5, FLAT)}})
    assert "no control was run" in headline(lonely, summarise(lonely)).answer
    empty = by_hand({})
    assert "No method finished" in headline(empty, summarise(empty)).answer
    few = by_hand({"vi": {0: (0.6, [0.6] * 20)}, "gff": {0: (0.7, [0.7] * 20)}})
    assert any("20 bootstrap replicates" in text for text in headline(few, summarise(few)).details)
    assert any("One training seed" in text for text in headline(few, summarise(few)).details)
