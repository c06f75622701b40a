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

_EXAMPLES = """Examples:

  fusion-det methods

  fusion-det methods --json | jq -r '.methods[] | select(.ready) | .name'

  fusion-det methods --method-module mylab.fusion"""


def methods(
    as_json: Annotated[bool, typer.Option("--json", help="Print everything on the cards as JSON.")] = False,
    method_module: Annotated[
        list[str] | None,
        typer.Option(metavar="MODULE", help="Also list the methods of this Python module or .py file (repeatable)."),
    ] = None,
) -> None:
    """List the fusion methods: what they are, and whether their weights are there."""
    from fusion_det.fusion import found_weights, list_cards, load_method_modules, weights_status
    from fusion_det.fusion.registry import default_registry

    load_method_modules(method_module or [])
    cards = list_cards()
    status = {card.name: weights_status(card.name) for card in cards}
    found = {card.name: found_weights(card.name) for card in cards}
    broken = default_registry().unavailable
    if as_json:
        typer.echo(json.dumps(_document(cards, status, found, broken), indent=2, ensure_ascii=False))
        return
    screen = console()
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
            Text({"luma": "luma", "rgb": "RGB"}[card.fuses]),
            Text(text, style="" if ready else "red"),
            Text(_trained_on(card, found[card.name])),
        )
    return table


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
