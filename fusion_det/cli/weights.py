"""``fusion-det weights``: where the weights of learned methods come from and lie, and fetching those that have an address."""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fusion_det.cli.console import RichProgress, console

if TYPE_CHECKING:
    from fusion_det.fusion.method import MethodCard, WeightsInfo

app = typer.Typer(no_args_is_help=True, help="List and fetch the weights of learned methods.", rich_markup_mode="rich")

Modules = Annotated[
    list[str] | None,
    typer.Option("--method-module", metavar="MODULE", help="Python module or .py file with more methods (repeatable)."),
]


@app.command("list", epilog="Example: [bold]fusion-det weights list[/bold]")
def list_weights(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
    method_module: Modules = None,
) -> None:
    """What each learned method fuses with now, where its published weights are looked for, and how to get them."""
    rows = [_row(card, info) for card, info in _learned(method_module).values()]
    if as_json:
        typer.echo(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    screen = console()
    for row in rows:
        screen.print(f"[bold]{row['method']}[/]", end="  ")
        screen.print(row["status"], style="" if row["ready"] else "red", markup=False, soft_wrap=True)
        get = (
            f"fusion-det weights get {row['method']}" if row["url"] else f"by hand: {row['file']} from {row['origin']}"
        )
        screen.print(f"    {get} (licence: {row['licence']})", markup=False, soft_wrap=True)
    screen.print(
        "Published weights are looked for in $FUSION_DET_WEIGHTS/METHOD/ and weights/METHOD/; any file can be named with "
        "--weights METHOD=FILE.",
        markup=False,
        soft_wrap=True,
    )


@app.command(
    epilog="Examples: [bold]fusion-det weights get s4fusion[/bold] · [bold]fusion-det weights get all --to /data/weights[/bold]"
)
def get(
    methods: Annotated[list[str], typer.Argument(metavar="METHOD...", help="Names, globs, or 'all'.")],
    to: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder of all weights (default: $FUSION_DET_WEIGHTS, else weights/)."),
    ] = None,
    method_module: Modules = None,
) -> None:
    """Fetch published weights, check their digest and put them in place.

    Of files without a lasting address (those on cloud drives) it says where to get them and where to put them. A fetch that
    broke off goes on where it was. Exit code 1 if a file that has an address, or whose method was named, is not in place.
    """
    from fusion_det.errors import MethodError
    from fusion_det.fusion.downloads import fetch_weights

    failed = False
    for card, info, named in _chosen(methods, _learned(method_module)):
        try:
            with RichProgress() as progress:
                fetched = fetch_weights(card, to, progress)
        except MethodError as error:
            failed |= named or info.url is not None
            console(stderr=True).print(str(error), style="red", markup=False, soft_wrap=True)
            continue
        verdict = "fetched" if fetched.new else "there already"
        console().print(
            f"{card.name}: {fetched.file} ({verdict}; licence: {info.licence})", markup=False, soft_wrap=True
        )
    if failed:
        raise typer.Exit(1)


def _learned(modules: list[str] | None) -> dict[str, tuple[MethodCard, WeightsInfo]]:
    from fusion_det.fusion import list_cards, load_method_modules

    load_method_modules(modules or [])
    return {card.name: (card, card.weights) for card in list_cards() if card.weights is not None}


def _chosen(
    patterns: Iterable[str], learned: dict[str, tuple[MethodCard, WeightsInfo]]
) -> list[tuple[MethodCard, WeightsInfo, bool]]:
    """The learned methods that names, globs and "all" stand for, and whether each was named."""
    from fusion_det.errors import MethodError
    from fusion_det.fusion import get_card

    chosen: dict[str, bool] = {}
    for pattern in patterns:
        matches = list(learned) if pattern == "all" else fnmatch.filter(learned, pattern)
        if not matches and any(character in pattern for character in "*?["):
            raise MethodError(f"no method that has weights matches {pattern!r}; there are {', '.join(learned)}")
        if not matches:
            raise MethodError(f"{get_card(pattern).name} learns nothing, so there are no weights to get")
        for name in matches:
            chosen[name] = chosen.get(name, False) or name == pattern
    return [(*learned[name], named) for name, named in chosen.items()]


def _row(card: MethodCard, info: WeightsInfo) -> dict[str, Any]:
    from fusion_det.fusion import weights_status
    from fusion_det.fusion.weights import weights_places

    ready, status = weights_status(card.name)
    return {
        "method": card.name,
        "ready": ready,
        "status": status,
        "places": [str(place) for place in weights_places(card)],
        "file": info.file,
        "url": info.url,
        "origin": info.origin,
        "licence": info.licence,
        "git_blob": info.git_blob,
        "sha256": info.sha256,
        "trained_on": list(info.trained_on),
    }
