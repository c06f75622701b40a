"""Comparing two experiments, and the verb."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from fusion_det.cli.report import load_results, report
from fusion_det.errors import ConfigError
from fusion_det.pipeline.experiment import write_report
from fusion_det.pipeline.results import ExperimentResults
from fusion_det.report import compare_reports


def app() -> typer.Typer:
    application = typer.Typer()
    application.command()(report)
    return application


@pytest.fixture
def runs(results: ExperimentResults, tmp_path: Path) -> Path:
    results.save(tmp_path / "runs/experiments/fake/results.json")
    return tmp_path / "runs"


def test_other_splits_or_data_never_meet_in_a_table(results: ExperimentResults):
    other = results.model_copy(update={"split": results.split.model_copy(update={"digest": "0" * 64})})
    with pytest.raises(ConfigError, match="splits differ"):
        compare_reports(results, other)
    data = results.model_copy(update={"dataset": results.dataset.model_copy(update={"content_digest": "1" * 64})})
    with pytest.raises(ConfigError, match="data differ"):
        compare_reports(results, data)


def test_differences_by_method_and_warning_on_the_detector(results: ExperimentResults):
    shifted = tuple(
        r.model_copy(update={"metrics": r.metrics | {"mAP50": r.metrics["mAP50"] + 0.02}}) if r.status == "ok" else r
        for r in results.runs
        if r.method != "mean"
    )
    other = results.model_copy(
        update={
            "runs": shifted,
            "experiment": "later",
            "detector": results.detector | {"epochs": 40},
            "methods": tuple(m for m in results.methods if m.name != "mean"),
        }
    )
    text = compare_reports(results, other)
    assert "epochs 12 → 40" in text
    row = next(line for line in text.splitlines() if line.startswith("| GFF†"))
    assert "| +2.0 |" in row
    assert row.endswith("| 3 of 3 |")
    assert "not run" in next(line for line in text.splitlines() if line.startswith("| Mean"))
    assert "DEMO" in text
    assert "Warning" not in compare_reports(results, results)


def test_other_bootstraps_give_no_interval_and_say_so(results: ExperimentResults):
    runs = tuple(
        r.model_copy(update={"metrics": r.metrics | {"bootstrap": r.metrics["bootstrap"] | {"unit": "run"}}})
        if r.method == "mean"
        else r
        for r in results.runs
    )
    text = compare_reports(results, results.model_copy(update={"runs": runs}))
    assert "another precision" not in text
    other = tuple(r.model_copy(update={"precision": "bf16"}) if r.method == "mean" else r for r in results.runs)
    assert "Mean were trained in another precision" in compare_reports(
        results, results.model_copy(update={"runs": other})
    )
    assert "bootstraps of Mean drew other images" in text
    assert "| – |" in next(line for line in text.splitlines() if line.startswith("| Mean"))


def test_the_same_weights_elsewhere_are_no_difference(results: ExperimentResults):
    here, there = (
        results.model_copy(update={"detector": results.detector | {"weights_file": f, "weights_sha256": "a" * 64}})
        for f in ("/home/a/yolov5s.pt", "/home/b/yolov5s.pt")
    )
    assert "Warning" not in compare_reports(here, there)
    other = there.model_copy(update={"detector": there.detector | {"weights_sha256": "b" * 64}})
    assert "weights_sha256" in compare_reports(here, other)


def test_unknown_experiment_names_those_there_are(runs: Path):
    with pytest.raises(ConfigError, match=r"Experiments in .*: fake"):
        load_results("fak", runs)
    with pytest.raises(ConfigError, match="no experiments"):
        load_results(None, runs / "elsewhere")
    (runs / "experiments" / "half").mkdir()
    with pytest.raises(ConfigError, match="not finished"):
        load_results("half", runs)
    assert load_results(None, runs).experiment == "fake"
    assert load_results(str(runs / "experiments/fake"), runs).experiment == "fake"


def test_results_of_another_version_are_refused(runs: Path):
    path = runs / "experiments/fake/results.json"
    path.write_text(path.read_text().replace('"schema_version": 1', '"schema_version": 99', 1))
    with pytest.raises(ConfigError, match="schema 99"):
        load_results("fake", runs)
    path.write_text("{}")
    with pytest.raises(ConfigError, match="not results"):
        load_results("fake", runs)


def test_what_the_verb_wrote_the_next_run_keeps_but_the_verb_writes_again(runs: Path, tmp_path: Path):
    def built() -> int:
        assert CliRunner().invoke(app(), ["fake", "--runs", str(runs), "--reports", str(tmp_path)]).exit_code == 0
        return (tmp_path / "fake/index.html").stat().st_mtime_ns

    first = built()
    page = write_report(load_results("fake", runs), tmp_path / "fake")
    assert page.stat().st_mtime_ns == first
    assert built() > first


def test_the_verb_writes_the_report(runs: Path, tmp_path: Path):
    done = CliRunner().invoke(app(), ["fake", "--runs", str(runs), "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "out/index.html").is_file()
    parent = CliRunner().invoke(app(), ["fake", "--runs", str(runs), "--reports", str(tmp_path / "pages")])
    assert parent.exit_code == 0, parent.output
    assert (tmp_path / "pages/fake/index.html").is_file()
    both = CliRunner().invoke(app(), ["--runs", str(runs), "--compare", "fake", "fake"])
    assert both.exit_code == 0, both.output
    assert "B − A" in both.output
