"""The training process: ``python -m fusion_det.fusion.training.worker JOB.json``, started by :mod:`.launch`."""

from __future__ import annotations

import json
import logging
import sys
from dataclasses import replace
from pathlib import Path

import torch

from fusion_det.fusion import get_card, load_method_modules
from fusion_det.fusion.method import padded_size
from fusion_det.fusion.training.launch import order_from_plain
from fusion_det.fusion.training.trainer import TrainJob, train, trainable
from fusion_det.processes import Events, serve


class Told:
    """Progress (see :class:`fusion_det.progress.Progress`) that is told to the parent."""

    def __init__(self, events: Events) -> None:
        self._events, self._done = events, 0

    def start(self, description: str, total: int | None, done: int = 0) -> None:
        self._done = done
        self._events.send("start", description=description, total=total, done=done)

    def advance(self, steps: int = 1, note: str = "") -> None:
        self._done += steps
        self._events.send_now_and_then("step", done=self._done, note=note)

    def tell(self, message: str) -> None:
        self._events.send("step", done=self._done, note=message)

    def finish(self, note: str = "") -> None:
        self._events.send("step", done=self._done, note=note)


def work(job_file: Path, events: Events) -> None:
    """Train what the job file says."""
    tree = json.loads(job_file.read_text(encoding="utf-8"))
    if tree["module"] is not None:
        sys.path.append(tree["module"]["folder"])
        load_method_modules([tree["module"]["name"]])
    order = order_from_plain(tree)
    torch.set_num_threads(order.threads)
    card = get_card(order.method)
    settings = replace(order.settings, crop=padded_size(order.settings.crop, card))
    _, config = trainable(order.method, order.config, settings.crop)
    job = TrainJob(
        method=order.method,
        mixture=order.mixture,
        settings=settings,
        out=order.out,
        config=config,
        device=order.device,
        workers=order.workers,
        classifier_weights=order.classifier_weights,
        provenance=order.provenance,
    )
    summary = train(job, Told(events))
    facts = {name: getattr(summary, name) for name in ("steps", "total", "seconds", "best_step")}
    events.send("done", **facts)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")
    sys.exit(serve(sys.argv[1:], work))
