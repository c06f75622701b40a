"""``fusion-det doctor``: does this machine have what a run needs?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def doctor(
    runs: Annotated[Path, typer.Option(help="Folder whose disk is looked at.")] = Path("runs"),
) -> None:
    """Check versions, devices, datasets, detector weights and disk; exit code 1 if something essential is missing.

    Example: fusion-det doctor
    """
    import os
    import platform
    import shutil

    from rich.table import Table

    from fusion_det import __version__
    from fusion_det.cli.console import console
    from fusion_det.data.locate import find_dataset
    from fusion_det.detection.pretrained import DEMO_WEIGHTS, resolve_weights
    from fusion_det.fusion import list_cards, weights_status
    from fusion_det.machine import available_cores
    from fusion_det.pipeline.versions import commit, library_version

    table = Table(show_header=False)
    good = True

    def line(what: str, found: str, fine: bool | None = True) -> None:
        nonlocal good
        good &= fine is not False
        table.add_row({True: "[green]ok[/]", False: "[red]missing[/]", None: "[yellow]note[/]"}[fine], what, found)

    line("fusion_det", f"{__version__} {commit()[:12]}")
    line("python", platform.python_version())
    for name in ("torch", "torchvision", "ultralytics", "opencv", "numpy", "faster-coco-eval"):
        version = library_version(name)
        line(name, version, version != "absent")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    line("memory", f"{memory:.0f} GB (Table VI with cached images: 32 GB)", True if memory >= 30 else None)
    if library_version("torch") != "absent":
        import torch

        gpus = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
        shown = ", ".join(f"{g.name}, {g.total_memory / 1e9:.0f} GB" for g in gpus) or "no CUDA device"
        line("devices", f"{available_cores()} CPU cores; {shown}", True if gpus else None)
    m3fd = find_dataset("m3fd")
    absent = "not in datasets/m3fd; see datasets/m3fd.md (the demo needs none)"
    line("M3FD", str(m3fd) if m3fd else absent, True if m3fd else None)
    cards = list_cards()
    ready = sum(weights_status(card.name)[0] for card in cards)
    line("fusion methods", f"{ready} of {len(cards)} ready (fusion-det methods)", True if ready == len(cards) else None)
    line("demo detector", str(DEMO_WEIGHTS), DEMO_WEIGHTS.is_file())
    official = resolve_weights("auto", "yolov5s", download=False)
    there = official is not None and official.is_file()
    line(
        "YOLOv5s COCO weights",
        str(official) if there else f"{official}: downloaded when needed",
        True if there else None,
    )
    folder = runs.resolve()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free / 1e9
    line(
        "disk",
        f"{free:.0f} GB free for {runs} (demo: 1 GB; Table VI: 7 GB a method)",
        free > 1 and (True if free > 60 else None),
    )
    console().print(table)
    if not good:
        raise typer.Exit(1)
