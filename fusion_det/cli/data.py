"""``fusion-det data``: what datasets there are, whether one is sound, how to put one in place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fusion_det.cli.options import DEFAULT_CACHE, CacheDir, TaskName
from fusion_det.tasks import IVIF

if TYPE_CHECKING:
    from rich.table import Table

app = typer.Typer(no_args_is_help=True, help="List, check and prepare datasets.", rich_markup_mode="rich")

Dataset = Annotated[
    str, typer.Argument(help="Dataset id (looked up in datasets/ and $FUSION_DET_DATA) or a folder.", metavar="DATASET")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


@app.command("list", epilog="Example: [bold]fusion-det data list[/bold]")
def list_datasets(as_json: AsJson = False) -> None:
    """Known datasets, and which of them are in place."""
    from fusion_det.data.cards import read_cards
    from fusion_det.data.locate import find_dataset

    rows = [(card, find_dataset(card.id)) for card in read_cards().values()]
    if as_json:
        content = [
            {
                "id": card.id,
                "title": card.title,
                "layout": card.layout,
                "classes": list(card.classes),
                "pairs": card.pairs,
                "labelled": card.labelled,
                "licence": card.licence,
                "origin": card.origin,
                "card": str(card.file),
                "place": str(place) if place else None,
            }
            for card, place in rows
        ]
        typer.echo(json.dumps(content, indent=2, ensure_ascii=False))
        return
    table = _table("id", "dataset", ">pairs", ">with boxes", "classes", "in place")
    for card, place in rows:
        counts = [str(n) if n is not None else "–" for n in (card.pairs, card.labelled)]
        where = str(place) if place else "no"
        _row(table, card.id, card.title, *counts, ", ".join(card.classes) or "–", where)
    _show(table)
    typer.echo("How to get one: the cards, DATASET.md in " + str(rows[0][0].file.parent if rows else "datasets/"))


@app.command(
    epilog="Examples: [bold]fusion-det data check m3fd[/bold] · [bold]fusion-det data check /data/pairs --json[/bold]"
)
def check(
    dataset: Dataset,
    task: TaskName = IVIF,
    reader: Annotated[
        str | None, typer.Option(help="m3fd, coco, folder or demo; found from the layout if not given.")
    ] = None,
    annotations: Annotated[Path | None, typer.Option(help="COCO JSON or folder, if not in the usual place.")] = None,
    limit: Annotated[int | None, typer.Option(help="Check the images of the first N pairs only.", min=1)] = None,
    cache: CacheDir = DEFAULT_CACHE,
    as_json: AsJson = False,
) -> None:
    """Decode every image, check every box, and print the census. Exit code 1 and every problem if there are any."""
    from fusion_det.cli.console import RichProgress
    from fusion_det.data import census, open_dataset
    from fusion_det.data.locate import locate
    from fusion_det.errors import DatasetError

    locate(dataset)  # a name that means nothing is a mistake on the command line, not a problem of a dataset
    try:
        with RichProgress() as progress:
            found = open_dataset(
                dataset,
                reader=reader,
                limit=limit,
                cache_dir=cache,
                progress=progress,
                annotations=annotations,
                task=task,
            )
    except DatasetError as error:
        _report_problems(error, as_json)
        raise typer.Exit(1) from error
    counts = census(found)
    if as_json:
        typer.echo(json.dumps({"ok": True, **counts}, indent=2, ensure_ascii=False))
    else:
        _show_census(counts)


@app.command(
    epilog="Examples: [bold]fusion-det data prepare m3fd --zip ~/Downloads/M3FD_Detection.zip[/bold] · "
    "[bold]fusion-det data prepare m3fd --zip kaggle.zip --no-checksum --out /data/m3fd[/bold]"
)
def prepare(
    dataset: Annotated[str, typer.Argument(help="Dataset id; fusion-det data list shows them.")],
    zip_file: Annotated[Path, typer.Option("--zip", help="The downloaded archive.")],
    out: Annotated[Path | None, typer.Option(help="Folder to create.", show_default="datasets/ID")] = None,
    no_checksum: Annotated[
        bool, typer.Option("--no-checksum", help="Accept an archive other than the official one (a mirror's repack).")
    ] = False,
) -> None:
    """Verify a downloaded archive, extract it safely, validate it and put it in place."""
    import difflib

    from fusion_det.cli.console import RichProgress
    from fusion_det.data import census
    from fusion_det.data.cards import read_cards
    from fusion_det.data.locate import data_folders
    from fusion_det.data.prepare import prepare as put_in_place
    from fusion_det.errors import ConfigError

    cards = read_cards()
    if dataset not in cards:
        near = difflib.get_close_matches(dataset, cards, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ConfigError(f"There is no dataset {dataset!r}; known: {', '.join(cards)}.{hint}")
    target = out or data_folders()[0] / dataset
    with RichProgress() as progress:
        found = put_in_place(cards[dataset], zip_file, target, checksum=not no_checksum, progress=progress)
    _show_census(census(found) | {"root": str(target)})
    typer.echo(f"{dataset} is in place: {target}")


@app.command(epilog="Example: [bold]fusion-det data demo --out /tmp/demo --scenes 40 --seed 3[/bold]")
def demo(
    out: Annotated[Path, typer.Option(help="Folder to create.")],
    scenes: Annotated[int, typer.Option(help="Number of pairs.", min=1)] = 120,
    seed: Annotated[int, typer.Option(help="Another seed draws other scenes.")] = 0,
) -> None:
    """Draw the synthetic demo dataset (M3FD's layout; the same seed gives the same bytes)."""
    from fusion_det.cli.console import RichProgress
    from fusion_det.data.demo import write_demo
    from fusion_det.errors import DatasetError

    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DatasetError(f"{out} exists and is not empty; nothing is overwritten.", cure="Choose another --out.")
    with RichProgress() as progress:
        write_demo(out, scenes=scenes, seed=seed, progress=progress)
    typer.echo(f"{scenes} synthetic pairs in {out}; look at them with: fusion-det data check {out}")


def _report_problems(error: Any, as_json: bool) -> None:
    if as_json:
        problems = [{"file": str(problem.file), "message": problem.message} for problem in error.problems]
        content = {"ok": False, "headline": error.headline, "problems": problems, "cure": error.cure}
        typer.echo(json.dumps(content, indent=2, ensure_ascii=False))
        return
    lines = [error.headline, *(f"  - {problem}" for problem in error.problems), error.cure]
    typer.echo("\n".join(line for line in lines if line), err=True)


def _show_census(counts: dict[str, Any]) -> None:
    stamp = "  (synthetic: drawn by code, not photographed)" if counts["synthetic"] else ""
    typer.echo(f"{counts['name']}{stamp}  {counts['root']}")
    limit = f", limited to the first {counts['limit']}" if counts["limit"] else ""
    empty = f", {counts['empty']} of them empty" if counts["empty"] else ""
    typer.echo(f"{counts['pairs']} pairs{limit}; {counts['labelled']} with boxes{empty}; {counts['runs']} capture runs")
    sizes = [f"{n} × {size}" for size, n in counts["sizes"].items()]
    more = f" and {len(sizes) - 8} other sizes" if len(sizes) > 8 else ""
    typer.echo("sizes: " + ", ".join(sizes[:8]) + more)
    if counts["classes"]:
        boxes = ", ".join(f"{size} {n}" for size, n in counts["box_sizes"].items())
        typer.echo(f"boxes by size (COCO's limits 32² and 96² px): {boxes}")
        conditions = counts["conditions"]
        columns = [*conditions.values(), {key: counts[key] for key in ("pairs", "labelled", "boxes")}]
        table = _table("", *(f">{name}" for name in conditions), ">all")
        _row(table, "pairs", *(str(column["pairs"]) for column in columns))
        _row(table, "with boxes", *(str(column["labelled"]) for column in columns))
        for name in counts["classes"]:  # classes in rows: there may be many, and their names are long
            _row(table, name, *(str(column["boxes"][name]) for column in columns))
        _row(table, "all boxes", *(str(sum(column["boxes"].values())) for column in columns), style="bold")
        _show(table)
    for part, n in counts["official_splits"].items():
        typer.echo(f"official split: {part} {n}")
    typer.echo(f"content digest {counts['content_digest'][:16]}")


def _table(*heads: str) -> Table:
    """A plain table; a head that begins with > is right-aligned."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD)
    for head in heads:
        right = head.startswith(">")  # numbers are never cut
        table.add_column(Text(head.removeprefix(">")), justify="right" if right else "left", no_wrap=right)
    return table


def _row(table: Table, *cells: str, style: str | None = None) -> None:
    """Add a row of plain text: rich must not read a [name] as markup."""
    from rich.text import Text

    table.add_row(*(Text(cell) for cell in cells), style=style)


def _show(table: Table) -> None:
    from fusion_det.cli.console import console

    console().print(table)
