"""S4Fusion and its selective scan on this CPU: beside the plain reference, beside the machine's own limits, part by part.

    OMP_WAIT_POLICY=PASSIVE python benchmarks/bench_s4fusion.py [--quick]

The scan is timed beside ``reference``, mamba-ssm's own reference scan written in PyTorch, in the same run (that takes some
minutes; ``--quick`` leaves it out). Limits are measured, not read from a data sheet: the rate at which this machine goes
through a state's exponential and multiply-adds with everything in registers, and the rate of a large matrix product by
oneDNN. Whole networks run in a process of their own, so that its peak memory is theirs; their weights are random, which
changes no time. The variable is what fusion-det itself sets.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fusion_det.fusion.ssm import selective_scan
from fusion_det.fusion.ssm.cpu.compiled import inlined
from fusion_det.fusion.ssm.cpu.functions import exp2
from fusion_det.fusion.ssm.cpu.threads import run_tasks
from fusion_det.fusion.ssm.cpu.vectors import load, same, store
from fusion_det.fusion.ssm.layers import project
from fusion_det.machine import freed_memory_kept

BATCH, GROUPS, IN_GROUP, LENGTH, STATES = 1, 4, 72, 20_000, 18
SIZES = ((320, 240), (640, 480), (1024, 768), (1280, 1024))
ROUNDS = 7


def seconds(call: Callable[[], Any], rounds: int = ROUNDS) -> float:
    """Median time of a call, after one to warm up."""
    call()
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def scan_inputs() -> list[torch.Tensor]:
    torch.manual_seed(0)
    channels = GROUPS * IN_GROUP
    return [
        torch.randn(BATCH, channels, LENGTH),
        torch.randn(BATCH, channels, LENGTH) - 2,
        -torch.rand(channels, STATES) * STATES,
        torch.randn(BATCH, GROUPS, STATES, LENGTH),
        torch.randn(BATCH, GROUPS, STATES, LENGTH),
        torch.randn(channels),
        torch.randn(channels),
    ]


def bench_scan(with_reference: bool) -> None:
    inputs = scan_inputs()
    leaves = [x.clone().requires_grad_() for x in inputs]
    dy = torch.randn_like(inputs[0])
    updates = BATCH * GROUPS * IN_GROUP * LENGTH * STATES

    def forward(backend: str) -> Any:
        return selective_scan(*inputs, True, backend=backend)  # type: ignore[arg-type]

    def both(backend: str) -> None:
        selective_scan(*leaves, True, backend=backend).backward(dy)  # type: ignore[arg-type, union-attr]

    print(f"\nselective scan, {GROUPS}×{IN_GROUP} channels, L={LENGTH}, N={STATES}, {torch.get_num_threads()} threads")
    for name, run in (("forward", forward), ("forward + backward", both)):
        ours = seconds(lambda run=run: run("cpu"))  # type: ignore[misc]
        line = f"  {name:20} {ours * 1e3:8.2f} ms  {ours / updates * 1e9:.3f} ns per state"
        if with_reference:
            began = time.perf_counter()
            run("reference")
            reference = time.perf_counter() - began
            line += f"   reference {reference:.1f} s: {reference / ours:,.0f} times faster"
        print(line)


@inlined
def _states_in_registers(memory: Any, steps: int) -> None:
    """What a state needs, two at a time as the kernel does, nothing loaded and nothing stored on the way."""
    rate0, rate1, step = load(memory, 0), load(memory, 16), load(memory, 32)
    push, b, c = load(memory, 48), load(memory, 64), load(memory, 80)
    h0, h1, y = load(memory, 96), load(memory, 112), same(np.float32(0.0))
    for _ in range(steps):
        h0 = exp2(step * rate0) * h0 + push * b
        h1 = exp2(step * rate1) * h1 + push * c
        y = y + h0 * b + h1 * c
        step = step + push
    store(memory, 128, y + h0 + h1)


def machine_limits() -> tuple[float, float]:
    """(seconds per state, FLOP per second of a matrix product), on all of torch's threads."""
    threads, steps = torch.get_num_threads(), 200_000
    memories = [np.full(144, 1e-3, np.float32) for _ in range(threads)]
    took = seconds(lambda: run_tasks(_states_in_registers, (), [(memory, steps) for memory in memories]))
    size = 2048
    a, b = torch.randn(size, size), torch.randn(size, size)
    with torch.no_grad():
        product = seconds(lambda: project(a, b))
    return took / (threads * steps * 2 * 16), 2 * size**3 / product


