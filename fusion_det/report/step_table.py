"""The table of step sizes Δ in the manner of Table VIII of the S4Fusion paper: modalities as columns, layers as rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from fusion_det.fusion.explanation import MODALITIES, Stage, StepAverage, StepMean
from fusion_det.report.formatting import MISSING
from fusion_det.report.tables import Cell, Table

SLUG = "step_sizes"
JSON_SCHEMA, JSON_SCHEMA_VERSION = "fusion_det/step_sizes", 1
COLUMNS = ("layer", "block", "modality", "stage", "used", "mean", "spread", "pairs", "published")
"""Of ``step_sizes.csv`` and of the rows of ``step_sizes.json``; an empty ``block`` is the whole layer."""
PAIR_COLUMNS = ("stem", *COLUMNS[:6])

_STAGES = {
    "projected": "what the network projects from its input, before bias and softplus",
    "biased": "what the network projects from its input plus the bias, before the softplus",
    "step": "the step size itself, after bias and softplus",
}


def step_table(averages: Sequence[StepAverage], stage: Stage, label: str, dataset: str) -> Table:
    """The averages of one stage; with the paper's where it prints them.

    Args:
        label: of the method. dataset: what the pairs are called.
    """
    rows = {(a.what.layer, a.what.block, a.what.modality): a for a in averages if a.what.stage == stage}
    published = any(a.what.published is not None for a in rows.values())
    head = ["", *(m.upper() for m in MODALITIES), *(f"{m.upper()}, paper" for m in MODALITIES if published)]
    lines = []
    for layer, block in dict.fromkeys((layer, block) for layer, block, _ in rows):
        found = [rows[layer, block, modality] for modality in MODALITIES]
        paper = [_paper_cell(average.what) for average in found if published]
        lines.append((Cell(_name(found[0].what)), *map(_cell, found), *paper))
    pairs = averages[0].pairs
    notes = [f"Δ here: {_STAGES[stage]} (stage “{stage}”), averaged over positions, four directions and channels."]
    if pairs > 1:
        notes.append(f"Mean ± sample standard deviation over {pairs} pairs, each counting the same.")
    if any(not a.what.used for a in rows.values()):
        notes.append("“unused”: the fused image does not depend on this layer.")
    if published:
        notes.append(
            "paper: the published averages. Of which images and of which stage they are is not published; averages below zero "
            "cannot be of the step itself."
        )
    of = f"{pairs} pairs" if pairs > 1 else "one pair"
    caption = f"Average Δ of the two modalities in {label}; {of} of {dataset}."
    return Table(SLUG, caption, tuple(head), tuple(lines), tuple(notes))


def step_rows(averages: Iterable[StepAverage]) -> list[dict[str, Any]]:
    """One row a mean, with ``COLUMNS`` as keys."""
    return [{**_named(a.what), "spread": a.spread, "pairs": a.pairs, "published": a.what.published} for a in averages]


def pair_rows(stem: str, steps: Iterable[StepMean]) -> list[dict[str, Any]]:
    """One row a mean of one pair, with ``PAIR_COLUMNS`` as keys."""
    return [{"stem": stem, **_named(step)} for step in steps]


def _named(step: StepMean) -> dict[str, Any]:
    names = ("layer", "block", "modality", "stage", "used", "mean")
    return {name: getattr(step, name) for name in names}


def _name(step: StepMean) -> str:
    if step.block is not None:
        return f"layer {step.layer}, block {step.block}"
    return f"layer {step.layer}" + ("" if step.used else " (unused)")


def _cell(average: StepAverage) -> Cell:
    spread = "" if average.spread is None else f"± {_number(average.spread)}"
    return Cell(_number(average.what.mean), value=average.what.mean, note=spread)


def _paper_cell(step: StepMean) -> Cell:
    return Cell(MISSING) if step.published is None else Cell(_number(step.published), value=step.published)


def _number(value: float) -> str:
    """Three decimals, four below 0.1, as the paper prints them; no signed zero."""
    decimals = 4 if abs(value) < 0.1 else 3
    return f"{round(value, decimals) + 0.0:.{decimals}f}".replace("-", "−")
