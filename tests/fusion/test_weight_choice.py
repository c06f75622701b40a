"""Rows that choose their weights, the weights this project ships, and what a checkpoint says of its training."""

from __future__ import annotations

import hashlib
import importlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from fusion_det.data.pair import PairDataset, PairRecord
from fusion_det.errors import MethodError
from fusion_det.fusion import (
    FusionMethod,
    MethodSpec,
    build_method,
    expand_methods,
    found_weights,
    get_card,
    load_method_modules,
    method_identity,
    weights_status,
    with_files,
)
from fusion_det.fusion.contamination import Exposure, exposure
from fusion_det.fusion.registry import Registry
from fusion_det.fusion.training_card import read_training_card
from fusion_det.fusion.weights import FoundWeights, require_weights

MakeModule = Callable[[str, str], ModuleType]
LAB = """
from fusion_det.fusion import FusionMethod, MethodCard, WeightsInfo, register_method

CARD = MethodCard("lab", "Lab", "Lab", "A network in a package", "cnn", "luma", configs=("base", "tiny"),
    weights=WeightsInfo("https://example.org/lab", "lab.safetensors", "MIT", sha256=SHA, trained_on=("msrs",)))


@register_method(CARD)
class Lab(FusionMethod):
    card = CARD

    def __init__(self, config):
        import torch
        self.config, self.network = config, torch.nn.Linear(1, 1)

    def load_weights(self, file):
        from fusion_det.fusion.checkpoint import load_checkpoint
        load_checkpoint(self.network, file, key=None, method="lab", config=self.config)

    def fuse(self, ir, vi):
        return (ir + vi) * self.network.weight.sum() / 2
"""


def training(**changes: Any) -> dict[str, Any]:
    """A card as :mod:`fusion_det.fusion.training.trainer` writes it, as far as it is read here."""
    data = {
        "name": "roadscene", "family": "roadscene", "content_digest": "ab", "synthetic": False, "share": 1.0,
        "train": ["FLIR_00006", "FLIR_00018"], "validation": ["FLIR_00211"],
    }  # fmt: skip
    tree = {
        "schema": 1,
        "method": "lab",
        "config": "base",
        "trained_on": ["roadscene"],
        "synthetic": False,
        "step": 12000,
    }
    return {**tree, "data": [data], **changes}


def checkpoint(
    file: Path, value: float, card: dict[str, Any] | None = None, dtype: torch.dtype = torch.float32
) -> Path:
    """Weights of ``lab``, with a card in the header."""
    file.parent.mkdir(parents=True, exist_ok=True)
    state = {"weight": torch.full((1, 1), value, dtype=dtype), "bias": torch.zeros(1, dtype=dtype)}
    known = {} if card is None else {"method": "lab", "config": card["config"], "card": json.dumps(card)}
    save_file(state, file, known)
    return file


