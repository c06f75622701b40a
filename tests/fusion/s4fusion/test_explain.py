"""Δ and features as ``fusion-det explain`` reports them, against recorded arrays and the specification written out."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from fusion_det.data.pair import Pair
from fusion_det.errors import MethodError
from fusion_det.fusion import FusionMethod, build_method, list_cards
from fusion_det.fusion.explanation import (
    MODALITIES,
    STAGES,
    Explanation,
    StepMean,
    average_steps,
    explain_pair,
    require_explaining,
)
from fusion_det.fusion.methods.s4fusion import S4Fusion
from fusion_det.fusion.methods.s4fusion.explain import _means_of_stages, explain
from fusion_det.fusion.methods.s4fusion.network import S4FusionNet

Arrays = dict[str, torch.Tensor]
MakeNetwork = Callable[..., S4FusionNet]


@pytest.fixture
def explained(golden: Arrays, filled_network: MakeNetwork) -> Explanation:
    return explain(filled_network(), "released", golden["ir"], golden["vi"])


def filled_method(filled_network: MakeNetwork, config: str = "released", dtype: str = "float32") -> S4Fusion:
    """A method that passes for trained."""
    method = build_method("s4fusion", weights=None, config=config, dtype=dtype)
    assert isinstance(method, S4Fusion)
    method.network.load_state_dict(filled_network().state_dict(), strict=False)
    method.trained = True
    return method


def projected_by_specification(state: Arrays, block: str, *sources: torch.Tensor) -> list[torch.Tensor]:
    """Section 4, Cross-SS2D, steps 1 and 3: Δ before its bias, (b,4,d,H,W) of each modality."""
    deltas = []
    for source, private in zip(sources, ("x_proj_weight", "y_proj_weight"), strict=True):
        p, _ = (source @ state[f"{block}.in_proj.weight"].T).chunk(2, dim=-1)
        weight, bias = state[f"{block}.conv2d.weight"], state[f"{block}.conv2d.bias"]
        p = F.silu(F.conv2d(p.permute(0, 3, 1, 2), weight, bias, padding=1, groups=len(bias)))
        to_delta = state[f"{block}.dt_projs_weight"]
        t = torch.einsum("krd,bdhw->bkrhw", state[f"{block}.{private}"][:, : to_delta.shape[-1]], p)
        deltas.append(torch.einsum("kdr,bkrhw->bkdhw", to_delta, t))
    return deltas


def by_row(explanation: Explanation) -> dict[tuple[int, int | None, str, str], StepMean]:
    return {(step.layer, step.block, step.modality, step.stage): step for step in explanation.steps}


def test_means_of_the_recorded_block(golden_blocks: Arrays, filled_network: MakeNetwork) -> None:
    """The recorded sequence has infrared at even positions, visible at odd ones; softplus in float64, by hand."""
    name = "fusion_layers.1.layers.0"
    block = filled_network().vmunet.get_submodule(name)
    means = _means_of_stages(block, torch.stack((golden_blocks[f"{name}/in_ir"], golden_blocks[f"{name}/in_vi"])))
    recorded = golden_blocks[f"{name}/scan_delta_raw"].double().numpy()  # (1,4,d,2·L)
    bias = block.dt_projs_bias.double().numpy()[None, :, :, None]
    for i, modality in enumerate((recorded[..., 0::2], recorded[..., 1::2])):
        assert means["projected"][i] == pytest.approx(modality.mean(), abs=1e-6)
        assert means["biased"][i] == pytest.approx((modality + bias).mean(), abs=1e-6)
        assert means["step"][i] == pytest.approx(np.log1p(np.exp(modality + bias)).mean(), abs=1e-6)


def test_means_from_the_images(golden: Arrays, filled_network: MakeNetwork, explained: Explanation) -> None:
    """The first block of each layer, from recorded features (layer 2's are what layer 1's encoders hand on)."""
    network, rows = filled_network(), by_row(explained)
    part, state = network.vmunet, network.vmunet.state_dict()
    second = [
        layers[0](golden[f"embed_{m}"])[1] for layers, m in zip((part.layers_x, part.layers_y), MODALITIES, strict=True)
    ]
    sources = {
        1: [golden["embed_ir"], golden["embed_vi"]],
        2: second,
        3: [golden["enc1_ir"], golden["enc1_vi"]],
    }
    for layer, features in sources.items():
        block = f"fusion_layers.{layer - 1}.layers.0"
        bias = state[f"{block}.dt_projs_bias"][:, :, None, None]
        for modality, delta in zip(MODALITIES, projected_by_specification(state, block, *features), strict=True):
            expected = {"projected": delta, "biased": delta + bias, "step": F.softplus(delta + bias)}
            for stage in STAGES:
                assert rows[layer, 1, modality, stage].mean == pytest.approx(expected[stage].mean().item(), abs=1e-5)


def test_means_are_those_of_the_block(golden: Arrays, filled_network: MakeNetwork, explained: Explanation) -> None:
    """Of every block, each fed with what the blocks before it made."""
    rows = by_row(explained)
    for number, features in enumerate(explained.features, 1):
        x = torch.from_numpy(features.before)[:, None]
        for index, block in enumerate(filled_network().vmunet.fusion_layers[number - 1].layers, 1):
            for stage in STAGES:
                delta = block.step_sizes(x, stage)
                for i, modality in enumerate(MODALITIES):
                    mean = delta[i].double().mean().item()
                    assert rows[number, index, modality, stage].mean == pytest.approx(mean, abs=1e-6)
            x = x + block(x)


def test_layer_is_the_mean_of_its_blocks(explained: Explanation) -> None:
    rows = by_row(explained)
    assert len(explained.steps) == len(rows) == 3 * (1 + 3) * len(MODALITIES) * len(STAGES)
    for (layer, block, modality, stage), step in rows.items():
        if block is None:
            blocks = [rows[layer, number, modality, stage].mean for number in (1, 2, 3)]
            assert step.mean == pytest.approx(statistics.fmean(blocks))


def test_features_are_the_recorded_ones(golden: Arrays, explained: Explanation) -> None:
    before = [layer.before for layer in explained.features]
    after = [layer.after for layer in explained.features]
    assert [layer.layer for layer in explained.features] == [1, 2, 3]
    for i, modality in enumerate(MODALITIES):
        np.testing.assert_allclose(before[0][i], golden[f"embed_{modality}"][0], atol=1e-4)
        np.testing.assert_allclose(before[2][i], golden[f"enc1_{modality}"][0], atol=1e-4)
    np.testing.assert_allclose(after[1].sum(0), golden["fuse1"][0], atol=1e-4)
    np.testing.assert_allclose(after[2].sum(0), golden["fuse2"][0], atol=1e-4)
    assert {array.dtype for array in before + after} == {np.dtype(np.float32)}


def test_what_is_used_and_what_the_paper_prints(explained: Explanation, filled_network: MakeNetwork) -> None:
    assert {(step.layer, step.used) for step in explained.steps} == {(1, False), (2, True), (3, True)}
    assert [layer.used for layer in explained.features] == [False, True, True]
    published = {(s.layer, s.modality, s.published) for s in explained.steps if s.published is not None}
    assert len(published) == 6
    assert (3, "vi", -19.811) in published
    assert all(s.block is None and s.stage == "projected" for s in explained.steps if s.published is not None)
    pair = random_pair()
    of_paper = explain_pair(filled_method(filled_network, "paper"), pair)
    assert all(step.used for step in of_paper.steps)
    assert any(step.published is not None for step in of_paper.steps)
    unmarked = explain_pair(filled_method(filled_network, "no_mark"), pair)
    assert all(step.published is None for step in unmarked.steps)


@pytest.mark.parametrize("config", ["add", "cnn", "ca", "sa", "va"])
def test_configuration_without_cmsa(config: str) -> None:
    method = build_method("s4fusion", weights=None, config=config)
    method.trained = True
    with pytest.raises(MethodError, match=f"configuration {config} of s4fusion has no CMSA.*released, paper, no_mark"):
        explain_pair(method, random_pair())


def random_pair(height: int = 20, width: int = 33) -> Pair:
    torch.manual_seed(1)
    return Pair("00388", torch.rand(1, height, width), torch.rand(3, height, width), None, None)


def test_pair_is_prepared_as_for_fusing(golden: Arrays, filled_network: MakeNetwork) -> None:
    """Against the recorded luma, mirrored by the recorded margins."""
    visible = golden["pipeline_vi_rgb_uint8"].permute(2, 0, 1) / 255
    pair = Pair("00388", golden["pipeline_ir_uint8"][None] / 255, visible, None, None)
    margins = golden["pipeline_pad_left_right_top_bottom"].tolist()
    padded = [F.pad(image, margins, mode="reflect") for image in (pair.ir[None], golden["pipeline_vi_y"])]
    expected = explain(filled_network(), "released", *padded)
    actual = explain_pair(filled_method(filled_network), pair)
    for one, other in zip(actual.features, expected.features, strict=True):
        np.testing.assert_allclose(one.after, other.after, atol=1e-4)
    assert [s.mean for s in actual.steps] == pytest.approx([s.mean for s in expected.steps], abs=1e-6)


def test_lower_precision(filled_network: MakeNetwork) -> None:
    pair = random_pair()
    full = explain_pair(filled_method(filled_network), pair)
    low = explain_pair(filled_method(filled_network, dtype="bfloat16"), pair)
    assert [s.mean for s in low.steps] == pytest.approx([s.mean for s in full.steps], abs=5e-3)
    assert low.features[1].after.dtype == np.float32
    assert np.abs(low.features[1].after - full.features[1].after).mean() < 0.05


def test_refusals(filled_network: MakeNetwork) -> None:
    with pytest.raises(MethodError, match="no trained weights, and random ones explain nothing"):
        explain_pair(build_method("s4fusion", weights=None), random_pair())
    mean = build_method("mean")
    with pytest.raises(MethodError, match=r"mean offers no explanation; use --method with one that does: .*s4fusion"):
        explain_pair(mean, random_pair())
    with pytest.raises(MethodError, match="offers no explanation"):
        mean.explain(torch.rand(1, 1, 4, 4), torch.rand(1, 1, 4, 4))
    broken = filled_method(filled_network)
    torch.nn.init.constant_(broken.network.vmunet.fusion_layers[1].layers[0].dt_projs_bias, float("nan"))
    with pytest.raises(MethodError, match="NaN or infinite step sizes for 00388"):
        explain_pair(broken, random_pair())


def test_cards_tell_the_truth() -> None:
    for card in list_cards():
        method = build_method(card.name, weights=None)
        assert (type(method).explain is not FusionMethod.explain) == card.explains, card.name
        if card.explains:
            require_explaining(card)


def test_average_over_pairs() -> None:
    def means(*values: float) -> list[StepMean]:
        return [
            StepMean(2, None, modality, "step", value, published=-1.0)
            for modality, value in zip(MODALITIES, values, strict=True)
        ]

    infrared, visible = average_steps([means(1.0, 7.0), means(2.0, 7.0), means(6.0, 7.0)])
    assert infrared.what == StepMean(2, None, "ir", "step", 3.0, published=-1.0)
    assert infrared.spread == pytest.approx(7**0.5)  # ((-2)² + (-1)² + 3²) / 2
    assert (visible.what.mean, visible.spread, visible.pairs) == (7.0, 0.0, 3)
    assert average_steps([means(1.0, 2.0)])[0].spread is None
    with pytest.raises(ValueError, match="not of the same layers"):
        average_steps([means(1.0, 2.0), [dataclasses.replace(s, layer=1) for s in means(1.0, 2.0)]])
    with pytest.raises(ValueError, match="not of the same"):
        average_steps([])
