"""What a training leaves behind: checkpoints with cards, the curve, sheets of sample pictures."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fusion_det.data.images import load_pair
from fusion_det.files import digest_file, replace_atomically, write_json, write_text
from fusion_det.fusion.checkpoint import save_checkpoint
from fusion_det.fusion.frame import fuse_frames, to_eight_bit
from fusion_det.fusion.method import FusionMethod
from fusion_det.fusion.png import write_png
from fusion_det.fusion.training.mixture import Member

FIRST_COLUMNS = ("epoch", "step", "seconds", "rate", "total")
"""Of ``curve.csv``: after each epoch the learning rate of its last step, the training time so far, the mean losses of its
batches (terms unweighted, ``total`` weighted) and, as ``val_…``, those of the validation crops. The terms are the method's."""

_GAP = 4
"""Pixels between the pictures of a sheet."""


def write_curve(file: Path, rows: Sequence[Mapping[str, float]]) -> None:
    """The rows as CSV, in nine digits, enough to tell any two float32 losses apart."""
    text = io.StringIO()
    terms = dict.fromkeys((*FIRST_COLUMNS, *(name for row in rows for name in row if not name.startswith("val_"))))
    validated = dict.fromkeys(name for row in rows for name in row if name.startswith("val_"))
    writer = csv.DictWriter(text, [*terms, *validated], restval="", lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: f"{value:.9g}" for name, value in row.items()})
    write_text(file, text.getvalue())


def plot_curve(file: Path, rows: Sequence[Mapping[str, float]], stamp: str = "") -> None:
    """The losses over epochs as PNG, a panel a term: training and validation. ``stamp``: put across it ("demo")."""
    from matplotlib.figure import Figure

    names = dict.fromkeys(name for row in rows for name in row if not name.startswith("val_"))
    terms = ["total", *(name for name in names if name not in FIRST_COLUMNS)]
    figure = Figure(figsize=(2.4 * len(terms), 2.8), layout="constrained")
    epochs = [row["epoch"] for row in rows]
    for axes, term in zip(figure.subplots(1, len(terms), squeeze=False)[0], terms, strict=True):
        axes.plot(epochs, [row.get(term, np.nan) for row in rows], color="#0072b2", label="training")
        if any(f"val_{term}" in row for row in rows):
            axes.plot(epochs, [row.get(f"val_{term}", np.nan) for row in rows], color="#d55e00", label="validation")
        axes.set(title="weighted sum" if term == "total" else term, xlabel="epoch")
        axes.grid(alpha=0.3)
    figure.axes[0].legend(frameon=False)
    if stamp:
        figure.text(0.5, 0.5, stamp, fontsize=40, alpha=0.15, ha="center", va="center")
    with replace_atomically(file) as temporary:
        figure.savefig(temporary, dpi=110)


def write_checkpoint(file: Path, network: torch.nn.Module, card: Mapping[str, Any]) -> None:
    """``NAME.safetensors``, with the card in its header, and the card again beside it as ``NAME.json``.

    Args:
        card: has ``method`` and ``config``, by which a loader knows the file; ``data`` names every id trained on.
    """
    known = {key: str(card[key]) for key in ("method", "config") if card[key] is not None}
    save_checkpoint(file, network.state_dict(), known | {"card": json.dumps(card, sort_keys=True)})
    write_json(file.with_suffix(".json"), {**card, "file": file.name, "sha256": digest_file(file)})


def write_samples(file: Path, method: FusionMethod, members: Sequence[Member], device: str) -> None:
    """A sheet of whole pairs, a row each: both sources, fused in colour, as ``fusion-det fuse`` would write it."""
    rows = []
    for member in members:
        pair = load_pair(member.record)
        first = pair.ir.expand(3, -1, -1) if pair.ir_rgb is None else pair.ir_rgb
        ir_rgb = None if pair.ir_rgb is None else first[None].to(device)
        images = pair.ir[None].to(device), pair.vi[None].to(device)
        with torch.no_grad():
            fused = fuse_frames(method.for_task(member.record.task), *images, "ycbcr", [member.id], ir_rgb)
        sources = (to_eight_bit(image.clone()).permute(1, 2, 0) for image in (first, pair.vi))
        rows.append([image.numpy() for image in (*sources, fused[0].cpu())])
    write_png(_sheet(rows), file)


def _sheet(rows: Sequence[Sequence[np.ndarray]]) -> np.ndarray:
    """Pictures (H,W,3) in rows, on white; those of one row are of one size."""
    height = sum(row[0].shape[0] + _GAP for row in rows) - _GAP
    width = max(sum(image.shape[1] + _GAP for image in row) for row in rows) - _GAP
    sheet = np.full((height, width, 3), 255, np.uint8)
    top = 0
    for row in rows:
        left = 0
        for image in row:
            sheet[top : top + image.shape[0], left : left + image.shape[1]] = image
            left += image.shape[1] + _GAP
        top += row[0].shape[0] + _GAP
    return sheet
