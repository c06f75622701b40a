"""Training in a process of its own: two trainings at a time must not draw from one generator of random numbers."""

from __future__ import annotations

import os
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fusion_det.data.pair import PairRecord
from fusion_det.files import write_json
from fusion_det.fusion.registry import default_registry
from fusion_det.fusion.training.mixture import Member, Mixture
from fusion_det.fusion.training.settings import TrainSettings, settings_from_json
from fusion_det.processes import Event, run_worker
from fusion_det.progress import Progress

JOB_FILE = "job.json"


@dataclass(frozen=True)
class TrainOrder:
    """What a training process is told: plain data, but for the pairs. The training itself is a ``TrainJob``.

    settings: its crops grow to the next size that the network takes.
    threads: CPU threads. The rest: see :class:`fusion_det.fusion.training.trainer.TrainJob`.
    """

    method: str
    mixture: Mixture
    settings: TrainSettings
    out: Path
    config: str | None = None
    device: str = "cpu"
    threads: int = 1
    workers: int = 0
    classifier_weights: Path | None = None
    provenance: dict[str, Any] = field(default_factory=dict)


def run_training(order: TrainOrder, progress: Progress, cancelled: threading.Event | None = None) -> dict[str, Any]:
    """Train in a fresh process, or go on with the training that was interrupted in ``order.out``, and wait for it.

    Returns:
        ``steps``, ``total``, ``seconds`` and ``best_step``, of its :class:`~fusion_det.fusion.training.trainer.TrainSummary`.

    Raises:
        StageError: the process failed, was killed or cancelled; names its log and the last words in it.
    """
    order.out.mkdir(parents=True, exist_ok=True)
    job = order.out / JOB_FILE
    write_json(job, {**order_as_plain(order), "module": _module(order.method)}, indent=None)
    shown = _Shown(progress)
    events = run_worker(
        "fusion_det.fusion.training.worker",
        job,
        what=f"training {order.method}",
        cure="try a smaller batch or crop, or --jobs 1",
        heard=shown.hear,
        environment=os.environ | {"OMP_NUM_THREADS": str(order.threads), "MKL_NUM_THREADS": str(order.threads)},
        cancelled=cancelled,
    )
    progress.finish()
    return {name: value for name, value in events[-1].items() if name != "event"}


class _Shown:
    """Shows the events of a training process."""

    def __init__(self, progress: Progress) -> None:
        self.progress, self.done = progress, 0

    def hear(self, event: Event) -> None:
        if event["event"] == "start":
            self.done = event["done"]
            self.progress.start(event["description"], event["total"], self.done)
        elif event["event"] == "step":
            self.progress.advance(event["done"] - self.done, event["note"])
            self.done = event["done"]


def order_as_plain(order: TrainOrder) -> dict[str, Any]:
    """What goes into the job file. Boxes are left behind: nothing is learnt from them."""
    mixture = order.mixture
    parts = {name: [_member(m) for m in getattr(mixture, name)] for name in ("train", "validation")}
    return {
        **{name: getattr(order, name) for name in ("method", "config", "device", "threads", "workers", "provenance")},
        "mixture": {**parts, "origins": list(mixture.origins)},
        "settings": order.settings.as_json(),
        "out": str(order.out),
        "classifier_weights": None if order.classifier_weights is None else str(order.classifier_weights),
    }


def _member(member: Member) -> dict[str, Any]:
    record = member.record
    return {
        "dataset": member.dataset,
        "stem": record.stem,
        "ir": str(record.ir),
        "vi": str(record.vi),
        "width": record.width,
        "height": record.height,
        "content": record.content,
        "task": record.task,
    }


def order_from_plain(tree: dict[str, Any]) -> TrainOrder:
    """The inverse of :func:`order_as_plain`."""
    mixture = {
        part: tuple(_member_from_plain(dict(entry)) for entry in tree["mixture"][part])
        for part in ("train", "validation")
    }
    weights = tree["classifier_weights"]
    return TrainOrder(
        **{name: tree[name] for name in ("method", "config", "device", "threads", "workers", "provenance")},
        mixture=Mixture(**mixture, origins=tuple(tree["mixture"]["origins"])),
        settings=settings_from_json(tree["settings"]),
        out=Path(tree["out"]),
        classifier_weights=None if weights is None else Path(weights),
    )


def _member_from_plain(entry: dict[str, Any]) -> Member:
    dataset = entry.pop("dataset")
    return Member(dataset, PairRecord(**{**entry, "ir": Path(entry["ir"]), "vi": Path(entry["vi"])}))


def _module(method: str) -> dict[str, str] | None:
    """Name of the module of a method that is not this package's, and the folder it is found in (its top-level package's)."""
    module = default_registry().get(method).module
    top = module.partition(".")[0]
    if top == __name__.partition(".")[0]:
        return None
    file = Path(str(sys.modules[top].__file__))
    return {"name": module, "folder": str(file.parent.parent if file.name == "__init__.py" else file.parent)}
