"""Seconds and memory per image pair of the quality metrics, beside the same formulas written directly in scipy and scikit-image.

    python benchmarks/bench_quality.py [--size 1024x768] [--threads 1 2] [--rounds 5] [--profile paper] [--images IR VI]

The reference is ``tests/quality/direct_formulas.py`` (needs the test extra): plain numpy, scipy and scikit-image with
two-dimensional windows, one thread, timed in the same run between the others. "all" computes all fourteen metrics at once,
sharing what they have in common. Figures are medians over rounds; the reference, which takes seconds, is timed once. The
image is noise at several scales unless ``--images`` names a pair.

Two threads help only while OpenMP's threads spin between the many short operations, torch's default; with
OMP_WAIT_POLICY=PASSIVE, which fusion-det's command line sets, they are slower than one. Many images are measured fastest with
one thread each, several at a time.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from fusion_det.quality import FORMULAS, PROFILES, evaluate

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "quality"))


def made_up(seed: int, width: int, height: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    total = np.full((height, width), 128.0)
    for scale, strength in ((64, 60), (8, 25), (1, 3)):
        coarse = rng.standard_normal((height // scale + 2, width // scale + 2)).astype(np.float32)
        total += strength * np.asarray(Image.fromarray(coarse).resize((width, height)))
    return total.round().clip(0, 255).astype(np.uint8)


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def peak_mebibytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="1024x768")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--profile", choices=PROFILES, default="paper")
    parser.add_argument("--images", type=Path, nargs=2, metavar=("IR", "VI"))
    parser.add_argument("--json", type=Path, help="also write the figures there")
    options = parser.parse_args()

    if options.images:
        ir, vi = (np.array(Image.open(file).convert("L")) for file in options.images)
    else:
        width, height = map(int, options.size.split("x"))
        ir, vi = made_up(1, width, height), made_up(2, width, height)
    fused = ((ir.astype(int) + vi + 1) // 2).astype(np.uint8)
    batch = [torch.from_numpy(image)[None, None] for image in (ir, vi, fused)]

    def ours(names: tuple[str, ...]) -> Callable[[], object]:
        return lambda: evaluate(*batch, metrics=names, profile=options.profile)

    warm_up = [image[..., :200, :200] for image in batch]
    evaluate(*warm_up, profile=options.profile)
    before = peak_mebibytes()
    evaluate(*batch, profile=options.profile)
    memory = peak_mebibytes() - before

    from direct_formulas import direct

    floats = [image.astype(float) for image in (ir, vi, fused)]
    columns = {**{name: (name,) for name in FORMULAS}, "all": FORMULAS}
    times: dict[str, dict[str, float]] = {name: {} for name in columns}
    for name in FORMULAS:
        times[name]["reference"] = seconds(lambda name=name: direct(name, *floats, options.profile))  # type: ignore[misc]
    times["all"]["reference"] = sum(row["reference"] for row in times.values() if row)
    for threads in options.threads:
        torch.set_num_threads(threads)
        for name, names in columns.items():
            seconds(ours(names))
            times[name][str(threads)] = statistics.median(seconds(ours(names)) for _ in range(options.rounds))

    height, width = ir.shape
    print(f"{width}×{height}, profile {options.profile}; seconds, and how many times faster than the reference")
    print(f"{'metric':8s} {'reference':>10s}" + "".join(f"{f'{t} thread(s)':>22s}" for t in options.threads))
    for name, row in times.items():
        shown = "".join(f"{row[str(t)]:12.4f} {row['reference'] / row[str(t)]:8.1f}×" for t in options.threads)
        print(f"{name:8s} {row['reference']:10.4f}{shown}")
    print(f"peak memory of all fourteen beyond the images: {memory:.0f} MiB")
    if options.json:
        record = {"size": [width, height], "profile": options.profile, "seconds": times, "memory_mib": memory}
        options.json.write_text(json.dumps(record, indent=2))


if __name__ == "__main__":
    main()
