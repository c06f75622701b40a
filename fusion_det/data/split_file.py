"""Reading other people's split files: JSON or YAML mappings of part → ids, or a folder with train/val/test.txt."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fusion_det.data.images import image_stem
from fusion_det.data.splits import PARTS, Split, shown
from fusion_det.errors import DatasetError, Problem

_SYNONYMS = {"val": ("val", "valid", "validation"), "train": ("train",), "test": ("test",)}
_CURE = (
    'A split file is JSON or YAML with the ids of each part, {"train": [...], "val": [...], "test": [...]}, '
    "or a folder with train.txt, val.txt and test.txt, one id a line."
)


def read_split_file(path: Path) -> Split:
    """See :meth:`fusion_det.data.splits.Split.load`."""
    content = _folder(path) if path.is_dir() else _mapping(path)
    ids_source = content["ids"] if isinstance(content.get("ids"), dict) else content
    problems: list[Problem] = []
    ids = {part: _part(ids_source, part, path, problems) for part in PARTS}
    seen = Counter(stem for part in PARTS for stem in set(ids[part]))
    overlap = sorted(stem for stem, count in seen.items() if count > 1)
    if overlap:
        problems.append(Problem(path, f"in more than one part: {shown(overlap)}"))
    if problems:
        raise DatasetError("The split file cannot be used.", problems, _CURE)
    seed = content.get("seed")
    split = Split(
        name=str(content.get("name") or path.stem),
        seed=seed if isinstance(seed, int) else None,
        ids={part: tuple(sorted(ids[part])) for part in PARTS},
        note=str(content.get("note") or ""),
        dataset=str(content.get("dataset") or ""),
    )
    claimed = content.get("digest")
    if claimed is not None and claimed != split.digest:
        problem = Problem(path, f"says digest {claimed}, its ids have {split.digest}")
        raise DatasetError(
            "The split file was changed after it was written.",
            [problem],
            'If that was meant, remove the line "digest" and give the split another name.',
        )
    return split


def _folder(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for names in _SYNONYMS.values():
        for name in names:
            file = path / f"{name}.txt"
            if file.is_file():
                lines = _text(file).splitlines()
                content[name] = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    return content


def _mapping(path: Path) -> dict[str, Any]:
    text = _text(path)
    try:
        if path.suffix.lower() in (".yaml", ".yml"):
            import yaml

            # BaseLoader keeps every scalar as text: an id 00215 must not become the number 141 (octal).
            content = yaml.load(text, Loader=yaml.BaseLoader)
        else:
            content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DatasetError("The split file cannot be read.", [Problem(path, str(error))], _CURE) from error
    except Exception as error:
        if type(error).__module__.startswith("yaml"):
            raise DatasetError("The split file cannot be read.", [Problem(path, str(error))], _CURE) from error
        raise
    if not isinstance(content, dict):
        raise DatasetError("The split file cannot be used.", [Problem(path, "is not a mapping")], _CURE)
    return content


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError("The split file cannot be read.", [Problem(path, str(error))], _CURE) from error


def _part(content: Mapping[str, Any], part: str, path: Path, problems: list[Problem]) -> list[str]:
    given = [content[name] for name in _SYNONYMS[part] if name in content]
    items = given[0] if given else None
    if not isinstance(items, list) or not items:
        problems.append(Problem(path, f"has no ids for {part}"))
        return []
    wrong = [item for item in items if not isinstance(item, str)]
    if wrong:
        quoted = ", ".join(repr(item) for item in wrong[:5])
        problems.append(Problem(path, f"{part}: ids must be text in quotes (leading zeros count): {quoted}"))
    stems = [image_stem(item) for item in items if isinstance(item, str)]
    twice = sorted(stem for stem, count in Counter(stems).items() if count > 1)
    if twice:
        problems.append(Problem(path, f"{part}: there twice: {shown(twice)}"))
    return stems
