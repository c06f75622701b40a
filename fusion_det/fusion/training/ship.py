"""Put a trained network into this package: ``python -m fusion_det.fusion.training.ship --help``.

The weights go beside the method's code in half precision, with the card of their training, to which the quality of the held-out
pairs' fused images is added: of the weights as they are shipped, and of plain methods for comparison.
"""

from __future__ import annotations

import importlib
import json
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from fusion_det.data import open_dataset
from fusion_det.data.color import luma
from fusion_det.data.images import load_pair
from fusion_det.data.pair import Pair
from fusion_det.errors import ConfigError
from fusion_det.files import digest_file, write_json
from fusion_det.fusion.build import build_method
from fusion_det.fusion.checkpoint import read_checkpoint, save_checkpoint
from fusion_det.fusion.external import ExternalImages
from fusion_det.fusion.frame import fuse_frames, to_eight_bit
from fusion_det.fusion.method import FusionMethod
from fusion_det.fusion.registry import default_registry
from fusion_det.fusion.weights import SHIPPED_FILE
from fusion_det.quality import evaluate
from fusion_det.tasks import IVIF, split_task

METRICS = ("SF", "AG", "MI", "VIF", "Qabf", "MS_SSIM", "EN", "SD")
COMPARED = ("mean", "max", "laplacian", "gff")


def main(
    checkpoint: Annotated[
        Path, typer.Argument(help="best.safetensors or last.safetensors of fusion-det train-fusion.")
    ],
    data: Annotated[
        list[str],
        typer.Option(
            metavar="[TASK:]DATASET", help="The datasets of that training (repeatable), for the figures, task by task."
        ),
    ],
    family: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=FAMILY", help="Which dataset an excerpt of another name is of (repeatable)."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder; the method's own package if none is given.")] = None,
) -> None:
    """Convert a checkpoint to half precision, measure it on the pairs held out from its training, and ship it."""
    state, strings = read_checkpoint(checkpoint)
    if "card" not in strings:
        raise ConfigError(f"{checkpoint} has no card of its training in it: ship what fusion-det train-fusion made")
    card: dict[str, Any] = json.loads(strings["card"])
    _name_families(card, dict(text.split("=", 1) for text in family or ()))
    folder = out or _package_folder(card["method"])
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / SHIPPED_FILE
    known = {key: strings[key] for key in ("method", "config") if key in strings}
    half = {name: value.half() if value.is_floating_point() else value for name, value in state.items()}
    save_checkpoint(file, half, known | {"card": json.dumps(card, sort_keys=True)})
    methods = {card["method"]: build_method(card["method"], weights=file, config=card["config"])}
    methods |= {name: build_method(name) for name in COMPARED}
    card["figures"] = {}
    for task, pairs in held_out_pairs(card, data).items():
        figures = {name: quality_of(method, task, pairs) for name, method in methods.items()}
        card["figures"][task] = {"pairs": len(pairs), "mean": figures}
        for name, values in figures.items():
            typer.echo(f"{task:15} {name:12}" + "  ".join(f"{metric} {value:.3f}" for metric, value in values.items()))
    write_json(file.with_suffix(".json"), {**card, "file": file.name, "sha256": digest_file(file)})
    typer.echo(f"{file}: {file.stat().st_size / 1e6:.1f} MB")


def _name_families(card: dict[str, Any], families: dict[str, str]) -> None:
    for origin in card["data"]:
        origin["family"] = families.get(origin["name"], origin["family"])
    card["trained_on"] = sorted({origin["family"] for origin in card["data"] if origin["train"]})


def _package_folder(method: str) -> Path:
    module = importlib.import_module(default_registry().get(method).module)
    return Path(sys.modules[module.__name__].__path__[0])


def held_out_pairs(card: dict[str, Any], data: Sequence[str]) -> dict[str, list[Pair]]:
    """The pairs that a training's card names as its validation, by task, from datasets of the same names and contents.

    Raises:
        ConfigError: a dataset is not among ``data``, or is not the one that was trained on.
    """
    named = [split_task(text) for text in data]
    datasets = {dataset.name: dataset for task, name in named for dataset in [open_dataset(name, task=task or IVIF)]}
    pairs: dict[str, list[Pair]] = {}
    for origin in card["data"]:
        dataset = datasets.get(origin["name"])
        if dataset is None or dataset.content_digest != origin["content_digest"]:
            raise ConfigError(f"--data: the {origin['name']} that was trained on is not among {', '.join(datasets)}")
        held_out = set(origin["validation"])
        found = [load_pair(record) for record in dataset if record.stem in held_out]
        pairs.setdefault(dataset.task, []).extend(found)
    return {task: found for task, found in pairs.items() if found}


def quality_of(method: FusionMethod | ExternalImages, task: str, pairs: Sequence[Pair]) -> dict[str, float]:
    """Mean of each of ``METRICS`` (profile "paper") over the fused grey images of some pairs."""
    if isinstance(method, ExternalImages):
        raise ConfigError(f"{method.card.name}: images fused elsewhere are not measured here")
    method = method.for_task(task)
    rows = []
    for pair in pairs:
        with torch.no_grad():
            fused = fuse_frames(method, pair.ir[None], pair.vi[None], "gray")[None]
        values = evaluate(to_eight_bit(pair.ir)[None], to_eight_bit(luma(pair.vi[None])), fused, metrics=METRICS)
        rows.append({name: float(value) for name, value in values.items()})
    return {name: round(statistics.fmean(row[name] for row in rows), 4) for name in METRICS}


if __name__ == "__main__":
    typer.run(main)
