"""Figures, tables, pictures and the page of results made by hand."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from made import BUDGET, PRINTED, STEMS, VALUES, WHOLE, write_results

from fusion_det.ablation.charts import change_chart
from fusion_det.ablation.entropy_figure import entropy_answer, read_entropies
from fusion_det.ablation.pictures import most_different
from fusion_det.ablation.report import answer, build_ablation_report, details
from fusion_det.ablation.results import AblationResults
from fusion_det.ablation.summary import AblationSummary, agreement, summarise
from fusion_det.ablation.tables import ablation_table, published_table, stamps


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> AblationResults:
    return write_results(tmp_path_factory.mktemp("made"))


@pytest.fixture(scope="module")
def summary(results: AblationResults) -> AblationSummary:
    return summarise(results)


def row(summary: AblationSummary, name: str):
    return next(v for v in summary.variants if v.info.name == name)


def test_means_and_differences_by_hand(summary: AblationSummary) -> None:
    for name, table in VALUES.items():
        for metric, values in table.items():
            found = row(summary, name)
            assert found.mean[metric].value == pytest.approx(values.mean())
            assert found.spread[metric] == pytest.approx(values.mean(1).std(ddof=1))
            assert found.mean[metric].low <= values.mean() <= found.mean[metric].high
            if name != "whole":
                change = 100 * (values.mean() / WHOLE[metric].mean() - 1)
                assert found.change[metric].value == pytest.approx(change, abs=1e-9)
    worse = row(summary, "worse")
    # Every pair is worse by the same share, so no drawing of pairs gives another difference.
    assert (worse.change["SF"].low, worse.change["SF"].high) == pytest.approx((-10, -10))
    assert (worse.change["SF"].sign, row(summary, "same").change["SF"].sign) == (-1, 0)
    assert worse.printed_change == pytest.approx({"SF": -10.0, "Qabf": -20.0})
    assert row(summary, "whole").change == {"SF": None, "Qabf": None}


def test_an_interval_is_that_of_resampled_pairs(summary: AblationSummary) -> None:
    drawn = np.random.default_rng(5).integers(0, 6, (20_000, 6))
    means = VALUES["same"]["SF"].mean(0)[drawn].mean(1)
    low, high = np.quantile(means, [0.025, 0.975])
    found = row(summary, "same").mean["SF"]
    assert (found.low, found.high) == pytest.approx((low, high), rel=0.01)


def test_what_of_the_paper_comes_out_here(summary: AblationSummary) -> None:
    """SF and Qabf of "worse" fall in both; "same" falls in SF and rises in Qabf there, and is undecided here."""
    found = agreement(summary)
    assert (found.agree, found.contradict, found.undecided, found.total) == (2, 0, 2, 4)
    assert answer(summary) == "Of 3 variants measured by SF and Qabf, Ours is first in Qabf."
    upside_down = {name: tuple(-v for v in values) for name, values in PRINTED.items()}
    published = summary.results.published.model_copy(update={"rows": upside_down})
    assert agreement(summarise(summary.results.model_copy(update={"published": published}))).agree == 2


def test_a_pair_without_a_value_counts_for_no_variant(results: AblationResults, tmp_path: Path) -> None:
    document = json.loads(results.trials[0].values.read_text())
    document["values"]["SF"][2] = None
    file = tmp_path / "quality.json"
    file.write_text(json.dumps(document))
    trials = (results.trials[0].model_copy(update={"values": file}), *results.trials[1:])
    found = summarise(results.model_copy(update={"trials": trials}))
    assert found.counted == {"SF": 5, "Qabf": 6}
    assert row(found, "whole").mean["SF"].value == pytest.approx(np.delete(WHOLE["SF"], 2, axis=1).mean())
    assert "Only on the pairs that every variant has a value of: SF (5 of 6)." in ablation_table(found).notes


def test_the_budget_stands_on_every_table(summary: AblationSummary, results: AblationResults) -> None:
    (stamp,) = stamps(results)
    assert stamp == (
        "SHORT TRAINING: trained 60 steps of batch 2 on 120 pairs (1.0 epochs), crops of 61 pixels, far from the paper's 800 "
        "epochs"
    )
    assert ablation_table(summary).stamps == published_table(summary).stamps == (stamp,)
    whole = BUDGET.model_copy(update={"steps": 48_000})
    assert stamps(results.model_copy(update={"budget": whole})) == ()
    timed = BUDGET.model_copy(update={"steps": None, "minutes": 5.0})
    assert "trained 5.0 minutes" in stamps(results.model_copy(update={"budget": timed, "synthetic": True}))[1]


def test_tables_say_what_is_missing(summary: AblationSummary) -> None:
    table = ablation_table(summary)
    broken = next(r for r in table.rows if r[0].text == "Broken")
    assert [cell.text for cell in broken] == ["Broken", "3.000", "2.500", "–", "–"]
    assert any("training failed: NaN. Log: /x/log.txt" in note for note in table.notes)
    beside = published_table(summary)
    cells = dict(zip(beside.head, beside.rows[0], strict=True))
    assert (cells["SF ↑ printed"].text, cells["SF ↑ printed"].note) == ("9.000", "−10.0 %")
    assert cells["SF ↑ ours"].note == "−10.0 %"
    same = dict(zip(beside.head, beside.rows[1], strict=True))
    assert same["SF ↑ ours"].note.endswith("?")


def test_networks_that_have_not_learnt_to_fuse_prove_nothing(results: AblationResults, tmp_path: Path) -> None:
    """Where the whole method is not above the plain mean of both sources, its variants are not judged."""
    learnt = summarise(results)
    assert (learnt.has_learnt, learnt.control) == (True, {"SF": 8.0, "Qabf": 0.45})
    assert "come out with the same sign" in " ".join(details(learnt))
    assert ablation_table(learnt).rows[-1][3].text == "8.000"
    values = {"SF": [8.0] * 6, "Qabf": [0.9] * 6}
    file = tmp_path / "plain.json"
    file.write_text(json.dumps({"stems": STEMS, "values": values, "unavailable": {}}))
    beaten = summarise(results.model_copy(update={"control": file}))
    assert [metric.name for metric in beaten.below_control] == ["Qabf"]
    assert "Ours is below the plain mean of both sources in Qabf." in details(beaten)
    text = " ".join(details(beaten))
    assert "has not learnt to fuse yet" in text and "same sign" not in text
    without = summarise(results.model_copy(update={"control": None}))
    assert without.has_learnt and len(ablation_table(without).rows) == 4


def test_trainings_by_unlike_programs_are_told(results: AblationResults) -> None:
    notes = " ".join(ablation_table(summarise(results)).notes)
    assert "program changed" not in notes
    changed = (results.trials[0].model_copy(update={"commit": "0123456789ab"}), *results.trials[1:])
    notes = " ".join(ablation_table(summarise(results.model_copy(update={"trials": changed}))).notes)
    assert "program changed between the trainings" in notes and "Exp.1 Less <1> 01234567" in notes


def test_one_seed_is_said_to_be_one(results: AblationResults) -> None:
    once = results.model_copy(update={"trials": tuple(t for t in results.trials if t.seed == 0)})
    notes = " ".join(ablation_table(summarise(once)).notes)
    assert "say nothing of what another seed would give" in notes
    assert "Means over 2 trainings" in " ".join(ablation_table(summarise(results)).notes)


def test_entropies_are_paired(results: AblationResults) -> None:
    found = read_entropies(results)
    assert found is not None
    assert found.difference["Less <1>"].value == pytest.approx(-2.0)
    assert (found.difference["Less <1>"].low, found.difference["Less <1>"].high) == pytest.approx((-2, -2))
    text = entropy_answer(found, "made_up")
    assert "Ours is lower than Less <1>: mean difference −2.00, 95 % −2.00 to −2.00" in text
    assert len(found.variants["Ours"]) == 12
    assert read_entropies(results.model_copy(update={"entropy_of": ("broken",)})) is None


def test_the_square_that_differs_most() -> None:
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (25, 31), dtype=np.uint8) for _ in range(3)]
    left, top, side = most_different(images)
    spread = np.stack(images).astype(float).std(0)
    sums = {
        (x, y): spread[y : y + side, x : x + side].sum() for x in range(31 - side + 1) for y in range(25 - side + 1)
    }
    assert side == 7
    assert (left, top) == max(sums, key=sums.get)
    assert most_different([images[0]])[2] == 7


def test_the_report_and_the_same_bytes_again(results: AblationResults, tmp_path: Path) -> None:
    page = build_ablation_report(results, tmp_path / "a")
    build_ablation_report(AblationResults.model_validate_json(results.model_dump_json()), tmp_path / "b")
    files = sorted(f.relative_to(tmp_path / "a") for f in (tmp_path / "a").rglob("*") if f.is_file())
    assert [str(f) for f in files] == [
        "ablation.csv", "ablation.json", "ablation.md", "ablation.tex", "ablation_per_image.csv", "ablation_published.md",
        "ablation_published.tex", "entropy.csv", "figures/ablation.svg", "figures/entropy.pdf", "figures/entropy.png",
        "figures/entropy.svg", "index.html", "panels.png",
    ]  # fmt: skip
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes(), file
    text = page.read_text(encoding="utf-8")
    assert "SHORT TRAINING" in text and "Less &lt;1&gt;" in text and "<1>" not in text
    assert text.count('class="panel"') == 2 * 2 * 5
    for name in ("ablation", "entropy"):
        ElementTree.parse(tmp_path / "a" / "figures" / f"{name}.svg")
    rows = list(csv.DictReader((tmp_path / "a" / "ablation.csv").open()))
    assert {(r["variant"], r["metric"]) for r in rows} == {(v, m) for v in (*VALUES, "broken") for m in ("SF", "Qabf")}
    images = list(csv.DictReader((tmp_path / "a" / "ablation_per_image.csv").open()))
    assert len(images) == 3 * 2 * 6 and {r["stem"] for r in images} == set(STEMS)
    document = json.loads((tmp_path / "a" / "ablation.json").read_text())
    assert document["variants"][0]["figures"]["SF"]["printed"] == 9.0


def test_a_report_of_nothing_but_failures(results: AblationResults, tmp_path: Path) -> None:
    failed = tuple(
        t.model_copy(update={"values": None, "images": None, "entropies": None, "reason": "no"}) for t in results.trials
    )
    nothing = results.model_copy(update={"trials": failed})
    text = build_ablation_report(nothing, tmp_path).read_text(encoding="utf-8")
    assert "cannot be compared: 0 of 4 variants have figures" in text
    assert "Not in the figure" in text
    assert change_chart(summarise(nothing), columns=4, panel=200) is None


def test_a_folder_that_is_gone_is_said_to_be(results: AblationResults, tmp_path: Path) -> None:
    gone = tuple(
        t.model_copy(update={"images": tmp_path / "gone", "values": tmp_path / "gone.json"})
        if t.variant == "same"
        else t
        for t in results.trials
    )
    text = build_ablation_report(results.model_copy(update={"trials": gone}), tmp_path / "out").read_text()
    assert "No longer where they were: a by Exp.2 Same and d by Exp.2 Same" in text
    assert "no longer in the store" in text
