"""An identity changes exactly when images may change."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from fusion_det.errors import MethodError
from fusion_det.fusion import MethodSpec, list_cards, load_method_modules, method_identity
from fusion_det.fusion.registry import Registry
from fusion_det.source_digest import meaning_digest

MakeModule = Callable[[str, str], ModuleType]


def test_identities_are_json_and_differ() -> None:
    identities = [method_identity(card.name) for card in list_cards()]
    assert json.loads(json.dumps(identities)) == identities
    assert len({identity["code"] for identity in identities}) == len(identities)
    assert all(set(identity) == {"name", "code", "weights", "config", "dtype"} for identity in identities)


def test_the_same_in_another_process_and_without_torch() -> None:
    program = (
        "import sys, json; from fusion_det.fusion import method_identity; "
        "print(json.dumps(method_identity('gff'))); assert 'torch' not in sys.modules"
    )
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert json.loads(shown.stdout) == method_identity("gff")


def test_unknown_method() -> None:
    with pytest.raises(MethodError, match="did you mean gff"):
        method_identity("gf")


@pytest.mark.parametrize(
    ("edited", "same"),
    [
        ("# a comment\nx = 1\n\n\ndef f( y ):\n    return y+1\n", True),
        ('"""Module."""\nx = 1\ndef f(y):\n    """Doc."""\n    return y + 1\n', True),
        ("x = 1\ndef f(y):\n    return y + 2\n", False),
        ("x = 1\ndef f(z):\n    return z + 1\n", False),
        ("x = '1'\ndef f(y):\n    return y + 1\n", False),
    ],
)
def test_only_meaning_counts(edited: str, same: bool) -> None:
    original = "x = 1\ndef f(y):\n    return y + 1\n"
    assert (meaning_digest(edited.encode()) == meaning_digest(original.encode())) is same


def test_what_is_not_python_counts_byte_by_byte() -> None:
    assert meaning_digest(b"\x00\xff") != meaning_digest(b"\x00\xfe")


def test_editing_a_method_changes_its_identity_alone(
    make_module: MakeModule, third_party: str, fresh_registry: Registry
) -> None:
    module = make_module("edited_method", third_party)
    load_method_modules(["edited_method"])
    before, mean = method_identity("darkest"), method_identity("mean")
    file = Path(str(module.__file__))
    file.write_text(file.read_text().replace("ir.minimum(vi)", "ir.minimum(vi) / 2"))
    assert method_identity("darkest")["code"] != before["code"]
    assert method_identity("mean") == mean


def test_an_outsiders_whole_package_counts(
    tmp_path: Path, make_module: MakeModule, third_party: str, fresh_registry: Registry
) -> None:
    package = tmp_path / "modules" / "their_lab"
    (package / "deep").mkdir(parents=True)
    for file, source in {"__init__.py": "", "deep/__init__.py": "", "net.py": "GAIN = 1\n"}.items():
        (package / file).write_text(source)
    (package / "deep" / "method.py").write_text(third_party)
    importlib.invalidate_caches()
    load_method_modules(["their_lab.deep.method"])
    before = method_identity("darkest")
    (package / "net.py").write_text("GAIN = 22\n")
    assert method_identity("darkest")["code"] != before["code"]


def test_identity_of_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "fused"
    folder.mkdir()
    image, other = folder / "a.png", folder / "notes.txt"
    image.write_bytes(b"1")
    spec = MethodSpec("ours", folder)
    before = method_identity(spec)
    other.write_text("not an image")
    assert method_identity(spec) == before
    os.utime(image, ns=(0, image.stat().st_mtime_ns + 1))
    touched = method_identity(spec)
    assert touched["images"] != before["images"]
    (folder / "b.png").write_bytes(b"2")
    assert method_identity(spec)["images"] != touched["images"]
    with pytest.raises(MethodError, match="cannot be listed"):
        method_identity(MethodSpec("ours", tmp_path / "gone"))
