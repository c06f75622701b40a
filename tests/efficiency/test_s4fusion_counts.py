"""S4Fusion's size by parts: that of the released code (recorded in its specification), and that of what is computed here.

The specification's figures at 481×649: 65.07 G for linear layers, convolutions and einsum, 24.19 G for scans; they are those
of a run of the released code, not of ours.
"""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fusion_det.efficiency.assessment import count
from fusion_det.efficiency.flops import FlopCount, count_flops
from fusion_det.efficiency.paper import TABLE_VII
from fusion_det.efficiency.parameters import ParameterCount, count_parameters
from fusion_det.fusion import FusionMethod, build_method
from fusion_det.fusion.methods.s4fusion.network import S4FusionNet

POSITIONS, MAPS, INNER = 160 * 216, 2, 72
"""At the shallowest level of a 481×649 image; each deeper one has a quarter of the positions and twice the width."""


@pytest.fixture(scope="module")
def released() -> tuple[ParameterCount, FlopCount]:
    parameters, flops = count("s4fusion", None, 480, 640)
    assert flops is not None
    return parameters, flops


@pytest.fixture(scope="module")
def dropped_level() -> FlopCount:
    """Fusion level 0, which the released code computes and drops."""
    with torch.device("meta"):
        level = S4FusionNet().vmunet.fusion_layers[0]
        features = torch.empty(MAPS, 1, 160, 216, 48)
    return count_flops(lambda: level(features))


def marks_of_three_directions(level: int) -> int:
    """A level's three blocks mark both maps; the released code does so in each of four directions, apart."""
    return 3 * 3 * 2 * (POSITIONS // 4**level) * 2 * (INNER * 2**level) ** 2


UNFOLDED = 2 * POSITIONS * 48 * (192 - 16) + 2 * 12 * 481 * 649 - 2 * 12 * 16 * 48
"""What the last expansion costs more where it is not folded into the convolution behind it."""


def giga(operations: int) -> str:
    return f"{operations / 1e9:.2f}"


def test_parameters(released: tuple[ParameterCount, FlopCount]) -> None:
    parameters, _ = released
    assert (parameters.total, parameters.used) == (3_562_981, 3_410_893)
    assert parameters.unused == (("vmunet.fusion_layers.0", 152_064), ("vmunet.final_up.norm", 24))


def test_a_counter_of_layers_sees_half_of_the_parameters() -> None:
    with torch.device("meta"):
        layers = [m for m in S4FusionNet().modules() if isinstance(m, nn.Linear | nn.Conv2d | nn.LayerNorm)]
    seen = sum(parameter.numel() for layer in layers for parameter in layer.parameters())
    assert round(seen / 1e6, 3) == 1.765


def test_what_is_computed(released: tuple[ParameterCount, FlopCount]) -> None:
    _, flops = released
    assert flops.layers == flops.by_torch
    assert (giga(flops.layers), giga(flops.scans)) == ("33.39", "14.51")


def test_what_the_released_code_computes(released: tuple[ParameterCount, FlopCount], dropped_level: FlopCount) -> None:
    _, flops = released
    marks = [marks_of_three_directions(level) for level in range(3)]
    layers = flops.layers + dropped_level.layers + sum(marks) + UNFOLDED
    assert layers == pytest.approx(65.07e9, abs=0.006e9)
    assert flops.scans + dropped_level.scans == pytest.approx(24.19e9, abs=0.006e9)


def test_the_reason_given_beside_the_papers_row(
    released: tuple[ParameterCount, FlopCount], dropped_level: FlopCount
) -> None:
    _, flops = released
    level = dropped_level.layers + marks_of_three_directions(0)
    others = marks_of_three_directions(1) + marks_of_three_directions(2)
    reason = TABLE_VII["s4fusion"].reason
    assert f"takes {giga(level)} G and {giga(dropped_level.scans)} G" in reason
    assert f"where once would do, takes {giga(others)} G" in reason
    assert f"takes {giga(UNFOLDED)} G" in reason
    assert f"remains, {giga(flops.layers)} G and {giga(flops.scans)} G" in reason
    assert f"{giga(layers_of_the_released_code())} G and" in reason


def layers_of_the_released_code() -> int:
    """Its linear layers and convolutions, from their shapes: what hooks on layers see."""
    total = 2 * MAPS * POSITIONS * 48 * 16 + 2 * POSITIONS * 48 * 192 + 2 * 12 * 481 * 649
    for level, depth in enumerate((1, 2, 1)):
        positions, width = POSITIONS // 4**level, 48 * 2**level
        inner = width * 3 // 2
        block = 2 * positions * (width * 2 * inner + inner * 9 + inner * width)
        total += block * (3 * depth + MAPS * 3)  # two encoders and the decoder; three fusion blocks
        if level < 2:
            total += MAPS * 2 * (positions // 4) * (4 * width) * (2 * width)
        if level > 0:
            total += 2 * positions * width * 2 * width
    return total


def test_a_real_run_is_counted_like_one_that_computes_nothing() -> None:
    """On the CPU the projections are convolutions, and the scan of a map is one kernel."""
    method = build_method("s4fusion", weights=None)
    assert isinstance(method, FusionMethod)
    pair = torch.rand(2, 1, 1, 25, 37)
    really = count_flops(lambda: method.fuse(*pair))
    assert method.network is not None
    method.network.to("meta")
    pair = pair.to("meta")
    on_meta = count_flops(lambda: method.fuse(*pair))
    assert really.convolutions > on_meta.convolutions
    for kind in ("layers", "by_torch", "scans", "scans_exact", "total"):
        assert getattr(really, kind) == getattr(on_meta, kind)


@pytest.mark.parametrize("config", ["paper", "add", "va"])
def test_what_is_used_is_what_a_gradient_reaches(config: str) -> None:
    method = build_method("s4fusion", weights=None, config=config)
    assert isinstance(method, FusionMethod)
    assert method.network is not None
    found = count_parameters(method)
    method.network(*torch.rand(2, 1, 1, 25, 25)).sum().backward()
    reached = sum(p.numel() for p in method.network.parameters() if p.grad is not None)
    assert found.used == reached
    assert found.used == found.total - sum(size for _, size in found.unused)
