"""Published implementations' values on real images, to the tolerances recorded with them.

``tests/golden/metrics/golden.json`` says what was run. The images are not in the repository; without them
``test_formulas`` remains, whose second implementation is held against the same values here.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import as_batch
from direct_formulas import NAMES, direct, nabf
from PIL import Image

from fusion_det.quality import evaluate
from fusion_det.quality.comparison import Comparison
from fusion_det.quality.edges import artefacts

GOLDEN: dict[str, Any] = json.loads((Path(__file__).parents[1] / "golden" / "metrics" / "golden.json").read_text())
TRIPLES = {entry["id"]: entry for entry in GOLDEN["triples"]}
PROFILE_OF = {"cddfuse_f32": "cddfuse", "cddfuse_f64": "cddfuse", "ivif_zoo_f32": "zoo", "ivif_zoo_f64": "zoo"}
FORMULA_PROFILE = {"cdd": "cddfuse", "zoo": "zoo", "paper": "paper"}
MATLAB = {
    "tang.AG": ("paper", "AG"),
    **{f"tang.{name}": ("cddfuse", name) for name in ("EN", "SF", "SD", "VIF", "CC", "SCD", "Qabf")},
    **{f"tang.{name}": ("zoo", name) for name in ("MSE", "PSNR")},
    "gtf.MI": ("zoo", "MI"),
}


def close(value: float, expected: float, tolerance: float) -> bool:
    return abs(value - expected) <= (tolerance * abs(expected) if abs(expected) >= 1e-3 else 1e-9)


def tolerance(implementation: str, name: str) -> float:
    entry = GOLDEN["tolerance"][implementation]
    return entry.get(name, entry.get("default", 0.0))


def read(folder: Path, triple: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    files = TRIPLES[triple]["files"]
    ir, vi, fused = (np.array(Image.open(folder / files[role])) for role in ("ir", "vi", "fused"))
    return ir, vi, fused


def expected_values(triple: str) -> list[tuple[str, str, str, float, float]]:
    """(whose, profile, metric, value, tolerance) of everything recorded that this package computes."""
    values = TRIPLES[triple]["values"]
    rows = []
    for implementation, profile in PROFILE_OF.items():
        for name, value in values[implementation].items():
            if name in NAMES:
                rows.append((implementation, profile, name, value, tolerance(implementation, name)))
    formula = values["formula_f64"]
    for key, value in formula.items():
        prefix, name = key.split(".")
        if prefix in FORMULA_PROFILE and name in NAMES:
            rows.append(("formula", FORMULA_PROFILE[prefix], name, value, tolerance("formula_f64", key)))
    for name in ("SSIM", "MS_SSIM"):
        both = formula[f"std.{name}_ir"] + formula[f"std.{name}_vi"]
        rows.append(("formula", "standard", name, both, 1e-9))
    rows.append(("formula", "standard", "PSNR", formula["std.PSNR_255"], 1e-9))
    standard = values["standard_L255"]
    for name, source in (("SSIM", "skimage"), ("SSIM", "lib"), ("MS_SSIM", "lib")):
        both = standard[f"{name}_ir_{source}"] + standard[f"{name}_vi_{source}"]
        rows.append((source, "standard", name, both, tolerance("standard_L255", name)))
    for key, (profile, name) in MATLAB.items():
        rows.append(("matlab", profile, name, values["matlab"][key], tolerance("matlab", key)))
    return rows


@pytest.mark.parametrize("triple", TRIPLES)
def test_every_recorded_value(triple: str, shared_triples: Path) -> None:
    batch = [as_batch(image) for image in read(shared_triples, triple)]
    ours = {
        profile: evaluate(*batch, profile=profile)  # type: ignore[arg-type]
        for profile in ("paper", "cddfuse", "zoo", "standard")
    }
    rows = expected_values(triple)
    assert len(rows) > 70
    wrong = [
        f"{whose} {profile} {name}: {ours[profile][name].item():.12g}, recorded {value:.12g}, tolerance {allowed}"
        for whose, profile, name, value, allowed in rows
        if not close(ours[profile][name].item(), value, allowed)
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("triple", TRIPLES)
def test_the_second_implementation_is_right_too(triple: str, shared_triples: Path) -> None:
    """What ``test_formulas`` compares with, where no image is at hand."""
    images = [image.astype(float) for image in read(shared_triples, triple)]
    for whose, profile, name, value, allowed in expected_values(triple):
        if whose == "formula":
            assert close(direct(name, images[0], images[1], images[2], profile), value, allowed), (profile, name)


@pytest.mark.parametrize("triple", TRIPLES)
def test_kumars_weight_of_weak_edges(triple: str, shared_triples: Path) -> None:
    ir, vi, fused = read(shared_triples, triple)
    images = torch.from_numpy(np.stack([fused, ir, vi]))
    recorded = TRIPLES[triple]["values"]["matlab"]["kumar.Nabf"]
    assert close(artefacts(Comparison(images, "paper"), weak_edge_weight=0.001), recorded, 1e-9)
    floats = (image.astype(float) for image in (ir, vi, fused))
    assert close(nabf(*floats, weak_edge_weight=0.001), recorded, 1e-9)


FLOAT32_NOISE = {("constant_128", "zoo", name) for name in ("EN", "SSIM", "MS_SSIM")}
"""Recorded values that are the rounding of the published code, so no other program has them: an entropy of −1.7e-7, and
an SSIM of 0.0049 where float64 gives 0.0009 (so does scikit-image): rounding of 1e-3 in a variance of 0, beside a C2 of 9e-4."""


@pytest.mark.parametrize("case", GOLDEN["degenerate_on_t1"]["values"])
def test_copies_and_constants(case: str, shared_triples: Path) -> None:
    """Where the published code has NaN there is a number here."""
    ir, vi, _ = read(shared_triples, "t1_mean")
    fused = {"copy_ir": ir, "copy_vi": vi, "constant_128": np.full_like(ir, 128)}[case]
    recorded = GOLDEN["degenerate_on_t1"]["values"][case]
    for implementation, values in recorded.items():
        profile = PROFILE_OF[implementation]
        ours = evaluate(as_batch(ir), as_batch(vi), as_batch(fused), profile=profile)  # type: ignore[arg-type]
        for name, value in values.items():
            if name not in NAMES or (case, profile, name) in FLOAT32_NOISE:
                continue
            if value == "nan" and name == "CC":
                assert ours[name].item() == 0
            elif value == "nan":  # SCD: the copied source still correlates with what is left of it beside the other
                copied, other = (ir, vi) if case == "copy_ir" else (vi, ir)
                rest = np.corrcoef(copied.ravel(), (copied.astype(float) - other).ravel())[0, 1]
                assert ours[name].item() == pytest.approx(rest, rel=1e-9)
            else:
                # The recorded SSIM of the constant is itself 2.4e-9 off its value in whole numbers, 0.00779905552570769.
                allowed = max(tolerance(implementation, name), 1e-8 if case == "constant_128" else 0)
                assert close(ours[name].item(), value, allowed), (implementation, name)


def test_a_constant_image_has_little_structural_similarity(shared_triples: Path) -> None:
    """In place of the values left out above."""
    ir, vi, _ = read(shared_triples, "t1_mean")
    grey = np.full_like(ir, 128)
    ours = evaluate(as_batch(ir), as_batch(vi), as_batch(grey), metrics=["SSIM", "MS_SSIM", "EN"], profile="zoo")
    for name, value in ours.items():
        expected = direct(name, ir.astype(float), vi.astype(float), grey.astype(float), "zoo")
        assert value.item() == pytest.approx(expected, rel=1e-6)
