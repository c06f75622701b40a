"""``fusion-det train-fusion``: train a fusion network on pairs of one's own."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fusion_det.cli.console import RichProgress, console
from fusion_det.cli.options import DEFAULT_CACHE, CacheDir, TaskName
from fusion_det.tasks import IVIF

if TYPE_CHECKING:
    from fusion_det.data import PairDataset
    from fusion_det.fusion.training.mixture import Mixture
    from fusion_det.fusion.training.trainer import TrainSummary

_EXAMPLES = """Examples:

  fusion-det train-fusion s4fusion --data msrs --data m3fd_fusion=0.7 --data roadscene=0.7 --out s4 --device cuda

  fusion-det train-fusion s4fusion --data roadscene --validation 20 --preset small --minutes 120 --out s4small

  fusion-det train-fusion s4fusion --data m3fd --exclude-split split.json --out s4m3fd    (leaves val and test ids alone)

  fusion-det train-fusion smc_mamba --data roadscene --data medical:data/mri_ct --data multi-focus:data/lytro --out general

  fusion-det fuse --method s4fusion --weights s4small/best.safetensors --data m3fd --out fused"""


def train_fusion(
    method: Annotated[str, typer.Argument(help="A fusion method with a network; see fusion-det methods.")],
    data: Annotated[
        list[str],
        typer.Option(
            metavar="[TASK:]DATASET[=SHARE]",
            help="Pairs to learn from (repeatable): a dataset's name or folder, or two folders of any names, FIRST,SECOND. "
            "Several tasks are learnt in equal shares.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder of this training; a training interrupted there goes on.")],
    task: TaskName = IVIF,
    config: Annotated[str | None, typer.Option(help="Variant of the network.")] = None,
    preset: Annotated[
        str, typer.Option(help="paper: as the method's paper trained it. small: for machines without a GPU.")
    ] = "paper",
    epochs: Annotated[int | None, typer.Option(help="Passes over the training pairs.")] = None,
    steps: Annotated[int | None, typer.Option(help="Instead of --epochs: how many steps there are.")] = None,
    minutes: Annotated[float | None, typer.Option(help="Instead of --epochs: fit the training to this time.")] = None,
    batch: Annotated[int | None, typer.Option(help="Pairs at once.")] = None,
    accumulate: Annotated[int | None, typer.Option(help="Batches whose gradients make one step.")] = None,
    crop: Annotated[int | None, typer.Option(help="Side of the square crops, in pixels.")] = None,
    peak_rate: Annotated[float | None, typer.Option(help="Highest learning rate.")] = None,
    clip: Annotated[float | None, typer.Option(help="Largest norm of a step's gradient.")] = None,
    classifier: Annotated[
        str | None,
        typer.Option(help="What the loss sees images through: resnet50, efficientnet_lite0, timm/NAME or none."),
    ] = None,
    classifier_weights: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Its weights, if not the usual ones.")
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="Any other setting: ema=0.999, weights.perception=0, … (repeatable).",
        ),
    ] = None,
    validation: Annotated[int, typer.Option(min=0, help="Pairs held out, by which the best weights are chosen.")] = 0,
    exclude_split: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A detector's split, whose val and test ids must not be learnt from."),
    ] = None,
    start_from: Annotated[
        Path | None, typer.Option("--from", metavar="FILE", help="Weights to go on from, in the place of random ones.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the training.")] = None,
    split_seed: Annotated[int, typer.Option(help="Seed of shares and held-out pairs.")] = 0,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:N, mps, or auto.")] = "auto",
    precision: Annotated[
        str | None, typer.Option(help="float32, bfloat16, or auto: bfloat16 on GPUs that have it.")
    ] = None,
    workers: Annotated[int, typer.Option(min=0, help="Processes that read pairs; 0 reads between the steps.")] = 1,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first N pairs of each dataset.")] = None,
    cache: CacheDir = DEFAULT_CACHE,
    method_module: Annotated[
        list[str] | None,
        typer.Option(metavar="MODULE", help="Python module or .py file with more methods (repeatable)."),
    ] = None,
) -> None:
    """Train a fusion network from scratch.

    Leaves best.safetensors and last.safetensors with cards (what they were trained on, and how), curve.csv, curve.png and
    sample pictures. Run the same command again to go on with a training that was interrupted: it ends as it would have.
    """
    from fusion_det.fusion import get_card, load_method_modules, resolve_device
    from fusion_det.fusion.training.settings import changed
    from fusion_det.fusion.training.settings import preset as choose

    load_method_modules(method_module or [])
    settings = choose(
        preset,
        get_card(method),
        epochs=epochs,
        steps=steps,
        minutes=minutes,
        batch=batch,
        accumulate=accumulate,
        crop=crop,
        peak_rate=peak_rate,
        clip=clip,
        classifier=classifier,
        seed=seed,
        precision=precision,
    )
    settings = changed(settings, changes or [])
    from fusion_det.fusion.training.trainer import TrainJob, train, trainable
    from fusion_det.pipeline.versions import commit, library_versions

    _, config = trainable(method, config, settings.crop)
    chosen_device = resolve_device(device)
    with RichProgress() as progress:
        mixture = _mixture(data, task, validation, split_seed, exclude_split, limit, cache, progress)
        versions = library_versions("torch", "lightning", "numpy", "numba")
        job = TrainJob(
            method=method,
            mixture=mixture,
            settings=settings,
            out=out,
            config=config,
            device=chosen_device,
            workers=workers,
            classifier_weights=classifier_weights,
            start_from=start_from,
            provenance={"commit": commit(), "versions": versions},
        )
        several = f", {len(mixture.tasks)} tasks in equal shares" if len(mixture.tasks) > 1 else ""
        console(stderr=True).print(
            f"{method}: {len(mixture.train)} pairs to learn from{several}, {len(mixture.validation)} held out",
            markup=False,
        )
        summary = train(job, progress)
    _report(method, out, mixture, summary)


train_fusion.__doc__ = f"{train_fusion.__doc__}\n\n{_EXAMPLES}"


def _mixture(
    data: list[str],
    task: str,
    validation: int,
    seed: int,
    exclude: Path | None,
    limit: int | None,
    cache: Path,
    progress: RichProgress,
) -> Mixture:
    from fusion_det.data import Split
    from fusion_det.fusion.training.mixture import mix, open_sources

    split = None if exclude is None else Split.load(exclude)
    sources = open_sources(data, lambda name, of_task: _open(name, of_task, limit, cache, progress), task)
    return mix(sources, validation=validation, seed=seed, exclude=split)


def _open(source: str, task: str, limit: int | None, cache: Path, progress: RichProgress) -> PairDataset:
    """A dataset by its name or folder, or the pairs of FIRST,SECOND, named after both folders and what holds them."""
    from fusion_det.data import open_dataset, open_folders

    first, comma, second = (part.strip() for part in source.partition(","))
    if not comma or Path(source).exists():
        return open_dataset(source, limit=limit, cache_dir=cache, progress=progress, task=task)
    folders = Path(first).expanduser(), Path(second).expanduser()
    resolved = [folder.resolve() for folder in folders]
    parts = (Path(os.path.commonpath(resolved)).name, *(folder.name for folder in resolved))
    name = "-".join(part for part in parts if part)
    return open_folders(*folders, name=name, limit=limit, cache_dir=cache, progress=progress, task=task)


def _report(method: str, out: Path, mixture: Mixture, summary: TrainSummary) -> None:
    lines = []
    if summary.resumed_at:
        lines.append(f"went on after step {summary.resumed_at}")
    if summary.steps < summary.total:
        lines.append(f"stopped after step {summary.steps} of {summary.total}: the time was over")
    speed = f", {summary.pairs_per_second:.2f} pairs a second" if summary.pairs_per_second else ""
    lines.append(f"{summary.steps} steps in {summary.seconds / 60:.1f} min{speed}")
    if summary.rows:
        last = summary.rows[-1]
        judged = ("validation", last["val_total"]) if "val_total" in last else ("training", last["total"])
        lines.append(f"{judged[0]} loss {judged[1]:.3f} at the end; best weights from step {summary.best_step}")
    if mixture.synthetic:
        lines.append("trained on demo pictures: for trying things out, not for figures")
    lines.append(f"fusion-det fuse --method {method} --weights {out / 'best.safetensors'} … fuses with it")
    console().print("\n".join(lines), markup=False, soft_wrap=True)
