"""Seconds per pair for each fusion method and for the runner's own work, beside plain reading and writing of images.

    OMP_WAIT_POLICY=PASSIVE python benchmarks/bench_fuse.py [--pairs 12] [--size 1024x768] [--methods all] [--source DIR]

The reference of every ratio is one thread that reads the two images of a pair with Pillow and writes one of them as PNG,
timed in the same run, between the other measurements, since a shared machine is not equally fast at all times. Every
figure is the median over rounds. The variable is what fusion-det itself sets: without it OpenMP's threads burn the cores
that reading and writing need. The images are photographs if ``--source`` names a dataset, otherwise smooth noise.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from fusion_det.data.pair import PairRecord
from fusion_det.fusion import FusionMethod, FusionRunner, build_method, expand_methods, resolve_device
from fusion_det.fusion.frame import fuse_frames
from fusion_det.fusion.png import COMPRESSION, write_png


def made_up_pairs(folder: Path, count: int, width: int, height: int) -> list[PairRecord]:
    """Pairs that compress about as photographs do: noise at several scales."""
    rng = np.random.default_rng(0)
    records = []
    for i in range(count):
        files = {}
        for kind, channels in (("ir", 1), ("vi", 3)):
            total = np.zeros((height, width, channels))
            for scale, strength in ((64, 60), (8, 25), (1, 3)):
                coarse = rng.standard_normal((height // scale + 2, width // scale + 2, channels))
                layers = [
                    np.asarray(Image.fromarray(coarse[..., c].astype(np.float32)).resize((width, height)))
                    for c in range(channels)
                ]
                total += strength * np.stack(layers, -1)
            pixels = (128 + total).clip(0, 255).astype(np.uint8)
            files[kind] = folder / kind / f"{i:05d}.png"
            files[kind].parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.squeeze()).save(files[kind])
        records.append(PairRecord(f"{i:05d}", files["ir"], files["vi"], width, height))
    return records


def real_pairs(source: Path, count: int) -> list[PairRecord]:
    from fusion_det.data import open_dataset

    return list(open_dataset(source, limit=count).records)


def plain_read_and_write(records: list[PairRecord], out: Path) -> None:
    """The reference: Pillow alone, one thread, default PNG settings but for the level of compression."""
    out.mkdir(parents=True, exist_ok=True)
    for record in records:
        with Image.open(record.ir) as ir, Image.open(record.vi) as vi:
            ir.load()
            vi.convert("RGB").save(out / f"{record.stem}.png", compress_level=COMPRESSION)


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def compression_table(record: PairRecord, folder: Path) -> list[dict[str, float]]:
    """Seconds and megabytes of one visible image at several zlib levels."""
    with Image.open(record.vi) as opened:
        image = opened.convert("RGB")
    rows = []
    for level in (0, 1, 3, 6, 9):
        file = folder / f"level{level}.png"
        took = min(seconds(lambda file=file, level=level: image.save(file, compress_level=level)) for _ in range(3))  # type: ignore[misc]
        rows.append({"level": level, "seconds": took, "megabytes": file.stat().st_size / 1e6})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--pairs", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", default="1024x768")
    parser.add_argument("--source", type=Path, help="a dataset of real pairs instead")
    parser.add_argument("--methods", default="all")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    device = resolve_device(options.device)
    with tempfile.TemporaryDirectory(prefix="bench_fuse.") as name:
        folder = Path(name)
        width, height = map(int, options.size.split("x"))
        if options.source:
            records = real_pairs(options.source, options.pairs)
        else:
            records = made_up_pairs(folder, options.pairs, width, height)
        count = len(records)
        fused = np.asarray(Image.open(records[0].vi).convert("RGB"))
        ir = torch.rand(1, 1, height, width, device=device)
        vi = torch.rand(1, 3, height, width, device=device)
        methods = {spec.name: build_method(spec, device=device) for spec in expand_methods(options.methods)}
        times: dict[str, list[float]] = {}
        for turn in range(options.rounds):
            plain = folder / f"plain{turn}"
            times.setdefault("reference", []).append(seconds(lambda p=plain: plain_read_and_write(records, p)) / count)  # type: ignore[misc]
            target = folder / "atomic.png"
            times.setdefault("write_png", []).append(seconds(lambda t=target: write_png(fused, t)))  # type: ignore[misc]
            for label, method in methods.items():
                if not isinstance(method, FusionMethod):
                    continue
                with torch.no_grad():
                    took = seconds(lambda m=method: fuse_frames(m, ir, vi, "ycbcr").cpu())  # type: ignore[misc]
                times.setdefault(f"{label} in memory", []).append(took)
                runner = FusionRunner(method, device=device, workers=options.workers)
                out = folder / f"{label}{turn}"
                times.setdefault(f"{label} whole runner", []).append(runner.run(records, out).seconds / count)
        medians = {label: statistics.median(values) for label, values in times.items()}
        report = {
            "size": f"{width}x{height}",
            "pairs": count,
            "device": device,
            "threads": torch.get_num_threads(),
            "seconds_per_pair": {label: round(value, 4) for label, value in medians.items()},
            "times_reference": {label: round(value / medians["reference"], 2) for label, value in medians.items()},
            "png_levels": compression_table(records[0], folder),
        }
    sys.stdout.write(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
