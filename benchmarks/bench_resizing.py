"""What MAEFuse's one size costs: real pairs, fused by a method that learns nothing, sent to 640 × 640 pixels and back.

    python benchmarks/bench_resizing.py PAIRS [PAIRS …] [--every N] [--method max]

Nothing but the resizing happens, so the figures are what a network in between could keep at most. Spatial frequency (SF), VIF and
Q^AB/F of the fused luma and its sources are given as shares of what they are without resizing; PSNR is of one luma to the other.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F

from fusion_det.data import open_dataset
from fusion_det.data.color import luma
from fusion_det.data.images import load_pair
from fusion_det.fusion import FusionMethod, build_method
from fusion_det.fusion.frame import to_eight_bit
from fusion_det.fusion.methods.maefuse.common import resized
from fusion_det.quality.edges import qabf
from fusion_det.quality.fidelity import vif
from fusion_det.quality.gradients import spatial_frequency

SIZE = 640


def interpolated(there: str, back: str, *, antialias: bool) -> Callable[[torch.Tensor], torch.Tensor]:
    def round_trip(image: torch.Tensor) -> torch.Tensor:
        small = F.interpolate(image, (SIZE, SIZE), mode=there, antialias=antialias, align_corners=False)
        return F.interpolate(small, image.shape[-2:], mode=back, antialias=antialias, align_corners=False)

    return round_trip


WAYS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "as published: bilinear, then cubic": interpolated("bilinear", "bicubic", antialias=False),
    "bilinear both ways, no aliasing": interpolated("bilinear", "bilinear", antialias=True),
    "cubic both ways, no aliasing (common protocol)": lambda x: resized(resized(x, SIZE, SIZE), *x.shape[-2:]),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", type=Path, nargs="+")
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--method", default="max")
    options = parser.parse_args()
    method = build_method(options.method)
    assert isinstance(method, FusionMethod)
    print("| pairs | resizing | SF | VIF | Q^AB/F | PSNR [dB] |\n| --- | --- | --- | --- | --- | --- |")
    for folder in options.pairs:
        records = open_dataset(folder).records[:: options.every]
        rows: dict[str, list[list[float]]] = {way: [] for way in WAYS}
        for record in records:
            pair = load_pair(record)
            ir, vi = pair.ir[None], luma(pair.vi[None])
            fused = method.fuse(ir, vi).clamp(0, 1)
            before = figures(ir, vi, fused)
            for way, round_trip in WAYS.items():
                after = round_trip(fused).clamp(0, 1)
                error = float((after - fused).square().mean().clamp(min=1e-12))
                relative = [b / a for a, b in zip(before, figures(ir, vi, after), strict=True)]
                rows[way].append([*relative, -10 * float(torch.tensor(error).log10())])
        for way, values in rows.items():
            means = torch.tensor(values).mean(0).tolist()
            cells = [f"{value:.1%}" for value in means[:3]] + [f"{means[3]:.1f}"]
            print(f"| {folder.name} ({len(records)}) | {way} | {' | '.join(cells)} |")


def figures(ir: torch.Tensor, vi: torch.Tensor, fused: torch.Tensor) -> list[float]:
    ir, vi, fused = (to_eight_bit(image) for image in (ir, vi, fused))
    return [float(spatial_frequency(fused)), float(vif(ir, vi, fused)), float(qabf(ir, vi, fused))]


if __name__ == "__main__":
    main()
