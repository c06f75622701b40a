"""Results of an ablation that nobody ran: values written by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fusion_det.ablation.results import AblationResults, Budget, Trial, VariantInfo
from fusion_det.pipeline.quality_results import PublishedFigures

STEMS = tuple("abcdef")
BUDGET = Budget(steps=60, minutes=None, pairs_a_step=2, crop=61, pairs=120, paper_epochs=800, paper_crop=229)
RNG = np.random.default_rng(1)
WHOLE = {"SF": RNG.uniform(8, 12, (2, 6)), "Qabf": RNG.uniform(0.4, 0.6, (2, 6))}
VALUES = {
    "worse": {"SF": WHOLE["SF"] * 0.9, "Qabf": WHOLE["Qabf"] * 0.8},
    "same": {"SF": WHOLE["SF"] + [[1.2, -1, 1, -1, 1, -1]] * 2, "Qabf": WHOLE["Qabf"][::-1]},
    "whole": WHOLE,
}
PRINTED = {"Exp.1": (9.0, 0.4), "Exp.2": (9.5, 0.6), "Exp.8": (10.0, 0.5)}


def write_results(folder: Path, **changes: Any) -> AblationResults:
    """Two seeds of three variants, and a fourth that failed. Pictures: noise about each pair's own level."""
    trials = []
    for name, table in VALUES.items():
        for seed in (0, 1):
            where = folder / f"{name}{seed}"
            where.mkdir(parents=True, exist_ok=True)
            columns = {metric: values[seed].tolist() for metric, values in table.items()}
            document = {"stems": STEMS, "values": columns, "unavailable": {}}
            (where / "quality.json").write_text(json.dumps(document))
            nats = {"worse": 5.0, "same": 4.0, "whole": 3.0}[name] + 0.1 * np.arange(6) + 0.05 * seed
            (where / "entropy.json").write_text(json.dumps({"stems": STEMS, "nats": nats.tolist()}))
            _draw(where / "images", name)
            trials.append(
                Trial(
                    variant=name,
                    seed=seed,
                    steps=60,
                    seconds=5.0,
                    device="a CPU",
                    images=where / "images",
                    values=where / "quality.json",
                    entropies=where / "entropy.json",
                )
            )
    trials += [Trial(variant="broken", seed=seed, reason="training failed: NaN. Log: /x/log.txt") for seed in (0, 1)]
    for kind in ("ir", "vi"):
        _draw(folder / kind, kind)
    plain = {"stems": STEMS, "values": {"SF": [8.0] * 6, "Qabf": [0.45] * 6}, "unavailable": {}}
    (folder / "plain.json").write_text(json.dumps(plain))
    labels = {
        "worse": ("Less <1>", "Exp.1"),
        "same": ("Same", "Exp.2"),
        "broken": ("Broken", ""),
        "whole": ("Ours", "Exp.8"),
    }
    fields: dict[str, Any] = {
        "experiment": "made",
        "title": "Made up",
        "method": "Method",
        "variants": tuple(
            VariantInfo(
                name=n, label=label, config=None, paper_row=row, parameters=3_000_000, parameters_used=2_500_000
            )
            for n, (label, row) in labels.items()
        ),
        "reference": "whole",
        "trials": tuple(trials),
        "budget": BUDGET,
        "learnt_from": "120 pairs of made",
        "measured_on": "6 pairs of made held out",
        "synthetic": False,
        "data_digest": "0" * 64,
        "metrics": ("SF", "Qabf"),
        "profile": "paper",
        "color": "gray",
        "sources": {stem: (folder / "ir" / f"{stem}.png", folder / "vi" / f"{stem}.png") for stem in STEMS},
        "shown": ("a", "d"),
        "control": folder / "plain.json",
        "published": PublishedFigures(name="Table V", columns=("SF", "Qabf"), rows=PRINTED, notes=("Of others.",)),
        "entropy_of": ("whole", "worse"),
        "classifier": "made_up",
    }
    return AblationResults(**fields | changes)


def _draw(folder: Path, name: str) -> None:
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(len(name))
    for stem in STEMS:
        pixels = rng.integers(0, 256, (40, 60), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{stem}.png")
