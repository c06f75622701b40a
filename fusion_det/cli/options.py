"""Options that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fusion_det.tasks import TASKS

DEFAULT_CACHE = Path("runs/cache")

CacheDir = Annotated[
    Path, typer.Option("--cache", help="Where facts of checked images are remembered, so that they are decoded once.")
]
"""Its default is :data:`DEFAULT_CACHE`."""

TaskName = Annotated[
    str,
    typer.Option("--task", metavar="TASK", help=f"What the pairs are: {', '.join(TASKS)}."),
]
"""Its default is :data:`fusion_det.tasks.IVIF`."""
