"""Whose images a folder holds: ``fusion.json`` beside them, so that two methods never mix in one folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fusion_det.errors import ConfigError
from fusion_det.files import write_json

MARKER = "fusion.json"


def claim_folder(out: Path, identity: dict[str, Any], color: str, *, overwrite: bool) -> None:
    """Make ``out`` the folder of this method's images, or say why it cannot be.

    Args:
        identity: from :func:`fusion_det.fusion.method_identity`.
        overwrite: images that another method, version or colour left here (``fusion.json`` says so) are deleted first.

    Raises:
        ConfigError: ``out`` holds images that are not fusion_det's (a source folder, perhaps) or, without ``overwrite``,
            images made otherwise.
    """
    if out.exists() and not out.is_dir():
        raise ConfigError(f"--out {out} is a file; name a folder")
    claim = {"schema_version": 1, "method": identity, "color": color}
    marker = out / MARKER
    images = [file for file in out.glob("*.png") if not file.name.startswith(".")]
    found = _read(marker)
    if found == claim:
        return
    if images and found is None:
        raise ConfigError(
            f"--out {out} holds {len(images)} PNG images but no {MARKER} that says how they were made; choose another folder"
        )
    if images and not overwrite:
        raise ConfigError(
            f"--out {out} holds images that were {_difference(found or {}, claim)}; choose another folder, or --overwrite "
            "them"
        )
    for image in images:
        image.unlink()
    write_json(marker, claim)


def _read(marker: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(marker.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _difference(found: dict[str, Any], claim: dict[str, Any]) -> str:
    before, now = found.get("method") or {}, claim["method"]
    if before.get("name") != now["name"]:
        return f"fused by {before.get('name', 'another method')}, not {now['name']}"
    if found.get("color") != claim["color"]:
        return f"fused with --color {found.get('color')}, not {claim['color']}"
    changed = [key for key in ("weights", "config", "images") if before.get(key) != now.get(key)]
    return (
        f"fused by {now['name']} with other {' and '.join(changed)}" if changed else f"fused by an older {now['name']}"
    )
