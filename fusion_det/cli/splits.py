"""``fusion-det splits``: make a split, and see what is in it and how much of its test set training has seen."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fusion_det.cli.options import DEFAULT_CACHE, CacheDir

if TYPE_CHECKING:
    from fusion_det.data import PairDataset, Split

app = typer.Typer(no_args_is_help=True, help="Make splits, and show what is in them.", rich_markup_mode="rich")

Dataset = Annotated[
    str,
    typer.Argument(help="Dataset id or folder; a folder of COCO JSON without images will do.", metavar="DATASET"),
]
SplitName = Annotated[str, typer.Option("--split", help="random-712, scene-712 or official.")]
Seed = Annotated[int, typer.Option("--seed", help="The split's seed (not the detector's).")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


@app.command(
    epilog="Examples: [bold]fusion-det splits show m3fd --split scene-712 --seed 0[/bold] · "
    "[bold]fusion-det splits show m3fd --split-file my_split.json[/bold]"
)
def show(
    dataset: Dataset,
    split: SplitName = "random-712",
    seed: Seed = 0,
    split_file: Annotated[
        Path | None, typer.Option(help="A split of your own: JSON or YAML, or a folder of train/val/test.txt.")
    ] = None,
    cache: CacheDir = DEFAULT_CACHE,
    as_json: AsJson = False,
) -> None:
    """Images and boxes per part, and the leakage: the share of test frames with a neighbour or capture run in train."""
    from fusion_det.data import Split, make_split

    found = _open(dataset, cache)
    chosen = Split.load(split_file, found) if split_file is not None else make_split(found, split, seed)
    summary = _summary(found, chosen)
    if as_json:
        typer.echo(json.dumps(summary, indent=2, ensure_ascii=False))
    else:
        _show_summary(summary)


@app.command(
    epilog="Example: [bold]fusion-det splits make m3fd --split scene-712 --seed 1 --out scene1.json[/bold], then "
    "[bold]fusion-det run --split-file scene1.json …[/bold]"
)
def make(
    dataset: Dataset,
    out: Annotated[Path, typer.Option(help="File to write (JSON).")],
    split: SplitName = "random-712",
    seed: Seed = 0,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that holds another split.")] = False,
    cache: CacheDir = DEFAULT_CACHE,
) -> None:
    """Write a split to a file, to keep or to edit."""
    from fusion_det.data import make_split
    from fusion_det.errors import ConfigError

    if out.exists() and not force:
        raise ConfigError(f"{out} exists; use --force to replace it.")
    found = _open(dataset, cache)
    chosen = make_split(found, split, seed)
    try:
        chosen.save(out)
    except OSError as error:
        raise ConfigError(f"--out {out} cannot be written: {error.strerror or error}") from error
    _show_summary(_summary(found, chosen))
    typer.echo(f"written to {out}")


def _open(dataset: str, cache: Path) -> PairDataset:
    from fusion_det.cli.console import RichProgress
    from fusion_det.data.opening import open_for_counting

    with RichProgress() as progress:
        return open_for_counting(dataset, cache_dir=cache, progress=progress)


def _summary(dataset: PairDataset, split: Split) -> dict[str, Any]:
    from fusion_det.data import leakage

    return {
        "dataset": dataset.name,
        "name": split.name,
        "seed": split.seed,
        "digest": split.digest,
        "note": split.note,
        "images": split.counts(),
        "boxes": {part: dataset.class_counts(stems) for part, stems in split.ids.items()},
        "conditions": {part: _conditions(dataset, stems) for part, stems in split.ids.items()},
        "leakage": leakage(dataset, split),
    }


def _conditions(dataset: PairDataset, stems: tuple[str, ...]) -> dict[str, int]:
    from collections import Counter

    counts = Counter(record.condition or "unknown" for record in dataset.select(stems))
    return dict(sorted(counts.items()))


def _show_summary(summary: dict[str, Any]) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from fusion_det.cli.console import console

    seed = f", seed {summary['seed']}" if summary["seed"] is not None else ""
    typer.echo(f"{summary['dataset']}: {summary['name']}{seed}, digest {summary['digest'][:16]}")
    if summary["note"]:
        typer.echo(summary["note"])
    classes = list(next(iter(summary["boxes"].values())))
    conditions = sorted({name for counts in summary["conditions"].values() for name in counts})
    conditions = [] if conditions == ["unknown"] else conditions
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("")
    parts = list(summary["images"])
    for part in parts:
        table.add_column(Text(part), justify="right", no_wrap=True)
    boxes = summary["boxes"]
    rows: list[tuple[str, list[int]]] = [("images", [summary["images"][part] for part in parts])]
    rows += [(f"images, {name}", [summary["conditions"][part].get(name, 0) for part in parts]) for name in conditions]
    rows += [(f"boxes, {name}", [boxes[part][name] for part in parts]) for name in classes]
    rows.append(("boxes", [sum(boxes[part].values()) for part in parts]))
    for head, numbers in rows:  # parts in columns: three of them fit any terminal
        table.add_row(Text(head), *map(str, numbers))
    console().print(table)
    words = {"neighbour": "with a neighbouring id in train", "run": "whose capture run is in train"}
    for key, share in summary["leakage"].items():
        typer.echo(f"test frames {words[key]}: {share:.1%}")
    if not summary["leakage"]:
        typer.echo("leakage unknown: neither numbered frames nor capture runs")
