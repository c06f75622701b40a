"""Versions of libraries and digests of code: what makes a cached result stale when it changes."""

from __future__ import annotations

import importlib.metadata
import subprocess
from functools import cache
from pathlib import Path

from fusion_det.files import digest_json
from fusion_det.source_digest import meaning_digest

DISTRIBUTIONS = {
    "ultralytics": ("ultralytics-opencv-headless", "ultralytics"),
    "opencv": ("opencv-python-headless", "opencv-python"),
}
"""Libraries that are on PyPI under more than one name."""


@cache
def library_version(name: str) -> str:
    """Version of an installed library, without importing it; "absent" if it is not there."""
    for distribution in DISTRIBUTIONS.get(name, (name,)):
        try:
            return importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            continue
    return "absent"


def library_versions(*names: str) -> dict[str, str]:
    return {name: library_version(name) for name in names}


@cache
def code_digest(*modules: str) -> str:
    """Digest of the meaning of these modules and packages of this package: comments, docstrings and layout do not count."""
    sources = [source for module in modules for source in _sources(module)]
    return digest_json([meaning_digest(source.read_bytes()) for source in sources])


def _sources(module: str) -> list[Path]:
    path = Path(__file__).resolve().parents[2] / Path(*module.split("."))
    return sorted(path.rglob("*.py")) if path.is_dir() else [path.with_suffix(".py")]


def commit() -> str:
    """Commit of the checkout this package runs from, "+changes" if it was edited since; "" outside a checkout."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return ""

    def git(*arguments: str) -> str:
        command = ["git", *arguments]
        return subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=5, check=True).stdout.strip()

    try:
        head, changes = git("rev-parse", "HEAD"), git("status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return ""
    return head + ("+changes" if changes else "")
