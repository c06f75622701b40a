"""A training in a process of its own is the training it would have been in this one, other people's methods included."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

pytest.importorskip("lightning", reason="Lightning is not installed")

from training_jobs import SETTINGS, job_of, write_pairs

from fusion_det.errors import StageError
from fusion_det.fusion.training.launch import TrainOrder, order_from_plain, run_training
from fusion_det.fusion.training.trainer import train
from fusion_det.progress import NoProgress

pytestmark = pytest.mark.usefixtures("fresh_registry")
SETTINGS_22 = replace(SETTINGS, crop=22, steps=4)
"""Crops of 22 pixels grow to 24, which the network takes."""


class StopsAtFirstStep(NoProgress):
    def __init__(self) -> None:
        self.cancelled = threading.Event()

    def start(self, description: str, total: int | None, done: int = 0) -> None:
        self.cancelled.set()


def order_of(pairs: Path, out: Path, method: str = "learner") -> TrainOrder:
    return TrainOrder(method, job_of(pairs, out).mixture, SETTINGS_22, out, provenance={"commit": "abc"})


def test_it_is_the_same_training(tmp_path: Path) -> None:
    pairs = write_pairs(tmp_path / "pairs")
    stops = StopsAtFirstStep()
    with pytest.raises(StageError, match="stopped on request"):
        run_training(order_of(pairs, tmp_path / "out"), stops, stops.cancelled)
    assert not (tmp_path / "out" / "last.json").exists() or (tmp_path / "out" / "state.pt").exists()
    facts = run_training(order_of(pairs, tmp_path / "out"), NoProgress())
    assert (facts["steps"], facts["total"]) == (4, 4)
    train(job_of(pairs, tmp_path / "here", steps=4))
    ours, theirs = (load_file(tmp_path / name / "last.safetensors") for name in ("out", "here"))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert '"commit": "abc"' in (tmp_path / "out" / "last.json").read_text()


def test_what_goes_wrong_is_told(tmp_path: Path) -> None:
    pairs = write_pairs(tmp_path / "pairs", count=4)
    with pytest.raises(
        StageError, match=r"training breaking process failed .*loss became (nan|inf) in step 1 .*log.txt"
    ):
        run_training(order_of(pairs, tmp_path / "out", "breaking"), NoProgress())


def test_an_order_goes_through_json(tmp_path: Path) -> None:
    import json

    from fusion_det.fusion.training.launch import order_as_plain

    order = order_of(write_pairs(tmp_path / "pairs"), tmp_path / "out")
    again = order_from_plain(json.loads(json.dumps(order_as_plain(order))))
    assert again.mixture.digest == order.mixture.digest
    assert again == order
