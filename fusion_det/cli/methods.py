"""``fusion-det methods``: which fusion methods there are, and whether they are ready."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fusion_det.cli.console import console

if TYPE_CHECKING:
    from rich.table import Table

    from fusion_det.fusion.method import MethodCard
    from fusion_det.fusion.weights import FoundWeights

_FUSES = {"luma": "luma", "rgb": "RGB"}

_EXAMPLES = """Examples:

  fusion-det methods

  fusion-det methods u2fusion

  fusion-det methods --json | jq -r '.methods[] | select(.ready) | .name'

  fusion-det methods --method-module mylab.fusion"""


def methods(
    name: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME]...", help="Tell everything about these methods (names, globs, all)."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything on the cards as JSON.")] = False,
    method_module: Annotated[
        list[str] | None,
        typer.Option(metavar="MODULE", help="Also list the methods of this Python module or .py file (repeatable)."),
    ] = None,
) -> None:
    """List the fusion methods: what they are, and whether their weights are there."""
    from fusion_det.fusion import (
        expand_methods,
        found_weights,
        get_card,
        list_cards,
        load_method_modules,
        weights_status,
    )
    from fusion_det.fusion.registry import default_registry

    load_method_modules(method_module or [])
    cards = [get_card(spec) for spec in expand_methods(name)] if name else list_cards()
    status = {card.name: weights_status(card.name) for card in cards}
    found = {card.name: found_weights(card.name) for card in cards}
    broken = default_registry().unavailable
    if as_json:
        typer.echo(json.dumps(_document(cards, status, found, broken), indent=2, ensure_ascii=False))
        return
    screen = console()
    if name:
        for card in cards:
            screen.print(_details(card, status[card.name][1], found[card.name]))
        return
    screen.print(_table(cards, status, found))
    for source, reason in broken.items():
        screen.print(f"unavailable: {source}: {reason}", style="yellow", markup=False)
    if not all(ready for ready, _ in status.values()):
        screen.print(
            "The authors' weights are looked for in $FUSION_DET_WEIGHTS/METHOD/ and weights/METHOD/; your own are named with "
            "--weights METHOD=FILE or METHOD@FILE. How to get them: fusion-det weights list; without any: fusion-det "
            "train-fusion METHOD.",
            markup=False,
        )


methods.__doc__ = f"{methods.__doc__}\n\n{_EXAMPLES}"


def _document(
    cards: list[MethodCard],
    status: dict[str, tuple[bool, str]],
    found: dict[str, FoundWeights | None],
    broken: dict[str, str],
) -> dict[str, Any]:
    entries = [
        {
            **dataclasses.asdict(card),
            "ready": status[card.name][0],
            "weights_status": status[card.name][1],
            "weights_source": None if (weights := found[card.name]) is None else weights.source,
        }
        for card in cards
    ]
    return {"schema_version": 1, "methods": entries, "unavailable": broken}


def _table(
    cards: list[MethodCard], status: dict[str, tuple[bool, str]], found: dict[str, FoundWeights | None]
) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("name", "method", "paper", "kind", "fuses", "weights", "trained on"):
        table.add_column(column, no_wrap=column in ("name", "kind", "fuses"), overflow="fold")
    for card in cards:
        ready, text = status[card.name]
        table.add_row(
            Text(card.name, style="bold"),
            Text(card.label),
            Text(_paper(card)),
            Text(card.family),
            Text(_FUSES[card.fuses]),
            Text(text, style="" if ready else "red"),
            Text(_trained_on(card, found[card.name])),
        )
    return table


def _details(card: MethodCard, status: str, found: FoundWeights | None) -> Table:
    """All that a card says, a line each."""
    from rich.table import Table
    from rich.text import Text

    weights = card.weights
    source = ", ".join(part for part in (card.authors, card.venue, str(card.year or "")) if part)
    told = {
        "title": card.title,
        "paper": source + (f", arXiv:{card.arxiv}" if card.arxiv else ""),
        "kind": f"{card.family}, fuses {_FUSES[card.fuses]}",
        "sizes": _sizes(card),
        "configurations": ", ".join(card.configs),
        "weights": status,
        "trained on": "" if weights is None else _trained_on(card, found),
        "official weights": ""
        if weights is None
        else f"{weights.file} from {weights.origin}; licence: {weights.licence}",
        "Table VI": "" if card.table_vi is None else f"mAP@50 {card.table_vi} %",
        "common protocol": card.notes,
        "official protocol": card.official or "none of its own: --protocol official is not for it",
    }
    table = Table(
        title=f"{card.name} ({card.label})", title_justify="left", title_style="bold", box=None, show_header=False
    )
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for field, text in told.items():
        if text:
            table.add_row(field, Text(text))
    return table


def _sizes(card: MethodCard) -> str:
    """ "any; padded (reflect) to multiples of 12 plus 1, at least 13 × 13"."""
    rules = []
    if card.size_multiple > 1:
        rules.append(
            f"to multiples of {card.size_multiple}" + (f" plus {card.size_remainder}" if card.size_remainder else "")
        )
    if card.min_size > 1:
        rules.append(f"to at least {card.min_size} × {card.min_size}")
    return f"any; padded ({card.padding}) {' and '.join(rules)}" if rules else "any"


def _trained_on(card: MethodCard, found: FoundWeights | None) -> str:
    """Datasets of the weights that are there, else of the official ones."""
    if card.weights is None:
        return "–"
    training = None if found is None or found.source == "official" else found.training
    return ", ".join(card.weights.trained_on if training is None else training.families) or "not known"


def _paper(card: MethodCard) -> str:
    """ "Li, Kang et al. 2013", or a dash for what nobody published."""
    if not card.authors:
        return "–"
    surnames = [author.strip().split()[-1] for author in card.authors.split(",")]
    names = " & ".join(surnames) if len(surnames) < 3 else f"{surnames[0]} et al."
    return f"{names} {card.year}" if card.year else names
