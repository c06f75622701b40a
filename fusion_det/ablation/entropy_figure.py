"""The figure of the classifier's entropy over fused images, with and without the perception loss (S4Fusion, Fig. 13)."""

from __future__ import annotations

import io
import json
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from fusion_det.ablation.results import AblationResults
from fusion_det.ablation.summary import REPLICATES, Estimate
from fusion_det.report.formatting import number
from fusion_det.report.statistics import percentile_interval

logger = logging.getLogger(__name__)

CLASSES = 1000
"""Of ImageNet, which all classifiers here know."""


@dataclass(frozen=True, eq=False)
class Entropies:
    """Nats by image. variants: label → (n,) over all trainings, in order. sources: "infrared", "visible" → (n,).

    difference: of the first variant from each other one, over the same pairs, trainings averaged: label → estimate.
    """

    variants: Mapping[str, np.ndarray]
    sources: Mapping[str, np.ndarray]
    difference: Mapping[str, Estimate]
    rows: tuple[dict[str, Any], ...]
    missing: tuple[str, ...]


def read_entropies(results: AblationResults) -> Entropies | None:
    """What was measured of the variants that were asked for; None where none of it is there."""
    labels = {v.name: v.label for v in results.variants}
    stems = list(results.sources)
    by_variant: dict[str, list[np.ndarray]] = {labels[name]: [] for name in results.entropy_of}
    rows: list[dict[str, Any]] = []
    missing = []
    for trial in results.trials:
        if trial.variant not in results.entropy_of:
            continue
        label = labels[trial.variant]
        nats = None if trial.entropies is None else _nats(trial.entropies, stems)
        if nats is None:
            missing.append(
                f"{label}: {trial.reason or trial.entropy_reason or 'its entropies are no longer in the store'}"
            )
            continue
        by_variant[label].append(nats)
        rows += [_row(results, label, trial.seed, stem, value) for stem, value in zip(stems, nats, strict=True)]
    found = {label: np.stack(arrays) for label, arrays in by_variant.items() if arrays}
    sources = {}
    for kind, file in results.source_entropies.items():
        nats = _nats(file, stems)
        if nats is not None:
            sources[kind] = nats
            rows += [_row(results, kind, None, stem, value) for stem, value in zip(stems, nats, strict=True)]
    if not found:
        return None
    means = {label: arrays.mean(0) for label, arrays in found.items()}
    first = next(iter(means))
    differences = {label: _difference(means[first], values) for label, values in means.items() if label != first}
    return Entropies({k: v.ravel() for k, v in found.items()}, sources, differences, tuple(rows), tuple(missing))


ENTROPY_COLUMNS = ("experiment", "images_of", "seed", "stem", "classifier", "nats")


def _row(results: AblationResults, label: str, seed: int | None, stem: str, nats: float) -> dict[str, Any]:
    row = {"experiment": results.experiment, "images_of": label, "seed": seed, "stem": stem}
    return {**row, "classifier": results.classifier, "nats": float(nats)}


def _nats(file: Path, stems: Sequence[str]) -> np.ndarray | None:
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        logger.warning("%s is no longer in the store; run the command again", file)
        return None
    table = dict(zip(document["stems"], document["nats"], strict=True))
    return np.array([table[stem] for stem in stems])


def _difference(a: np.ndarray, b: np.ndarray) -> Estimate:
    paired = a - b
    drawn = np.random.Generator(np.random.PCG64(0)).integers(0, len(paired), (REPLICATES, len(paired)))
    interval = percentile_interval(paired[drawn].mean(1)) if len(paired) > 1 else None
    return Estimate(float(paired.mean()), *(interval or (None, None)))


def entropy_answer(entropies: Entropies, classifier: str) -> str:
    """What the figure shows, in a sentence or two, no stronger than it is."""
    medians = [f"{label} {number(float(np.median(nats)), 2)}" for label, nats in entropies.variants.items()]
    text = f"Median entropy of {classifier}: {', '.join(medians)} nats."
    first = next(iter(entropies.variants))
    for label, d in entropies.difference.items():
        words = {-1: "lower than", 0: "not told apart from", 1: "higher than"}[d.sign]
        interval = "" if d.low is None else f", 95 % {_nat(d.low)} to {_nat(d.high)} over pairs"
        text += f" {first} is {words} {label}: mean difference {_nat(d.value)}{interval}."
    return text


