"""Names and where methods come from."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType

import pytest

from fusion_det.errors import MethodError
from fusion_det.fusion import (
    FusionMethod,
    MethodCard,
    MethodSpec,
    build_method,
    expand_methods,
    get_card,
    list_cards,
    load_method_modules,
    register_method,
)
from fusion_det.fusion.registry import Registry, build_registry

TABLE_VI = [
    "ir",
    "vi",
    "defusion",
    "ddfm",
    "semla",
    "u2fusion",
    "mambadfuse",
    "irfs",
    "crossfuse",
    "emma",
    "maefuse",
    "s4fusion",
]
FURTHER = ["cddfuse", "fusionmamba", "tcmoa", "smc_mamba"]
PLAIN = ["mean", "max", "laplacian", "gff"]
BUILT_IN = [name for name in (*TABLE_VI, *FURTHER, *PLAIN) if name in {card.name for card in list_cards()}]

MakeModule = Callable[[str, str], ModuleType]


def marked(name: str) -> type[FusionMethod]:
    card = MethodCard(name, name, name, name, "arithmetic", "luma")

    @register_method(card)
    class Method(FusionMethod):
        def fuse(self, ir, vi):  # type: ignore[no-untyped-def]
            return ir

    return Method


def register(registry: Registry, method: type[FusionMethod]) -> None:
    registry.add(vars(method)["__fusion_method__"])


def test_built_in_methods_in_table_order() -> None:
    assert [card.name for card in list_cards()] == BUILT_IN


def test_listing_imports_neither_torch_nor_numpy() -> None:
    program = (
        "import sys, fusion_det.fusion as f; f.list_cards(); [f.weights_status(c.name) for c in f.list_cards()]; "
        "print(sorted({'torch', 'numpy', 'PIL', 'pydantic'} & set(sys.modules)))"
    )
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("items", "expected"),
    [
        ("all", BUILT_IN),
        (["gff,ir"], ["gff", "ir"]),
        (["gff", "g*", "gff"], ["gff"]),
        (["m*", "vi"], [*(name for name in BUILT_IN if name[0] == "m"), "vi"]),
        (["vi", "all"], ["vi", "ir", *BUILT_IN[2:]]),
        ([" ir , vi ,"], ["ir", "vi"]),
        (["[im]*"], [name for name in BUILT_IN if name[0] in "im"]),
    ],
    ids=str,
)
def test_expansion(items: str | list[str], expected: list[str]) -> None:
    assert expand_methods(items) == [MethodSpec(name) for name in expected]


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ("laplacain", r"unknown fusion method 'laplacain': did you mean laplacian\?"),
        ("GFF", r"did you mean gff\?"),
        ("Infrared", r"did you mean ir\?"),
        ("qqq", f"unknown fusion method 'qqq': known methods: {', '.join(BUILT_IN)}"),
        ("q*", r"no fusion method matches 'q\*'"),
        (",", "no fusion method was named"),
        ("gff=.", "'gff' is a registered fusion method"),
        ("GFF=.", "'GFF' is a registered fusion method"),
        ("all=.", "'all' cannot name a method"),
        ("../up=.", "'../up' cannot name a method"),
        ("=.", "'' cannot name a method"),
        ("ours=", "is not a folder"),
        ("ours=/does/not/exist", "/does/not/exist is not a folder"),
    ],
)
def test_what_expansion_refuses(item: str, message: str) -> None:
    with pytest.raises(MethodError, match=message):
        expand_methods([item])


def test_external_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b", "c,d"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    specs = expand_methods(["ir,ours=a", f"theirs={tmp_path}/c,d", "ours=./a"])
    assert specs == [MethodSpec("ir"), MethodSpec("ours", tmp_path / "a"), MethodSpec("theirs", tmp_path / "c,d")]
    with pytest.raises(MethodError, match=r"the name 'Ours' is given to .*a as well"):
        expand_methods(["ours=a", "Ours=b"])
    card = get_card(specs[1])
    assert (card.name, card.family) == ("ours", "external")


def test_a_taken_name_is_refused() -> None:
    registry = Registry()
    first = marked("twice")
    register(registry, first)
    register(registry, first)  # the same method seen from two modules is one method
    with pytest.raises(MethodError, match="two fusion methods are named 'TWICE'"):
        register(registry, marked("TWICE"))


@pytest.mark.parametrize("name", ["all", "a/b", "", ".hidden", "-x", "x" * 65, "a b", "a=b", "a,b"])
def test_unsafe_names_are_refused(name: str) -> None:
    with pytest.raises(MethodError, match="registers a method named"):
        register(Registry(), marked(name))


def test_a_subclass_does_not_inherit_the_registration() -> None:
    parent = marked("parent")
    child = type("Child", (parent,), {})
    registry = Registry()
    module = type(sys)("made_up")
    vars(module).update(parent=parent, child=child)
    assert registry.add_module(module) == 1


def test_entry_points(make_module: MakeModule, third_party: str) -> None:
    make_module("third_party", third_party)
    for value in ("third_party", "third_party:Darkest"):
        registry = build_registry([EntryPoint("x", value, "fusion_det.methods")])
        assert [card.name for card in registry.cards()] == [*BUILT_IN, "darkest"]
        assert registry.unavailable == {}


def test_a_broken_entry_point_is_reported_and_the_rest_works(make_module: MakeModule, third_party: str) -> None:
    make_module("good", third_party)
    make_module("empty", "")
    points = [
        EntryPoint("gone", "no_such_module_anywhere", "fusion_det.methods"),
        EntryPoint("nothing", "empty", "fusion_det.methods"),
        EntryPoint("unmarked", "good:FusionMethod", "fusion_det.methods"),
        EntryPoint("fine", "good", "fusion_det.methods"),
    ]
    registry = build_registry(points)
    assert "darkest" in registry.entries
    assert list(registry.unavailable) == [f"{point.name} = {point.value}" for point in points[:3]]
    assert "ModuleNotFoundError" in registry.unavailable["gone = no_such_module_anywhere"]
    with pytest.raises(MethodError, match="unavailable: gone = no_such_module_anywhere: ModuleNotFoundError"):
        registry.get("something")


def test_method_module(make_module: MakeModule, third_party: str, fresh_registry: Registry) -> None:
    make_module("outside_a", third_party)
    load_method_modules(["outside_a"])
    load_method_modules(["outside_a"])
    assert [card.name for card in list_cards()][-1] == "darkest"
    assert isinstance(build_method("darkest"), FusionMethod)
    assert expand_methods("dark*") == [MethodSpec("darkest")]


def test_method_module_as_a_file(
    tmp_path: Path, fresh_registry: Registry, make_module: MakeModule, third_party: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_module("outside_b", third_party)
    del sys.modules["outside_b"]
    file = tmp_path / "modules" / "outside_b.py"
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p != str(file.parent)])
    load_method_modules([str(file)])
    load_method_modules([str(file)])
    assert "darkest" in fresh_registry.entries


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("1 / 0", r"--method-module outside_c cannot be imported: ZeroDivisionError"),
        ("x = 1", r"nothing in it is marked with @register_method"),
        ("def f(:", "SyntaxError"),
    ],
)
def test_bad_method_modules(
    tmp_path: Path, fresh_registry: Registry, monkeypatch: pytest.MonkeyPatch, source: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "outside_c", raising=False)
    (tmp_path / "outside_c.py").write_text(source)
    with pytest.raises(MethodError, match=message):
        load_method_modules(["outside_c"])
    monkeypatch.delitem(sys.modules, "outside_c", raising=False)


def test_missing_method_modules(fresh_registry: Registry) -> None:
    for name in ("no.such.module", "/no/such/file.py"):
        with pytest.raises(MethodError, match=f"--method-module {name} cannot be imported"):
            load_method_modules([name])


def test_clash_with_a_built_in_name(make_module: MakeModule, third_party: str, fresh_registry: Registry) -> None:
    make_module("outside_d", third_party.replace('"darkest"', '"gff"'))
    with pytest.raises(MethodError, match=r"two fusion methods are named 'gff': .*GuidedFilterFusion and .*Darkest"):
        load_method_modules(["outside_d"])


def test_unknown_configuration() -> None:
    with pytest.raises(MethodError, match="gff has no configuration 'tiny'; it has none"):
        build_method("gff", config="tiny")
