"""Options that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

DEFAULT_CACHE = Path("runs/cache")
DEFAULT_TASK = "ivif"

CacheDir = Annotated[
    Path, typer.Option("--cache", help="Where facts of checked images are remembered, so that they are decoded once.")
]
"""Its default is :data:`DEFAULT_CACHE`."""

TaskName = Annotated[
    str,
    typer.Option("--task", metavar="TASK", help="What the pairs are: ivif, medical, multi-focus or multi-exposure."),
]
"""Its default is :data:`DEFAULT_TASK`."""
