"""Options that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

DEFAULT_CACHE = Path("runs/cache")

CacheDir = Annotated[
    Path, typer.Option("--cache", help="Where facts of checked images are remembered, so that they are decoded once.")
]
"""Its default is :data:`DEFAULT_CACHE`."""