def peak_mb() -> float:
    """Largest resident size of this process (``ru_maxrss`` would begin with what the parent held when it forked)."""
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) / 1024


def network_alone(width: int, height: int, rounds: int) -> dict[str, Any]:
    """In this process: time, peak memory and parts of one pair."""
    from torch.profiler import ProfilerActivity, profile
    from torch.utils.flop_counter import FlopCounterMode

    from fusion_det.fusion import FusionMethod, build_method
    from fusion_det.fusion.frame import pad_for
    from fusion_det.fusion.methods.s4fusion.blocks import SS2D

    method = build_method("s4fusion", weights=None)
    assert isinstance(method, FusionMethod)
    assert method.network is not None
    ir, vi = (pad_for(method.card, torch.rand(1, 1, height, width)) for _ in range(2))
    states = 0

    def count(module: SS2D, args: tuple[torch.Tensor], _: Any) -> None:
        nonlocal states
        positions = args[0].shape[:-1].numel()
        states += 4 * positions * module.inner * module.states

    with torch.no_grad(), freed_memory_kept():
        took = seconds(lambda: method.fuse(ir, vi), rounds)
        peak = peak_mb()
        hooks = [m.register_forward_hook(count) for m in method.network.modules() if isinstance(m, SS2D)]  # type: ignore[arg-type]
        counter = FlopCounterMode(display=False)
        with counter:
            method.fuse(ir, vi)
        for hook in hooks:
            hook.remove()
        with profile(activities=[ProfilerActivity.CPU]) as profiler:
            method.fuse(ir, vi)
    parts: dict[str, float] = {}
    kinds = {"_PlaneScan": "scan", "mkldnn_convolution": "products", "mm": "products", "layer_norm": "norms"}
    for event in profiler.key_averages():
        kind = next((kind for key, kind in kinds.items() if key in event.key), "the rest")
        parts[kind] = parts.get(kind, 0.0) + event.self_cpu_time_total / 1e6
    return {"seconds": took, "peak_mb": peak, "states": states, "flop": counter.get_total_flops(), "parts": parts}


def bench_network(per_state: float, flops: float) -> None:
    print("\nS4Fusion, one pair, process of its own")
    rates = {}
    for width, height in SIZES:
        command = [sys.executable, __file__, "--network", f"{width}x{height}"]
        found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
        took, pixels = found["seconds"], width * height
        rates[width, height] = took / pixels
        scans, products = found["states"] * per_state, found["flop"] / flops
        parts = ", ".join(f"{kind} {part:.3f}" for kind, part in found["parts"].items())
        print(
            f"  {width}×{height}: {took:.3f} s, {took / pixels * 1e6:.2f} µs per pixel, peak {found['peak_mb']:.0f} MB"
        )
        print(
            f"      limits: {found['states'] / 1e9:.2f} G states {scans:.3f} s + {found['flop'] / 1e9:.1f} GFLOP "
            f"{products:.3f} s = {scans + products:.3f} s; a profiled run: {parts}"
        )
    first, last = rates[SIZES[0]], rates[SIZES[-1]]
    print(f"  time per pixel at {SIZES[-1]} over that at {SIZES[0]}: {last / first:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="without the reference scan")
    parser.add_argument("--network", metavar="WxH", help="only this; prints JSON")
    options = parser.parse_args()
    if options.network:
        width, height = map(int, options.network.split("x"))
        print(json.dumps(network_alone(width, height, ROUNDS)))
        return
    per_state, flops = machine_limits()
    print(f"limits: {per_state * 1e9:.4f} ns per state, {flops / 1e9:.0f} GFLOP/s, {torch.get_num_threads()} threads")
    with freed_memory_kept():  # as when fusing; for the reference too
        bench_scan(not options.quick)
    bench_network(per_state, flops)


if __name__ == "__main__":
    main()