@pytest.fixture
def package(
    tmp_path: Path, fresh_registry: Registry, make_module: MakeModule, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """The folder of a method's package, ``lab``, whose official weights lie nowhere yet."""
    official = checkpoint(tmp_path / "official.safetensors", 1.0)
    folder = tmp_path / "modules" / "lab_package"
    folder.mkdir()
    (folder / "__init__.py").write_text(f"SHA = {hashlib.sha256(official.read_bytes()).hexdigest()!r}\n{LAB}")
    importlib.invalidate_caches()
    load_method_modules(["lab_package"])
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    monkeypatch.delenv("FUSION_DET_WEIGHTS", raising=False)
    yield folder
    monkeypatch.undo()


def weight(spec: MethodSpec | str, **options: Any) -> float:
    method = build_method(spec, **options)
    assert isinstance(method, FusionMethod) and method.network is not None and method.trained
    value = method.network.state_dict()["weight"]
    assert value.dtype == torch.float32
    return value.item()


def test_choices_are_rows_of_their_own(package: Path, tmp_path: Path) -> None:
    own, best = (
        checkpoint(tmp_path / "my run.safetensors", 2.0),
        checkpoint(tmp_path / "s4 b" / "best.safetensors", 3.0),
    )
    specs = expand_methods(f"lab,lab@official,lab@shipped,lab@trained,lab@{own},lab@{best},lab@{own}")
    assert [spec.name for spec in specs] == [
        "lab", "lab-official", "lab-shipped", "lab-trained", "lab-my_run", "lab-s4_b-best",
    ]  # fmt: skip
    assert {spec.method for spec in specs} == {"lab"}
    assert [spec.weights for spec in specs] == ["auto", "official", "shipped", "trained", own, best]
    assert get_card(specs[2]).name == "lab"
    assert method_identity(specs[4])["name"] == "lab"
    assert method_identity(specs[4])["weights"] == hashlib.sha256(own.read_bytes()).hexdigest()


def test_two_files_of_one_name_are_told_apart_by_their_folders(package: Path, tmp_path: Path) -> None:
    a, b = (checkpoint(tmp_path / name / "net.safetensors", 2.0) for name in "ab")
    assert [spec.name for spec in expand_methods([f"lab@{a}", f"lab@{b}"])] == ["lab-net", "lab-b-net"]


def test_globs_choose_for_what_learns_alone(package: Path) -> None:
    assert expand_methods("[gl]a*@shipped") == [
        MethodSpec("lab-shipped", method="lab", weights="shipped"),
        MethodSpec("laplacian"),
    ]
    named = {spec.name: spec.named for spec in expand_methods("all,lab@shipped,l*,gff")}
    assert {name for name, told in named.items() if told} == {"lab-shipped", "gff"}


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ("lab@", "write lab@official|shipped|trained, or lab@FILE"),
        ("lab@shiped", "there is no file shiped; behind the @ goes official, shipped, trained, or a file"),
        ("lba@shipped", "did you mean lab"),
        ("mean@official", "mean learns nothing"),
        ("l*@OWN", "a file holds the weights of one method"),
        ("lab@shipped,lab-shipped=.", "the name 'lab-shipped' is given to lab"),
    ],
)
def test_what_is_refused(package: Path, item: str, message: str) -> None:
    checkpoint(Path("OWN"), 2.0)
    with pytest.raises(MethodError, match=message.replace("|", r"\|")):
        expand_methods(item)


def test_folders_and_files_may_hold_each_others_signs(package: Path) -> None:
    Path("a@b").mkdir()
    file = checkpoint(Path("x=1,y.safetensors"), 2.0)
    ours, own = expand_methods(["ours=a@b", f"lab@{file}"])
    assert ours == MethodSpec("ours", Path("a@b").resolve())
    assert (own.name, own.weights) == ("lab-x_1_y", file.resolve())


def test_the_option_weights_names_the_file_of_the_plain_row(package: Path, tmp_path: Path) -> None:
    own = checkpoint(tmp_path / "own.safetensors", 2.0)
    plain, official = with_files(expand_methods("lab,lab@official"), {"lab": own})
    assert (plain.name, plain.weights, official.weights) == ("lab", own, "official")
    assert weight(plain) == 2.0
    assert plain.qualifier("own") == "own weights"
    with pytest.raises(MethodError, match=r"every row of lab says itself .* add lab@.*own.safetensors"):
        with_files([official], {"lab": own})


