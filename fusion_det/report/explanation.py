"""The folder that ``fusion-det explain`` leaves: the table of step sizes, and each pair's feature maps as arrays and pictures.

- ``step_sizes.md``, ``.csv``, ``.json``: averages over the pairs; the table shows one stage, the other two files all.
- ``step_sizes_by_pair.csv``: the same of every pair.
- ``features/STEM/features.npz``: ``layerL_M_before`` and ``layerL_M_after`` for layer L (from 1) and M in (ir, vi): float32
  (h,w,C), on the grid of the padded image; ``padding``: int64 left, right, top, bottom in pixels; ``size``: int64 height and
  width of the pair.
- ``features/STEM/layerL.png``: the panel of a layer. ``layerL_M_before.png`` …: its maps alone, in the size of the pair.
- ``features/STEM/maps.json``: of each map the range of its colours and the share of its variance that is seen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fusion_det.files import write_json, write_text
from fusion_det.fusion.explanation import MODALITIES, Explanation, LayerFeatures, Stage, StepMean, average_steps
from fusion_det.report.feature_maps import ComponentMap, Margins, PanelItem, Scale, colour, component_maps, panel
from fusion_det.report.step_table import (
    COLUMNS,
    JSON_SCHEMA,
    JSON_SCHEMA_VERSION,
    PAIR_COLUMNS,
    SLUG,
    pair_rows,
    step_rows,
    step_table,
)
from fusion_det.report.tables import Table, to_csv, to_markdown

DOCUMENT = f"{SLUG}.json"
_MOMENTS = ("before", "after")


@dataclass(frozen=True, eq=False)
class ExplainedPair:
    """A pair and its explanation. ir: (H,W), vi: (H,W,3), both in [0,1]; margins: by which they were padded."""

    stem: str
    ir: np.ndarray
    vi: np.ndarray
    luma: np.ndarray
    margins: Margins
    explanation: Explanation


def write_step_sizes(
    folder: Path,
    steps: Mapping[str, Sequence[StepMean]],
    stage: Stage,
    label: str,
    dataset: str,
    provenance: Mapping[str, Any],
) -> Table:
    """Write the tables of at least one pair into ``folder`` and return the one a person reads.

    Args:
        steps: by stem. label: of the method. dataset: what the pairs are called.
        provenance: what the figures depend on (method, weights, data), for the JSON document.
    """
    averages = average_steps(list(steps.values()))
    table = step_table(averages, stage, label, dataset)
    rows = step_rows(averages)
    write_text(folder / f"{SLUG}.md", to_markdown(table))
    write_text(folder / f"{SLUG}.csv", to_csv(rows, COLUMNS))
    by_pair = [row for stem, means in steps.items() for row in pair_rows(stem, means)]
    write_text(folder / f"{SLUG}_by_pair.csv", to_csv(by_pair, PAIR_COLUMNS))
    document = {
        "schema": JSON_SCHEMA,
        "schema_version": JSON_SCHEMA_VERSION,
        **provenance,
        "stage": stage,
        "stems": list(steps),
        "rows": rows,
    }
    write_json(folder / DOCUMENT, document)
    return table


def write_features(folder: Path, pair: ExplainedPair, label: str, scale: Scale) -> None:
    """Write the arrays and pictures of one pair into ``folder``, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    layers = pair.explanation.features
    arrays = {
        f"layer{layer.layer}_{modality}_{moment}": getattr(layer, moment)[i]
        for layer in layers
        for i, modality in enumerate(MODALITIES)
        for moment in _MOMENTS
    }
    np.savez(folder / "features.npz", padding=np.array(pair.margins), size=np.array(pair.ir.shape), **arrays)
    shown: dict[str, Any] = {}
    for layer in layers:
        maps = _component_maps(layer, pair, scale)
        pictures = {name: colour(component, _size(pair), pair.margins) for name, component in maps.items()}
        for name, picture in pictures.items():
            picture.save(folder / f"layer{layer.layer}_{name}.png")
            shown[f"layer{layer.layer}_{name}"] = {key: getattr(maps[name], key) for key in ("low", "high", "share")}
        _panel(layer, pair, maps, pictures, label, scale).save(folder / f"layer{layer.layer}.png")
    write_json(folder / "maps.json", {"schema_version": 1, "scale": scale, "maps": shown})


def _component_maps(layer: LayerFeatures, pair: ExplainedPair, scale: Scale) -> dict[str, ComponentMap]:
    maps: dict[str, ComponentMap] = {}
    for i, (modality, source) in enumerate(zip(MODALITIES, (pair.ir, pair.luma), strict=True)):
        found = component_maps(layer.before[i], layer.after[i], source, pair.margins, scale)
        maps |= {f"{modality}_{moment}": component for moment, component in zip(_MOMENTS, found, strict=True)}
    return maps


def _panel(
    layer: LayerFeatures,
    pair: ExplainedPair,
    maps: Mapping[str, ComponentMap],
    pictures: Mapping[str, Image.Image],
    label: str,
    scale: Scale,
) -> Image.Image:
    """The six pictures of Fig. 14, in its order, a column a modality."""
    interaction = pair.explanation.interaction
    items = [PanelItem(_eight_bit(pair.ir), "IR"), PanelItem(_eight_bit(pair.vi), "VI")]
    for moment in _MOMENTS:
        for modality in MODALITIES:
            name = f"{modality}_{moment}"
            seen = f"{100 * maps[name].share:.0f} % of the variance"
            caption = f"{modality.upper()}, {moment} {interaction}"
            items.append(PanelItem(pictures[name], caption, seen, maps[name].low, maps[name].high))
    unused = "" if layer.used else " (the fused image does not depend on it)"
    height, width, channels = layer.before.shape[1:]
    how = "each map by itself" if scale == "own" else "one direction and one range for both maps of a modality"
    lines = [
        f"{label}, pair {pair.stem}, layer {layer.layer}{unused}: {width} by {height} positions, {channels} channels.",
        f"Shown: first principal component of the channels, 1st to 99th percentile; {how}.",
    ]
    return panel(items, lines)


def _eight_bit(image: np.ndarray) -> Image.Image:
    return Image.fromarray(np.round(image * 255).clip(0, 255).astype(np.uint8))


def _size(pair: ExplainedPair) -> tuple[int, int]:
    return pair.ir.shape[1], pair.ir.shape[0]
