"""Time and memory of the selective scan's backends on a GPU, at the sizes S4Fusion has on a 1024×768 pair.

    python benchmarks/bench_scan_gpu.py [--sizes 288x12x88064 ...] [--dtype float32] [--tilings 8x128 4x256 ...]

A size is channels x states x length, in four groups. Figures are medians over runs, each timed by CUDA events after warming
up. ``--tilings`` (channels x steps) tries other cuts of the Triton kernels beside the usual one. The plain reference is left
out where it would need more than 16 GiB.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable
from functools import partial

import torch

from fusion_det.fusion.ssm import cuda, triton_scan
from fusion_det.fusion.ssm.reference import selective_scan_reference

GROUPS = 4
# encoder levels 1 to 3 (N=12), then the fusion levels that are used (N=18, both modalities in one sequence)
SIZES = ["288x12x88064", "576x12x22016", "1152x12x5504", "576x18x44032", "1152x18x11008"]
Scan = Callable[..., tuple[torch.Tensor, torch.Tensor]]


def inputs(channels: int, states: int, length: int, dtype: torch.dtype) -> list[torch.Tensor]:
    def normal(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        return torch.randn(*shape, device="cuda", dtype=dtype)

    u, delta = normal(1, channels, length, dtype=dtype), normal(1, channels, length, dtype=dtype)
    B, C = (normal(1, GROUPS, states, length, dtype=dtype) for _ in range(2))
    return [u, delta, -normal(channels, states).abs(), B, C, normal(channels), normal(channels)]


def milliseconds(run: Callable[[], object], repeats: int) -> float:
    for _ in range(3):
        run()
    times = []
    for _ in range(repeats):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        run()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end))
    return statistics.median(times)


def measure(name: str, scan: Scan, size: tuple[int, int, int], dtype: torch.dtype, repeats: int) -> None:
    tensors = inputs(*size, dtype)
    leaves = [x.requires_grad_() for x in tensors]
    dy = torch.randn_like(tensors[0])

    def forward() -> None:
        with torch.no_grad():
            scan(*leaves, True)

    def both() -> None:
        torch.autograd.grad(scan(*leaves, True)[0], leaves, dy)

    torch.cuda.reset_peak_memory_stats()
    held = torch.cuda.memory_allocated()
    times = milliseconds(forward, repeats), milliseconds(both, repeats)
    peak = (torch.cuda.max_memory_allocated() - held) / 2**20
    updates = size[0] * size[1] * size[2]
    print(f"{name:<16} {times[0]:9.3f} {times[1]:12.3f} {times[0] / updates * 1e9:14.2f} {peak:10.0f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=SIZES)
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16", "float16"])
    parser.add_argument("--tilings", nargs="*", default=[])
    parser.add_argument("--repeats", type=int, default=20)
    options = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("no CUDA device here; benchmarks/README.md lists what a CPU can run")

    scans: dict[str, tuple[Scan, str | None]] = {
        "mamba-ssm": (cuda.selective_scan_mamba, cuda.why_not(torch.zeros(1, device="cuda"))),
        "triton": (triton_scan.selective_scan_triton, triton_scan.why_not(torch.zeros(1, device="cuda"))),
    }
    for text in options.tilings:
        tiling = triton_scan.Tiling(*map(int, text.split("x")))
        scans[f"triton {text}"] = (partial(triton_scan.selective_scan_triton, tiling=tiling), scans["triton"][1])

    print(torch.cuda.get_device_name(), "torch", torch.__version__, options.dtype)
    for text in options.sizes:
        channels, states, length = map(int, text.split("x"))
        print(f"\n{text:<16} {'forward ms':>9} {'+backward ms':>12} {'ps per update':>14} {'peak MiB':>10}")
        for name, (scan, reason) in scans.items():
            if reason:
                print(f"{name:<16} {reason}")
            else:
                measure(name, scan, (channels, states, length), getattr(torch, options.dtype), options.repeats)
        if channels * states * length * 4 * 8 < 16 * 2**30:
            measure("reference", selective_scan_reference, (channels, states, length), getattr(torch, options.dtype), 3)


if __name__ == "__main__":
    main()
