"""One made-up experiment and its report, made once."""

from __future__ import annotations

from pathlib import Path

import pytest
from fake import fake_results

from fusion_det.pipeline.results import ExperimentResults
from fusion_det.report import build_report


@pytest.fixture(scope="session")
def results(tmp_path_factory: pytest.TempPathFactory) -> ExperimentResults:
    return fake_results(tmp_path_factory.mktemp("experiment"))


@pytest.fixture(scope="session")
def report(results: ExperimentResults, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("report")
    build_report(results, out)
    return out
