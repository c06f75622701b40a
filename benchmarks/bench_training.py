"""Pairs per second of fusion training, and what they are spent on.

    python benchmarks/bench_training.py [--method s4fusion] [--rounds 3] [--threads 2]

Pairs are noise in memory, so reading is not counted; each row is forward, loss and backward of whole batches, without the
optimiser's step (a few milliseconds). "ratio" is the row's speed over that of the first row in the same run, per pixel of the
crops. The parts are torch.profiler's, of the first row: time inside operations of a kind, in the calling thread, as a share of
the whole.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections import Counter
from dataclasses import replace

import torch
from lightning.fabric import Fabric
from torch.profiler import ProfilerActivity, profile

from fusion_det.fusion import build_method, get_card
from fusion_det.fusion.method import FusionMethod, padded_size
from fusion_det.fusion.training.recipe import Recipe, Sources
from fusion_det.fusion.training.settings import TrainSettings, preset
from fusion_det.machine import freed_memory_kept

KINDS = {
    "scan, backward": ("ScanBackward",),
    "scan, forward": ("_PlaneScan", "_SequenceScan"),
    "convolutions and products, backward": ("convolution_backward", "AddmmBackward", "mm_backward"),
    "convolutions and products": (
        "mkldnn_convolution",
        "convolution_overrideable",
        "aten::addmm",
        "aten::mm",
        "aten::bmm",
    ),
    "norms": ("native_layer_norm", "native_batch_norm"),
}


def sources(settings: TrainSettings) -> Sources:
    size = (settings.batch, 1, settings.crop, settings.crop)
    ir, luma = torch.rand(size), torch.rand(size)
    return Sources(ir, luma.expand(-1, 3, -1, -1), luma)


def step(recipe: Recipe, fabric: Fabric, batch: Sources) -> float:
    began = time.perf_counter()
    phase = recipe.phases[-1]
    with fabric.autocast():
        output = phase.forward(batch)
    phase.loss(batch, output.float(), 1.0)["total"].backward()
    recipe.networks.zero_grad(set_to_none=True)
    return time.perf_counter() - began


def shares(recipe: Recipe, fabric: Fabric, batch: Sources) -> Counter[str]:
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        step(recipe, fabric, batch)
    events = profiler.key_averages()
    whole = sum(event.self_cpu_time_total for event in events)
    found: Counter[str] = Counter()
    for event in events:
        kind = next((kind for kind, names in KINDS.items() if any(name in event.key for name in names)), "the rest")
        found[kind] += event.self_cpu_time_total / whole
    return found


def built(method: str, settings: TrainSettings) -> tuple[Recipe, Fabric]:
    made = build_method(method, weights=None)
    if not isinstance(made, FusionMethod):
        raise TypeError(method)
    recipe = made.recipe(settings)
    recipe.networks.train()
    precision = "bf16-mixed" if settings.precision == "bfloat16" else "32-true"
    return recipe, Fabric(accelerator="cpu", devices=1, precision=precision)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", default="s4fusion")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    card = get_card(options.method)
    usual = replace(preset("small", card), classifier="none")
    large = padded_size(229, card)
    rows = [
        ("as the small preset, no classifier", usual),
        ("efficientnet_lite0 judges", replace(usual, classifier="efficientnet_lite0")),
        ("bfloat16", replace(usual, precision="bfloat16")),
        ("batch 1", replace(usual, batch=1)),
        ("batch 8", replace(usual, batch=8)),
        (f"crops of {large}", replace(usual, crop=large)),
    ]
    torch.manual_seed(0)
    first = None
    print(
        f"{options.method}, {options.threads} threads\n| | crop | batch | pairs/s | ratio |\n| --- | --- | --- | --- | --- |"
    )
    with freed_memory_kept():
        for name, settings in rows:
            recipe, fabric = built(options.method, settings)
            batch = sources(settings)
            step(recipe, fabric, batch)  # compiles and allocates
            speed = settings.batch / statistics.median(step(recipe, fabric, batch) for _ in range(options.rounds))
            pixels = speed * settings.crop**2
            first = first or pixels
            print(f"| {name} | {settings.crop} | {settings.batch} | {speed:.2f} | {pixels / first:.2f} |", flush=True)
        recipe, fabric = built(options.method, usual)
        batch = sources(usual)
        step(recipe, fabric, batch)
        parts = shares(recipe, fabric, batch)
    print("\nparts of the first row: " + ", ".join(f"{kind} {share:.0%}" for kind, share in parts.most_common()))


if __name__ == "__main__":
    main()