def _nat(value: float | None) -> str:
    return "–" if value is None else f"{value:+.2f}".replace("-", "−")


_Dash = str | tuple[int, tuple[int, ...]]

_LOOKS: tuple[tuple[str, _Dash, float], ...] = (
    ("#0072b2", "-", 2.0),
    ("#d55e00", "--", 2.0),
    ("#009e73", "-.", 2.0),
    ("#cc79a7", (0, (1, 1)), 2.0),
)
"""Okabe and Ito's colours; apart in print without colour too."""
_SOURCE_LOOKS: dict[str, tuple[str, _Dash]] = {
    "infrared": ("#1b1b1b", (0, (1, 2))),
    "visible": ("#7d7d7d", (0, (6, 2, 1, 2))),
}


def entropy_figure(entropies: Entropies, classifier: str, stamp: str, kind: Literal["svg", "png", "pdf"]) -> bytes:
    """The distributions over images as a figure on white. The same data give the same bytes.

    Lines are densities (see :func:`density`), thin ones those of the sources; a tick below is an
    image, a triangle the median.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    top = math.log(CLASSES)
    at = np.linspace(0, top, 400)
    with mpl.rc_context({"svg.hashsalt": "fusion_det", "font.size": 9, "font.family": "sans-serif"}):
        figure = Figure(figsize=(6.2, 3.3), layout="constrained")
        axes = figure.subplots()
        for name, nats in entropies.sources.items():
            color, dash = _SOURCE_LOOKS[name]
            axes.plot(at, density(nats, at, top), color=color, linestyle=dash, linewidth=1.1, label=f"{name} images")
        for i, (label, nats) in enumerate(entropies.variants.items()):
            color, dash, line = _LOOKS[i % len(_LOOKS)]
            curve = density(nats, at, top)
            axes.plot(at, curve, color=color, linestyle=dash, linewidth=line, label=label)
            axes.fill_between(at, curve, color=color, alpha=0.10, linewidth=0)
            y = -0.05 * (i + 1)
            transform = axes.get_xaxis_transform()
            axes.plot(
                nats, [y] * len(nats), "|", color=color, markersize=5, alpha=0.75, transform=transform, clip_on=False
            )
            axes.plot(np.median(nats), y, "^", color=color, markersize=6, transform=transform, clip_on=False)
        axes.set_xlim(0, top)
        axes.set_ylim(bottom=0)
        axes.tick_params(axis="x", pad=6 + 11 * len(entropies.variants))
        axes.set_xlabel(f"entropy of {classifier}'s softmax over {CLASSES} classes, nats (at most {top:.2f})")
        axes.set_ylabel("density, 1/nat")
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
        axes.legend(frameon=False, loc="upper left")
        if stamp:
            axes.set_title(stamp, loc="right", color="#b3261e", fontsize=8, fontweight="bold")
        buffer = io.BytesIO()
        metadata = {"png": {"Software": None}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}[kind]
        figure.savefig(buffer, format=kind, dpi=200, metadata=metadata)
    return buffer.getvalue()


def density(values: np.ndarray, at: np.ndarray, high: float) -> np.ndarray:
    """Density of (n,) values in [0, high] at points (m,): Gaussian kernels, mirrored at both ends so that none of it is lost.

    The bandwidth is Silverman's (1986, Eq. 3.31); values that are all alike get one of a hundredth of the range.
    """
    spread = values.std(ddof=1) if len(values) > 1 else 0.0
    between = np.subtract(*np.percentile(values, [75, 25])) / 1.34
    width = 0.9 * (min(spread, between) or spread) * len(values) ** -0.2 or high / 100
    mirrored = np.concatenate([values, -values, 2 * high - values])
    kernels = np.exp(-0.5 * ((at[:, None] - mirrored) / width) ** 2)
    return kernels.sum(1) / (len(values) * width * math.sqrt(2 * math.pi))
