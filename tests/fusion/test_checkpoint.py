"""Checkpoints: what is read, what is refused, and what the refusal says."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from fusion_det.errors import MethodError
from fusion_det.fusion import build_method
from fusion_det.fusion.checkpoint import (
    CheckpointMismatchError,
    describe_differences,
    load_checkpoint,
    read_checkpoint,
    save_checkpoint,
)

State = dict[str, torch.Tensor]

pytestmark = pytest.mark.filterwarnings("ignore:Detected pickle protocol:UserWarning")


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))


@pytest.fixture
def state() -> State:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)).state_dict()


def load(file: Path, key: str | None = "model", **options: Any) -> nn.Module:
    target = network()
    load_checkpoint(target, file, key=key, method="toy", **options)
    return target


def assert_loaded(target: nn.Module, state: State) -> None:
    assert target.state_dict().keys() == state.keys()
    for name, value in target.state_dict().items():
        torch.testing.assert_close(value, state[name].to(value.dtype))


@pytest.mark.parametrize("suffix", [".pkl", ".pt", ".pth", ".ckpt"])
@pytest.mark.parametrize("layout", ["nested", "flat"])
@pytest.mark.parametrize("legacy", [False, True])
def test_torch_files(state: State, tmp_path: Path, suffix: str, layout: str, legacy: bool) -> None:
    file = tmp_path / f"w{suffix}"
    content = {"model": state, "epoch": 7} if layout == "nested" else state
    torch.save(content, file, _use_new_zipfile_serialization=not legacy)
    assert_loaded(load(file), state)


def test_written_and_read(state: State, tmp_path: Path) -> None:
    file = tmp_path / "deep" / "w.safetensors"
    state["0.weight"] = state["0.weight"].T.contiguous().T  # not contiguous
    save_checkpoint(file, state, {"method": "toy", "config": "small", "epochs": "3"})
    assert_loaded(load(file, config="small"), state)
    assert read_checkpoint(file)[1]["epochs"] == "3"
    assert [path.name for path in file.parent.iterdir()] == ["w.safetensors"]
    with pytest.raises(
        MethodError, match=r"w.safetensors was saved for toy, configuration small, not for toy, configuration big"
    ):
        load(file, config="big")
    with pytest.raises(MethodError, match=r"written as \.safetensors, not w\.pt"):
        save_checkpoint(tmp_path / "w.pt", state, {})


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64, torch.float8_e4m3fn], ids=str)
def test_other_precisions_are_taken(state: State, tmp_path: Path, dtype: torch.dtype) -> None:
    other = {name: value.to(dtype) if value.is_floating_point() else value for name, value in state.items()}
    torch.save(other, tmp_path / "w.pt")
    target = load(tmp_path / "w.pt")
    assert_loaded(target, other)
    assert {p.dtype for p in target.parameters()} == {torch.float32}


def changed(state: State, **changes: torch.Tensor | None) -> State:
    merged = state | {name.replace("__", "."): value for name, value in changes.items()}
    return {name: value for name, value in merged.items() if value is not None}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda s: changed(s, **{"0__bias": None}),
            r"\(6 tensors\) does not fit toy \(7 tensors\):\n  - 1 missing: 0\.bias$",
        ),
        (lambda s: changed(s, head=torch.ones(1)), r"\n  - 1 unexpected: head$"),
        (
            lambda s: changed(s, **{"0__weight": torch.ones(2, 4)}),
            r"\n  - 1 of another shape: 0\.weight is \(2, 4\), expected \(2, 3\)$",
        ),
        (
            lambda s: {f"net.{name}": value for name, value in s.items()},
            r"(?s)7 missing: 0\.bias, 0\.weight, 1\.bias and 4 more\n  - 7 unexpected: net\.0\.bias",
        ),
        (
            lambda s: {f"module.{name}": value for name, value in s.items()},
            r"every name begins with 'module\.'.*network\.module\.state_dict\(\)$",
        ),
    ],
)
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_what_differs(
    state: State, tmp_path: Path, change: Callable[[State], State], message: str, suffix: str
) -> None:
    file = tmp_path / f"w{suffix}"
    wrong = change(state)
    if suffix == ".pt":
        torch.save({"model": wrong}, file)
    else:
        save_checkpoint(file, wrong, {})
    target = network()
    before = {name: value.clone() for name, value in target.state_dict().items()}
    with pytest.raises(CheckpointMismatchError, match=message) as caught:
        load_checkpoint(target, file, key="model", method="toy")
    assert str(file) in str(caught.value)
    assert caught.value.shapes == {name: tuple(value.shape) for name, value in wrong.items()}
    assert_loaded(target, before)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite(state: State, tmp_path: Path, value: float) -> None:
    state["0.weight"][1, 2] = value
    torch.save(state, tmp_path / "w.pt")
    with pytest.raises(MethodError, match=r"w\.pt holds NaN or infinite values in 1 of 7 tensors: 0\.weight"):
        load(tmp_path / "w.pt")


@pytest.mark.parametrize(
    "value", [torch.zeros(2, 3).to_sparse(), torch.zeros(2, 3, device="meta")], ids=["sparse", "meta"]
)
def test_values_that_are_not_there(state: State, tmp_path: Path, value: torch.Tensor) -> None:
    torch.save(state | {"0.weight": value}, tmp_path / "w.pt")
    with pytest.raises(MethodError, match=r"w\.pt holds no plain values .* for 0\.weight"):
        load(tmp_path / "w.pt")


class Attack:
    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return Path.touch, (Path("attacked"),)


@pytest.mark.parametrize("writer", ["torch", "pickle"])
def test_code_in_a_pickle_is_not_run(tmp_path: Path, writer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "w.pkl"
    content = {"model": Attack()}
    if writer == "torch":
        torch.save(content, file)
    else:
        file.write_bytes(pickle.dumps(content, protocol=2))
    with pytest.raises(MethodError, match=r"w\.pkl holds more than tensors and plain containers \(\S+\), .*not loaded"):
        load(file)
    assert not Path("attacked").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "holds a list, not a state dict"),
        (torch.ones(2), "holds a Tensor, not a state dict"),
        ({}, "holds an empty dictionary"),
        (
            {"state_dict": {"a": torch.ones(1)}, "epoch": 3},
            "none of them, called 'model', is one: its entries are state_dict, epoch",
        ),
        ({"model": {"a": "text"}}, "its entries are a"),
        ({"model": [torch.ones(1)]}, "its entries are model"),
    ],
    ids=["list", "tensor", "empty", "another key", "text", "list at the key"],
)
def test_what_is_no_state_dict(tmp_path: Path, content: object, message: str) -> None:
    torch.save(content, tmp_path / "w.pkl")
    with pytest.raises(MethodError, match=message):
        load(tmp_path / "w.pkl")


@pytest.mark.parametrize("name", ["w.pkl", "w.pt", "w.safetensors"])
@pytest.mark.parametrize(
    "content", [b"", b"hello", b"\x89PNG\r\n\x1a\n" * 9, b"PK\x03\x04" * 30, b"\x80\x02.", bytes(64)]
)
def test_what_is_no_checkpoint(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(MethodError, match=rf"{name}"):
        load(tmp_path / name)


def test_folders_and_missing_files(tmp_path: Path) -> None:
    for name in ("gone.pt", "gone.safetensors", ""):
        with pytest.raises(MethodError, match=str(tmp_path / name)):
            load(tmp_path / name)


@settings(max_examples=150, deadline=None)
@given(
    cut=st.floats(0, 0.999),
    legacy=st.booleans(),
    flips=st.lists(st.tuples(st.floats(0, 0.999), st.integers(1, 255)), max_size=4),
)
def test_damaged_files_load_or_are_refused(
    tmp_path_factory: pytest.TempPathFactory, cut: float, legacy: bool, flips: list[tuple[float, int]]
) -> None:
    """Never another error than a MethodError, whatever bytes are lost or changed."""
    file = tmp_path_factory.mktemp("damaged") / "w.pt"
    torch.save({"model": network().state_dict()}, file, _use_new_zipfile_serialization=not legacy)
    content = bytearray(file.read_bytes())
    for place, mask in flips:
        content[int(place * len(content))] ^= mask
    file.write_bytes(content if flips else content[: int(cut * len(content))])
    try:
        load(file)
    except MethodError as error:
        assert str(file) in str(error)


def test_no_difference() -> None:
    assert describe_differences({"a": (1,)}, {"a": (1,)}) == []


def test_the_refusal_says_what_the_file_is(tmp_path: Path) -> None:
    unmarked = build_method("s4fusion", weights=None, config="no_mark")
    torch.save({"model": unmarked.network.state_dict()}, tmp_path / "model.pkl")
    with pytest.raises(MethodError, match=r"(?s)9 missing: .*mark_proj.*\nit fits s4fusion \(configuration no_mark\)$"):
        build_method("s4fusion", tmp_path / "model.pkl")
    method = build_method("s4fusion", tmp_path / "model.pkl", config="no_mark")
    assert method.trained
