"""The learned methods side by side: size, time and peak memory, over the formulations of their papers.

    OMP_WAIT_POLICY=PASSIVE python benchmarks/bench_methods.py [--methods all] [--size 640x480] [--threads 2] [--json FILE]

Each figure of memory is of a process of its own. Times of a method and of its plain formulation, where there is one
(``tests/fusion/plain_formulations.py``), are taken in turns in one process, since a shared machine is not equally fast at all
times; a ratio above one says how many times slower the plain one is. Weights are random, which changes no time. Parameters and
operations are counted, a multiply-add being one operation here, and stand beside those of the S4Fusion paper's Table VII.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

from fusion_det.efficiency.assessment import count
from fusion_det.efficiency.memory import peak_memory
from fusion_det.efficiency.paper import SIZE, TABLE_VII
from fusion_det.efficiency.parameters import TRIAL_SIZE, random_pair
from fusion_det.fusion import FusionMethod, build_method, expand_methods, get_card
from fusion_det.machine import available_cores, device_name, freed_memory_kept

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "fusion"))

MEBIBYTE = 1 << 20


def untrained(name: str, *, plain: bool = False) -> FusionMethod:
    torch.manual_seed(0)
    method = build_method(name, weights=None)
    assert isinstance(method, FusionMethod)
    if plain:
        from plain_formulations import as_published

        assert method.network is not None
        method.network = as_published(method.network)
    return method


def memory_of(name: str, height: int, width: int, plain: bool) -> dict[str, float]:
    """MiB above what the process had taken before, weights and sources among it. In a process that does nothing else."""
    method = untrained(name, plain=plain)
    pair = random_pair(method, height, width, "cpu")
    with torch.no_grad():
        with freed_memory_kept():
            method.fuse(*random_pair(method, TRIAL_SIZE, TRIAL_SIZE, "cpu"))
        with freed_memory_kept():
            found = peak_memory(lambda: method.fuse(*pair), "cpu")
    assert found is not None, "this system does not tell how much memory a process takes"
    return {"memory": found.increase / MEBIBYTE, "process": found.peak / MEBIBYTE}


def times_of(name: str, height: int, width: int, rounds: int, with_plain: bool) -> dict[str, Any]:
    """Seconds of every call, taken in turns, and how far the two images are apart at most."""
    methods = {"seconds": untrained(name)}
    if with_plain:
        methods["plain_seconds"] = untrained(name, plain=True)
    pair = random_pair(methods["seconds"], height, width, "cpu")
    found: dict[str, Any] = {kind: [] for kind in methods}
    with torch.no_grad(), freed_memory_kept():
        images = [method.fuse(*pair) for method in methods.values()]
        for _ in range(rounds):
            for kind, method in methods.items():
                began = time.perf_counter()
                method.fuse(*pair)
                found[kind].append(time.perf_counter() - began)
    found["difference"] = (images[0] - images[-1]).abs().max().item()
    return found


def in_a_process(threads: int, *arguments: str) -> dict[str, Any]:
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    done = subprocess.run(
        [sys.executable, __file__, *arguments], stdout=subprocess.PIPE, text=True, check=True, env=environment
    )
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def measure(name: str, width: int, height: int, rounds: int, threads: int) -> dict[str, Any]:
    from plain_formulations import METHODS

    common = ("--methods", name, "--size", f"{width}x{height}", "--rounds", str(rounds), "--threads", str(threads))
    with_plain = name in METHODS
    row = {"method": name, **in_a_process(threads, *common, "--part", "plain-times" if with_plain else "times")}
    row |= in_a_process(threads, *common, "--part", "memory")
    if with_plain:
        plain = in_a_process(threads, *common, "--part", "plain-memory")
        row |= {f"plain_{key}": value for key, value in plain.items()}
    parameters, flops = count(name, None, height, width)
    row["parameters"] = parameters.total
    if flops is not None:
        row |= {"multiply_adds": flops.layers // 2, "scan_operations": flops.scans}
    return row


def line(row: dict[str, Any], *, with_paper: bool) -> str:
    paper = TABLE_VII.get(row["method"]) if with_paper else None
    seconds = statistics.median(row["seconds"])
    cells = [
        get_card(row["method"]).label,
        f"{row['parameters'] / 1e6:.3f}",
        "" if paper is None else f"{paper.parameters:g}",
        f"{row.get('multiply_adds', 0) / 1e9:.2f}",
        f"{row.get('scan_operations', 0) / 1e9:.2f}",
        "" if paper is None else f"{paper.gflops:g}",
        f"{seconds:.3f}",
        f"{row['memory']:.0f}",
        f"{row['process']:.0f}",
    ]
    if "plain_seconds" in row:
        slower = statistics.median(
            plain / ours for plain, ours in zip(row["plain_seconds"], row["seconds"], strict=True)
        )
        cells += [f"{slower:.2f}", f"{row['plain_memory'] / row['memory']:.2f}", f"{row['difference']:.0e}"]
    else:
        cells += ["–", "–", "–"]
    return "| " + " | ".join(cells) + " |"


HEAD = (
    *("method", "params [M]", "paper", "multiply-adds [G]", "scans [G]", "paper", "s", "MiB", "process MiB"),
    *("plain: time ×", "memory ×", "difference"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", default="all")
    parser.add_argument("--size", default="640x480", help="width x height")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=available_cores())
    parser.add_argument("--json", type=Path, help="also write every figure there")
    parser.add_argument("--part", choices=("times", "plain-times", "memory", "plain-memory"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    width, height = map(int, options.size.split("x"))
    torch.set_num_threads(options.threads)
    if options.part:
        plain = options.part.startswith("plain")
        if options.part.endswith("times"):
            answer: dict[str, Any] = times_of(options.methods, height, width, options.rounds, plain)
        else:
            answer = memory_of(options.methods, height, width, plain)
        print(json.dumps(answer))
        return
    names = [spec.name for spec in expand_methods(options.methods) if get_card(spec).weights is not None]
    print(f"{width}×{height}, {options.threads} threads, {device_name('cpu')}, torch {torch.__version__}\n")
    print("| " + " | ".join(HEAD) + " |\n|" + " --- |" * len(HEAD))
    rows = []
    for name in names:
        rows.append(measure(name, width, height, options.rounds, options.threads))
        print(line(rows[-1], with_paper=(height, width) == SIZE), flush=True)
    if options.json:
        options.json.write_text(
            json.dumps({"size": [width, height], "threads": options.threads, "methods": rows}, indent=1)
        )


if __name__ == "__main__":
    main()
