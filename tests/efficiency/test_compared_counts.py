"""Sizes of the compared networks, beside those measured on the official implementations (their specifications)."""

from __future__ import annotations

import pytest

from fusion_det.efficiency.assessment import count
from fusion_det.efficiency.paper import SIZE, TABLE_VII
from fusion_det.fusion import list_cards

OFFICIAL = {
    "defusion": (7_874_473, 70.55),
    "u2fusion": (659_217, 202.4),
    "irfs": (241_701, 73.5),
    "emma": (1_517_657, 40.4),
    "cddfuse": (1_188_272, 552),
}
"""Parameters, and billions of multiply-adds for 640×480 pixels."""

REGISTERED = {card.name for card in list_cards()}


@pytest.mark.parametrize("name", [name for name in OFFICIAL if name in REGISTERED])
def test_parameters_are_the_official_ones_and_nothing_costs_more(name: str) -> None:
    parameters, flops = count(name, None, *SIZE)
    published, multiply_adds = OFFICIAL[name]
    assert parameters.total == published
    assert flops is not None
    assert flops.layers / 2e9 < 1.005 * multiply_adds


def test_irfs_in_table_vii_is_counted_with_a_multiply_add_as_one_operation() -> None:
    parameters, flops = count("irfs", None, *SIZE)
    assert flops is not None
    assert flops.layers / 2e9 == pytest.approx(TABLE_VII["irfs"].gflops, rel=5e-3)
    assert parameters.total / 1e6 == pytest.approx(TABLE_VII["irfs"].parameters, abs=5e-3)
    assert parameters.unused == ()
