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
    from fusion_det.detection.pretrained import DEMO_WEIGHTS
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
    if library_version("torch") != "absent":
        import torch

        gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        line("devices", f"{os.cpu_count()} CPU cores; " + (", ".join(gpus) or "no CUDA device"), True if gpus else None)
    m3fd = find_dataset("m3fd")
    absent = "not in datasets/m3fd; see datasets/m3fd.md (the demo needs none)"
    line("M3FD", str(m3fd) if m3fd else absent, True if m3fd else None)
    line("demo detector", str(DEMO_WEIGHTS), DEMO_WEIGHTS.is_file())
    official = next((p for p in (Path("weights/yolov5su.pt"), Path("yolov5su.pt")) if p.is_file()), None)
    line(
        "YOLOv5s COCO weights",
        str(official.resolve()) if official else "weights/yolov5su.pt is not there; downloaded when first needed",
        True if official else None,
    )
    folder = runs.resolve()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free / 1e9
    line("disk", f"{free:.0f} GB free for {runs}", None if free < 20 else True)
    console().print(table)
    if not good:
        raise typer.Exit(1)
