"""``train``: from a mixture of pairs to checkpoints that the rest of this project loads."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from lightning.fabric import Fabric
from torch.utils.data import DataLoader

from fusion_det.data.splits import ranked_by_hash
from fusion_det.errors import ConfigError, MethodError
from fusion_det.files import digest_file, digest_json, replace_atomically
from fusion_det.fusion.build import build_method, check_config, get_card
from fusion_det.fusion.checkpoint import read_checkpoint
from fusion_det.fusion.method import FusionMethod, MethodCard, padded_size
from fusion_det.fusion.training.data import Batch, crop_loader
from fusion_det.fusion.training.loop import Progress, TrainingLoop
from fusion_det.fusion.training.mixture import Member, Mixture, every_task_first
from fusion_det.fusion.training.records import plot_curve, write_checkpoint, write_curve, write_samples
from fusion_det.fusion.training.settings import TrainSettings
from fusion_det.machine import device_name, freed_memory_kept
from fusion_det.progress import NoProgress
from fusion_det.progress import Progress as Shown
from fusion_det.seeds import derive_seed

SCHEMA = 1
STATE_FILE, BEST_FILE, LAST_FILE = "state.pt", "best.safetensors", "last.safetensors"
STATE_EVERY = 60.0
"""Seconds between two writings of the state: the most that a kill can cost."""
SAMPLES, CALIBRATION_PAIRS = 4, 64
_SPARE = 0.93
"""Share of ``minutes`` that is planned for steps; the rest is for validation and pictures."""


@dataclass(frozen=True)
class TrainJob:
    """A training and where its results go.

    method, config: the network. out: folder of the results, of this training alone. workers: processes that read.
    provenance: put on the cards as it is (commit, versions). classifier_weights: a file instead of the usual weights.
    start_from: weights of this network to begin with, in the place of random ones.
    """

    method: str
    mixture: Mixture
    settings: TrainSettings
    out: Path
    config: str | None = None
    device: str = "cpu"
    workers: int = 1
    classifier_weights: Path | None = None
    start_from: Path | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def identity(self) -> str:
        """Digest of all that decides what is learnt: a state is continued only by the same training."""
        what = [
            self.method,
            self.config,
            self.settings.as_json(),
            self.mixture.digest,
            _digest(self.classifier_weights),
        ]
        return digest_json(what if self.start_from is None else [*what, _digest(self.start_from)])


@dataclass(frozen=True)
class TrainSummary:
    """What a training came to; ``validation`` and ``rows`` are those of ``curve.csv``. resumed_at: step it went on from.

    pairs_per_second: over the steps of this call, reading included; None if it had nothing left to do.
    """

    steps: int
    total: int
    seconds: float
    resumed_at: int
    pairs_per_second: float | None
    best_step: int
    rows: tuple[dict[str, float], ...]


def trainable(name: str, config: str | None, crop: int) -> tuple[MethodCard, str | None]:
    """The card and full configuration name of a network that can be trained on crops of this size.

    Raises:
        MethodError: no such method or configuration, or it has nothing to learn.
        ConfigError: the network takes no images of this size.
    """
    card = get_card(name)
    if card.weights is None:
        raise MethodError(f"{name} learns nothing, so it cannot be trained")
    if (fits := padded_size(crop, card)) != crop:
        raise ConfigError(f"--crop {crop}: {name} takes squares of {fits} pixels, for instance")
    return card, check_config(card, config)


def train(job: TrainJob, shown: Shown | None = None) -> TrainSummary:
    """Train, or go on with the training that was interrupted in ``job.out``.

    Leaves there: ``best.safetensors`` (lowest validation loss; without validation pairs lowest training loss) and
    ``last.safetensors``, each with its card as ``.json``; ``curve.csv`` and ``curve.png``; ``samples/epoch_N.png``; ``state.pt``.

    Raises:
        ConfigError: ``job.out`` holds another training; options that do not go together.
        MethodError: the network cannot be trained. StageError: loss or gradient became NaN.
    """
    card, config = trainable(job.method, job.config, job.settings.crop)
    state = _read_state(job)
    torch.manual_seed(derive_seed("network", job.settings.seed))
    method = build_method(job.method, weights=job.start_from, config=config)
    if not isinstance(method, FusionMethod) or method.network is None:
        raise MethodError(f"{job.method} keeps its network to itself (no .network), so it cannot be trained")
    fabric = Fabric(
        accelerator=job.device.partition(":")[0],
        devices=[int(job.device.partition(":")[2] or 0)] if ":" in job.device else 1,
        precision=_precision(job),
    )
    loader = _loader(job, job.mixture.train, seed=job.settings.seed)
    epochs = job.settings.epochs * max(1, len(loader) // job.settings.accumulate)
    progress = Progress(total=job.settings.steps or epochs)
    recipe = method.recipe(job.settings, job.classifier_weights)
    loop = TrainingLoop(recipe, loader, job.settings, progress, fabric)
    with freed_memory_kept():
        if state is not None:
            loop.restore(state)
        else:
            _prepare(job, loop)
        recorder = _Recorder(job, card, config, method, loop, shown or NoProgress())
        return recorder.run()


def _prepare(job: TrainJob, loop: TrainingLoop) -> None:
    """What a fresh training settles before its first step: what its recipe wants to know, the steps that fit into the time."""
    middles = _loader(job, _chosen(job.mixture.train, CALIBRATION_PAIRS), seed=None)
    loop.recipe.prepare(loop.sources(batch) for batch in middles)
    if job.settings.minutes is not None:
        loop.progress.total = max(1, int(_SPARE * 60 * job.settings.minutes / loop.measure()))


class _Recorder:
    """Runs the loop, and writes down what happens."""

    def __init__(
        self,
        job: TrainJob,
        card: MethodCard,
        config: str | None,
        method: FusionMethod,
        loop: TrainingLoop,
        shown: Shown,
    ) -> None:
        self.job, self.card, self.config, self.method, self.loop, self.shown = job, card, config, method, loop, shown
        held_out = job.mixture.validation
        self.validation = _loader(job, held_out, seed=None) if held_out else None
        self.samples = _chosen(held_out or job.mixture.train, SAMPLES)
        self.saved = time.monotonic()

    def run(self) -> TrainSummary:
        progress, settings = self.loop.progress, self.job.settings
        resumed_at, seconds = progress.step, progress.seconds
        self.shown.start(f"training {self.job.method}", progress.total, done=progress.step)
        self._save_state()  # so that a folder with checkpoints always has one
        if self._has_time():
            self.loop.run(self._after_step)
        steps = progress.step - resumed_at
        if progress.counted:
            self._end_epoch()
        if steps and self.loop.phase.fuses:
            with self.loop.averaged():
                self._draw()
        self._save_state()
        self.shown.finish()
        pairs = steps * settings.accumulate * min(settings.batch, len(self.job.mixture.train))
        return TrainSummary(
            steps=progress.step,
            total=progress.total,
            seconds=progress.seconds,
            resumed_at=resumed_at,
            pairs_per_second=pairs / (progress.seconds - seconds) if steps else None,
            best_step=progress.best_step,
            rows=tuple(progress.rows),
        )

    def _after_step(self) -> bool:
        progress = self.loop.progress
        mean = progress.sums["total"] / progress.counted
        self.shown.advance(1, note=f"epoch {len(progress.rows) + 1}, loss {mean:.3f}")
        if progress.step % self.loop.steps_per_epoch == 0 or progress.step in self.loop.phase_ends:
            self._end_epoch()
        if time.monotonic() - self.saved >= STATE_EVERY:
            self._save_state()
        return self._has_time()

    def _has_time(self) -> bool:
        """False when ``minutes`` are over though steps are left, because the machine became slower than it was measured."""
        minutes = self.job.settings.minutes
        return minutes is None or self.loop.progress.seconds < 60 * minutes

    def _end_epoch(self) -> None:
        """Write down where the training is: at the end of every epoch and of every phase."""
        progress, phase = self.loop.progress, self.loop.phase
        row = {
            "epoch": progress.step / self.loop.steps_per_epoch,
            "step": progress.step,
            "seconds": progress.seconds,
            "rate": self.loop.rate,
            **{name: value / progress.counted for name, value in progress.sums.items()},
        }
        progress.sums, progress.counted = {}, 0
        started = time.perf_counter()
        with self.loop.averaged():
            if self.validation is not None:
                row |= {f"val_{name}": value for name, value in self.loop.validate(self.validation, phase).items()}
            progress.rows.append(row)
            if phase.fuses:
                self._keep(row)
        write_curve(self.job.out / "curve.csv", progress.rows)
        progress.seconds += time.perf_counter() - started

    def _keep(self, row: Mapping[str, float]) -> None:
        """The weights as they are, also as the best ones if they are, and now and then pictures."""
        progress = self.loop.progress
        judged = row.get("val_total", row["total"])
        if progress.best is None or judged < progress.best:
            progress.best, progress.best_step = judged, progress.step
            self._write(BEST_FILE, row)
        epochs = len(progress.rows)
        if epochs == 1 or epochs % self.job.settings.sample_every == 0:
            self._draw()
        self._write(LAST_FILE, row)

    def _draw(self) -> None:
        """The loss so far, and the sample pairs as the network fuses them now."""
        rows, out = self.loop.progress.rows, self.job.out
        self.loop.recipe.networks.eval()
        sheet = out / "samples" / f"epoch_{len(rows):04d}.png"
        write_samples(sheet, self.method, self.samples, str(self.loop.fabric.device))
        plot_curve(out / "curve.png", rows, "demo" if self.job.mixture.synthetic else "")

    def _write(self, file: str, row: Mapping[str, float]) -> None:
        job, progress = self.job, self.loop.progress
        if self.method.network is None:  # for the type checker
            raise TypeError("nothing to write")
        start = _described(job.start_from)
        earlier = (start or {}).get("card") or {}  # what those weights have seen, these have seen
        card = {
            "schema": SCHEMA,
            "method": job.method,
            "config": self.config,
            "trained_on": sorted({*job.mixture.families, *earlier.get("trained_on", ())}),
            "synthetic": job.mixture.synthetic,
            "data": [*job.mixture.origins, *(o for o in earlier.get("data", ()) if o not in job.mixture.origins)],
            "data_digest": job.mixture.digest,
            "settings": job.settings.as_json(),
            **self.loop.recipe.state(),
            "started_from": start,
            "deviations": self.loop.recipe.deviations,
            "step": progress.step,
            "steps_planned": progress.total,
            "losses": dict(row),
            "device": device_name(job.device),
            **job.provenance,
        }
        write_checkpoint(job.out / file, self.method.network, card)

    def _save_state(self) -> None:
        with replace_atomically(self.job.out / STATE_FILE) as temporary:
            torch.save({"identity": self.job.identity, **self.loop.state()}, temporary)
        self.saved = time.monotonic()


def _read_state(job: TrainJob) -> dict[str, Any] | None:
    """The state of this training, None if none was begun in its folder."""
    file = job.out / STATE_FILE
    if not file.is_file():
        if (job.out / LAST_FILE).exists():
            raise ConfigError(f"{job.out} holds checkpoints of another training; choose another --out")
        return None
    state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
    if state.pop("identity") != job.identity:
        raise ConfigError(
            f"{job.out} holds a training of another network, other pairs or other settings; choose another --out, or give the "
            "options it was begun with to go on with it"
        )
    return state


def _digest(file: Path | None) -> str | None:
    return None if file is None else digest_file(file)


def _described(file: Path | None) -> dict[str, Any] | None:
    """The digest of a file of weights, and what it says of its own training."""
    if file is None:
        return None
    _, strings = read_checkpoint(file)
    return {"sha256": digest_file(file), "card": json.loads(strings["card"]) if "card" in strings else None}


def _loader(job: TrainJob, members: tuple[Member, ...], seed: int | None) -> DataLoader[Batch]:
    settings = job.settings
    return crop_loader(
        members,
        size=settings.crop,
        batch=settings.batch,
        seed=seed,
        workers=job.workers if seed is not None else 0,
        pin_memory=job.device.startswith("cuda"),
    )


def _chosen(members: tuple[Member, ...], most: int) -> tuple[Member, ...]:
    """Some of the members, the same ones every time; of every task at least one, if there are ``most`` tasks or fewer."""
    table = {member.id: member for member in members}
    ranked = [table[name] for name in ranked_by_hash(list(table), "fusion_det/samples/")]
    return tuple(sorted(every_task_first(ranked)[:most], key=lambda member: member.id))


def _precision(job: TrainJob) -> Any:
    wanted = job.settings.precision
    if wanted == "auto":
        wanted = "bfloat16" if job.device.startswith("cuda") and torch.cuda.is_bf16_supported() else "float32"
    return {"float32": "32-true", "bfloat16": "bf16-mixed"}[wanted]
