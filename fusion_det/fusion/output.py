"""Whose images a folder holds: ``fusion.json`` beside them, so that two methods or two datasets never mix in one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fusion_det.errors import ConfigError
from fusion_det.files import write_json
from fusion_det.tasks import IVIF

MARKER = "fusion.json"
_SCHEMA = 2


def claim_folder(
    out: Path, identity: dict[str, Any], color: str, sources: Mapping[str, str], *, overwrite: bool
) -> None:
    """Make ``out`` the folder of this method's images of these pairs, or say why it cannot be.

    Images of other pairs stay, and so do those of the same ones: a dataset that has grown continues.

    Args:
        identity: from :func:`fusion_det.fusion.method_identity`.
        sources: stem → digest of the pair's images (``PairRecord.content``) for every image about to be made; empty where
            no source decides the pixels (``NAME=FOLDER``).
        overwrite: images that another method, version or colour left here (``fusion.json`` says so), or that were made
            from other sources of the same stem, are deleted first.

    Raises:
        ConfigError: ``out`` holds images that are not fusion_det's (a source folder, perhaps) or, without ``overwrite``,
            images made otherwise.
    """
    if out.exists() and not out.is_dir():
        raise ConfigError(f"--out {out} is a file; name a folder")
    claim = {"schema_version": _SCHEMA, "method": identity, "color": color}
    images = [file for file in out.glob("*.png") if not file.name.startswith(".")]
    found = _read(out / MARKER)
    if images and found is None:
        raise ConfigError(
            f"--out {out} holds {len(images)} PNG images but no {MARKER} that says how they were made; choose another folder"
        )
    before = found or {}
    same_method = all(before.get(key) == value for key, value in claim.items())
    known = _sources(before) if same_method else {}
    stale = [file for file in images if not same_method or _is_of_others(file.stem, known, sources)]
    if stale and not overwrite:
        reason = _other_sources(stale) if same_method else f"were {_difference(before, claim)}"
        raise ConfigError(f"--out {out} holds images that {reason}; choose another folder, or --overwrite them")
    for image in stale:
        image.unlink()
    claim["sources"] = {**known, **sources}
    if claim != found:
        write_json(out / MARKER, claim)


def _is_of_others(stem: str, known: Mapping[str, str], sources: Mapping[str, str]) -> bool:
    return stem in sources and known.get(stem) != sources[stem]


def _sources(found: dict[str, Any]) -> dict[str, str]:
    recorded = found.get("sources")
    return recorded if isinstance(recorded, dict) else {}


def _other_sources(stale: list[Path]) -> str:
    names = sorted(file.name for file in stale)
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"were fused from other sources of the same names ({', '.join(names[:3])}{more})"


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
    protocols = [str(identity.get("protocol", "common")) for identity in (before, now)]
    if protocols[0] != protocols[1]:
        return f"fused by {now['name']} with --protocol {protocols[0]}, not {protocols[1]}"
    tasks = [str(identity.get("task", IVIF)) for identity in (before, now)]
    if tasks[0] != tasks[1]:
        return f"fused by {now['name']} as pairs of --task {tasks[0]}, not {tasks[1]}"
    changed = [key for key in ("weights", "config", "dtype", "images") if before.get(key) != now.get(key)]
    return (
        f"fused by {now['name']} with other {' and '.join(changed)}" if changed else f"fused by an older {now['name']}"
    )