def test_shipped_weights_stand_in_for_the_official_ones(package: Path, tmp_path: Path) -> None:
    assert weights_status("lab")[0] is False
    with pytest.raises(
        MethodError, match=r"(?s)lab: missing: weights/lab/lab.safetensors; get lab.*fusion-det train-fusion lab"
    ):
        build_method("lab")
    shipped = checkpoint(package / "shipped.safetensors", 0.5, training(), torch.float16)
    assert weights_status("lab") == (
        True, "shipped, not the authors': trained 12000 steps on roadscene, by this project",
    )  # fmt: skip
    assert weight("lab") == 0.5
    assert method_identity("lab")["weights"] == hashlib.sha256(shipped.read_bytes()).hexdigest()
    with pytest.raises(MethodError, match=r"missing: weights/lab/lab\.safetensors"):
        build_method("lab", weights="official")
    assert weights_status("lab", config="tiny")[0] is False  # shipped is the default configuration

    target = Path("weights/lab/lab.safetensors")
    target.parent.mkdir(parents=True)
    target.write_bytes((tmp_path / "official.safetensors").read_bytes())
    assert (weight("lab"), weight("lab", weights="shipped"), weight("lab", weights="official")) == (1.0, 0.5, 1.0)
    official, chosen = expand_methods("lab@official,lab@shipped")
    assert (weight(official), weight(chosen)) == (1.0, 0.5)
    assert (official.qualifier("official"), chosen.qualifier("shipped")) == ("", "shipped")
    assert MethodSpec("lab").qualifier("official") == ""
    assert MethodSpec("lab").qualifier("shipped") == "shipped"


def test_the_official_file_is_known_wherever_it_lies(package: Path, tmp_path: Path) -> None:
    found = found_weights("lab", tmp_path / "official.safetensors")
    assert found is not None and found.source == "official"
    found = found_weights("lab", checkpoint(tmp_path / "own.safetensors", 2.0))
    assert found is not None and found.source == "own"
    assert "does not say what it was trained on" in found.text(get_card("lab"))


def test_nothing_shipped_and_nothing_trained_yet(package: Path) -> None:
    for choice, words in {"shipped": "none of its own training", "trained": "within an experiment"}.items():
        assert words in weights_status("lab", choice)[1]  # type: ignore[arg-type]
        with pytest.raises(MethodError, match=words):
            require_weights(get_card("lab"), choice)  # type: ignore[arg-type]


def test_a_file_names_its_own_configuration(package: Path, tmp_path: Path) -> None:
    file = checkpoint(tmp_path / "tiny.safetensors", 2.0, training(config="tiny"))
    assert method_identity("lab", file)["config"] == "tiny"
    assert weight("lab", weights=file) == 2.0
    with pytest.raises(MethodError, match="saved for lab, configuration tiny"):
        build_method("lab", file, config="base")


def test_a_card_is_read_from_the_header_or_from_beside(tmp_path: Path) -> None:
    within = read_training_card(checkpoint(tmp_path / "a.safetensors", 1.0, training()))
    assert within is not None
    assert within.summary == "12000 steps on roadscene"
    bare = checkpoint(tmp_path / "b.safetensors", 1.0)
    assert read_training_card(bare) is None
    digest = hashlib.sha256(bare.read_bytes()).hexdigest()
    bare.with_suffix(".json").write_text(json.dumps(training(sha256=digest)))
    assert read_training_card(bare) == within
    bare.with_suffix(".json").write_text(json.dumps(training(sha256="of another file")))
    assert read_training_card(bare) is None
    demo = training(trained_on=["demo-300"], synthetic=True, step=1)
    summary = read_training_card(checkpoint(tmp_path / "c.safetensors", 1.0, demo))
    assert summary is not None and summary.summary == "1 step on demo scenes"


