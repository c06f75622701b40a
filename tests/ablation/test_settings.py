"""What can be asked for: the shipped file is Table V, wrong ones are refused with the setting's name."""

from __future__ import annotations

from pathlib import Path

import pytest

from fusion_det.ablation.paper import TABLE_V
from fusion_det.ablation.settings import AblationSettings, training_of
from fusion_det.assessment.published import COLUMNS
from fusion_det.config import experiment_names, load_command_settings
from fusion_det.errors import ConfigError
from fusion_det.fusion import get_card
from fusion_det.fusion.methods.s4fusion.config import CONFIGS


def shipped() -> AblationSettings:
    return load_command_settings(AblationSettings, "ablation", "ablation")


def test_the_shipped_file_is_table_v() -> None:
    """Exp. 1 to 5 replace CMSA, 6 leaves out the patch mark, 7 the perception loss, 8 is the whole."""
    settings = shipped()
    rows = {v.paper_row: v for v in settings.variants}
    assert list(rows) == [f"Exp.{i}" for i in range(1, 9)] == [row.label for row in TABLE_V.rows]
    used = [CONFIGS[v.config or "released"] for v in settings.variants]
    assert [c.interaction for c in used] == ["add", "cnn", "ca", "sa", "va", "cmsa", "cmsa", "cmsa"]
    assert [c.patch_mark for c in used] == [True] * 5 + [False] + [True] * 2
    card = get_card(settings.method)
    trainings = [training_of(settings.training, v, 0).resolved(card) for v in settings.variants]
    without = trainings.pop(6)
    assert without.weights.perception == 0
    assert all(training == trainings[0] for training in trainings)
    kept, given = trainings[0].as_json(), without.as_json()
    assert kept["weights"].pop("perception") > 0
    del given["weights"]["perception"]
    assert kept == given
    assert (settings.compared_with, settings.metrics) == ("ours", ("SF", "AG", "VIF", "Qabf"))
    assert settings.entropy is not None and settings.entropy.variants == ("ours", "no_perception")
    assert "ablation" not in experiment_names()


def test_table_v_as_printed() -> None:
    """The method's own row leads in every column, as the paper says; ratios of the text's figures."""
    figures = {row.label: dict(zip(COLUMNS, row.values, strict=True)) for row in TABLE_V.rows}
    assert all(figures["Exp.8"][c] == max(row[c] for row in figures.values()) for c in COLUMNS)
    assert figures["Exp.4"]["VIF"] == 0.663 and figures["Exp.7"]["SF"] == 11.036 and figures["Exp.1"]["AG"] == 3.782


def test_what_a_variant_does_not_name_is_as_in_the_others() -> None:
    settings = shipped().with_changes({"training": {"settings": {"weights": {"l1": 7.0}, "ema": 0.5}}})
    changed = settings.variants[6]
    found = training_of(settings.training, changed, 3).resolved(get_card("s4fusion"))
    assert (found.weights.l1, found.weights.perception, found.ema, found.seed) == (7.0, 0.0, 0.5, 3)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("variants: []", "at least one"),
        ("variants: [{name: a}, {name: a}]", "twice"),
        ("variants: [{name: a, settings: {steps: 5}}]", "the same for every variant"),
        ("variants: [{name: a, settings: {weights: {percept: 0}}}]", "weights.percept"),
        ("variants: [{name: a, settings: {colour: 1}}]", "colour"),
        ("variants: [{name: a, paper_row: Exp.9}]", "no row of Table V"),
        ("variants: [{name: a}]\nreference: b", "none of the variants"),
        ("variants: [{name: a}]\nentropy: {variants: [b]}", "none of the variants"),
        ("variants: [{name: a}]\nseeds: [1, 1]", "seeds"),
        ("variants: [{name: a}]\ntraining: {validation: 2}", "training.data"),
        ("variants: [{name: a}]\ntraining: {data: [x]}", "nothing to measure"),
        ("variants: [{name: a}]\ntraining: {data: [x], validation: 2, when: missing}", "leave out when"),
        ("variants: [{name: a}]\ntraining: {data: [x], validation: 2, methods: {s4fusion: {}}}", "leave out when"),
        ("variants: [{name: a, settings: {workers: 3}}]", "workers"),
        ("variants: [{name: a}]\nmetrics: [PSNRX]", "PSNRX"),
        ("variants: [{name: ../a}]", "name"),
        ("command: quality", "fusion-det quality"),
    ],
)
def test_wrong_settings_are_named(tmp_path: Path, text: str, words: str) -> None:
    usual = {"command": "command: ablation", "training": "training: {data: [x], validation: 2}"}
    lines = [line for key, line in usual.items() if f"{key}:" not in text]
    file = tmp_path / "mine.yaml"
    file.write_text("\n".join([*lines, text]))
    with pytest.raises(ConfigError, match=words) as caught:
        load_command_settings(AblationSettings, "ablation", file)
    assert "mine.yaml" in str(caught.value)