@pytest.mark.parametrize("content", [b"", b"\xff" * 40, b"\x02\0\0\0\0\0\0\0[]", b"\x02\0\0\0\0\0\0\0{}"])
def test_what_is_no_card(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "broken.safetensors"
    file.write_bytes(content)
    file.with_suffix(".json").write_text("[1]")
    assert read_training_card(file) is None
    assert read_training_card(checkpoint(tmp_path / "odd.safetensors", 1.0, {"config": "base", "method": 3})) is None


def dataset(name: str, *, synthetic: bool = False, digest: str = "cd") -> PairDataset:
    return PairDataset(name, Path("/nowhere"), (), (), digest, synthetic=synthetic, family=name)


@pytest.mark.parametrize(
    ("data", "stems", "seen"),
    [
        (dataset("roadscene"), ["FLIR_00006", "FLIR_00018", "FLIR_00211", "x"], 2),
        (dataset("roadscene"), ["FLIR_00211"], 0),  # chosen by, not learnt from
        (dataset("roadscene"), ["FLIR_video_00006"], None),  # the same frame in RoadScene's other naming
        (dataset("mine", digest="ab"), ["FLIR_00006"], 1),  # the same files in another folder
        (dataset("mine"), ["FLIR_00006"], None),  # an unknown folder with the same ids
        (dataset("mine"), ["00006"], 0),
        (dataset("tno"), ["FLIR_00006"], 0),  # two known datasets
        (dataset("demo", synthetic=True), ["FLIR_00006"], 0),
    ],
)
def test_how_many_images_were_learnt_from(
    package: Path, tmp_path: Path, data: PairDataset, stems: list[str], seen: int | None
) -> None:
    found = FoundWeights(checkpoint(tmp_path / "own.safetensors", 1.0, training()), "own")
    assert exposure(get_card("lab"), found, data, stems) == Exposure(("roadscene",), seen)
    assert exposure(get_card("lab"), found, data, stems).contaminated is (seen != 0)


def test_weights_cost_nothing(package: Path, tmp_path: Path) -> None:
    from fusion_det.efficiency.assessment import rows_of
    from fusion_det.efficiency.settings import EfficiencySettings

    tiny = checkpoint(tmp_path / "tiny.safetensors", 2.0, training(config="tiny"))
    rows = rows_of(expand_methods(f"lab,lab@shipped,lab@{tiny},mean"), EfficiencySettings())
    assert [(card.name, config) for card, config in rows] == [("lab", "base"), ("lab", "tiny"), ("mean", None)]


def test_the_commands_say_whose_weights_they_are(package: Path, records: list[PairRecord], tmp_path: Path) -> None:
    import typer
    from typer.testing import CliRunner

    from fusion_det.cli.fuse import fuse
    from fusion_det.cli.methods import methods

    app = typer.Typer()
    app.command()(methods)
    app.command()(fuse)
    checkpoint(package / "shipped.safetensors", 0.5, training())
    own = checkpoint(tmp_path / "own.safetensors", 2.0, training(step=7))
    words = ["fuse", "-m", f"lab,lab@{own}", "--ir", str(records[0].ir.parent), "--vi", str(records[0].vi.parent)]
    shown = CliRunner().invoke(app, [*words, "--out", str(tmp_path / "out")])
    assert shown.exit_code == 0, shown.output
    assert "shipped, not the authors': trained 12000 steps on roadscene" in shown.output
    assert "own.safetensors: trained 7 steps on roadscene" in shown.output
    assert {folder.name for folder in (tmp_path / "out").iterdir()} == {"lab", "lab-own"}
    listed = json.loads(CliRunner().invoke(app, ["methods", "--json"]).stdout)
    (entry,) = (entry for entry in listed["methods"] if entry["name"] == "lab")
    assert (entry["ready"], entry["weights_source"]) == (True, "shipped")
    refused = CliRunner().invoke(app, ["fuse", "-m", "lab@official", *words[3:], "--out", str(tmp_path / "no")])
    assert isinstance(refused.exception, MethodError)


def test_what_is_known_without_a_card(package: Path, tmp_path: Path) -> None:
    card, official = get_card("lab"), FoundWeights(tmp_path / "official.safetensors", "official")
    assert exposure(card, official, dataset("msrs"), ["1"]) == Exposure(("msrs",), None)
    assert exposure(card, official, dataset("tno"), ["1"]) == Exposure(("msrs",), 0)
    unknown = exposure(card, FoundWeights(checkpoint(tmp_path / "own.safetensors", 1.0), "own"), dataset("tno"), ["1"])
    assert (unknown, unknown.contaminated) == (Exposure(None, None), False)
    assert exposure(get_card("mean"), None, dataset("tno"), ["1"]) == Exposure((), 0)
