"""How maps of many channels become pictures, on maps whose first component is known, and the table of step sizes."""

from __future__ import annotations

import numpy as np
import pytest

from fusion_det.fusion.explanation import StepAverage, StepMean
from fusion_det.report.feature_maps import ComponentMap, PanelItem, colour, component_maps, panel
from fusion_det.report.step_table import step_rows, step_table

RNG = np.random.default_rng(0)


def unit(values: np.ndarray) -> np.ndarray:
    return values / np.linalg.norm(values)


def planted(pattern: np.ndarray, direction: np.ndarray, offset: float = 3.0) -> np.ndarray:
    """(h,w,C): the pattern along a direction of the channels, weak noise elsewhere, far from zero."""
    noise = RNG.normal(scale=1e-3, size=(*pattern.shape, len(direction)))
    return (pattern[..., None] * direction + noise + offset).astype(np.float32)


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])


@pytest.fixture
def patterns() -> tuple[np.ndarray, np.ndarray]:
    rows, columns = np.mgrid[0:10, 0:12]
    return np.sin(rows / 2.0), np.cos(columns / 3.0)


def test_first_component_is_found(patterns: tuple[np.ndarray, np.ndarray]) -> None:
    """Each map's own, whatever its mean, and in the sense of the source image (which is bright where the pattern is)."""
    first, second = patterns
    source = np.kron(first, np.ones((4, 4)))
    directions = [unit(RNG.normal(size=16)) for _ in range(2)]
    before, after = component_maps(planted(first, directions[0]), planted(-9 * first, directions[1]), source)
    assert correlation(before.values, first) > 0.999
    assert correlation(after.values, first) > 0.999
    assert min(before.share, after.share) > 0.99
    assert np.ptp(after.values) == pytest.approx(9 * np.ptp(first), rel=0.01)
    dark, _ = component_maps(planted(first, directions[0]), planted(second, directions[1]), -source)
    assert correlation(dark.values, first) < -0.999


def test_own_and_shared(patterns: tuple[np.ndarray, np.ndarray]) -> None:
    """Two maps of different strength along two directions: shared takes the one they agree on, and one range."""
    first, second = (p - p.mean() for p in patterns)
    common, other = np.eye(8)[0], np.eye(8)[1]
    source = np.kron(first, np.ones((2, 2)))
    one = planted(first, common) + planted(0.5 * second, other)
    two = planted(20 * first, common) + planted(24 * second, other)
    own = component_maps(one, two, source)
    assert correlation(own[0].values, first) > 0.999
    assert abs(correlation(own[1].values, second)) > 0.95
    assert own[0].high < own[1].high / 10
    shared = component_maps(one, two, source, scale="shared")
    assert correlation(shared[0].values, first) > 0.9
    assert (shared[0].low, shared[0].high) == (shared[1].low, shared[1].high)


def test_padding_has_no_say(patterns: tuple[np.ndarray, np.ndarray]) -> None:
    pattern = patterns[0]
    features = planted(pattern, np.eye(6)[2])
    spoilt = features.copy()
    for edge in (np.s_[:2], np.s_[-2:], np.s_[:, :2], np.s_[:, -2:]):
        spoilt[edge] += 1000 * np.eye(6, dtype=np.float32)[4]
    margins = (4, 4, 4, 4)
    source = np.kron(pattern, np.ones((4, 4)))[4:-4, 4:-4]  # ten cells of four pixels, one of them padding on each side
    clean, dirty = (component_maps(x, x, source, margins)[0] for x in (features, spoilt))
    np.testing.assert_allclose(dirty.values[2:-2, 2:-2], clean.values[2:-2, 2:-2], atol=1e-4)
    assert (dirty.low, dirty.high) == pytest.approx((clean.low, clean.high), abs=1e-4)


@pytest.mark.parametrize("scale", ["own", "shared"])
@pytest.mark.parametrize("grid", [(1, 1), (1, 3), (2, 2)], ids=str)
def test_maps_without_structure(grid: tuple[int, int], scale: str) -> None:
    flat = np.ones((*grid, 5), np.float32)
    for component in component_maps(flat, flat, np.ones((6, 9)), (1, 1, 0, 0), scale):
        assert np.all(component.values == 0)
        assert component.share == 0
        picture = np.asarray(colour(component, (9, 6), (1, 1, 0, 0)))
        assert picture.shape == (6, 9, 3)
        assert len(np.unique(picture.reshape(-1, 3), axis=0)) == 1


def test_picture_lies_over_its_image() -> None:
    """A bright cell of a padded grid is seen at its pixels in the image."""
    values = np.zeros((6, 8), np.float32)
    values[2, 5] = 1
    margins = (4, 8, 0, 12)  # cells of 10 × 10 pixels
    picture = colour(ComponentMap(values, 0, 1, 1), (68, 48), margins)
    assert picture.size == (68, 48)
    bright = np.asarray(picture)[..., 0].astype(int)  # viridis: red is highest at the bright end
    row, column = np.unravel_index(bright.argmax(), bright.shape)
    assert abs(row - 25) <= 1
    assert abs(column - (55 - 4)) <= 1
    ends = np.asarray(colour(ComponentMap(np.array([[-5.0, 5.0]], np.float32), -1, 1, 1), (2, 1)))
    assert ends[0].tolist() == [[68, 1, 84], [253, 231, 37]]


def test_panel_has_a_place_for_everything() -> None:
    pictures = [colour(ComponentMap(np.eye(4, dtype=np.float32), 0, 1, 1), (20, 10)) for _ in range(6)]
    items = [PanelItem(picture, "IR", "note", *((-1.0, 2.0) if i > 1 else ())) for i, picture in enumerate(pictures)]
    sheet = panel(items, ["one", "two"])
    assert sheet.size == (2 * 640 + 8, 3 * (320 + 62) + 8 + 50)
    assert panel(items[:3], []).size == (2 * 640 + 8, 2 * (320 + 62) + 8)


def averages(pairs: int) -> list[StepAverage]:
    rows = [
        StepMean(1, None, "ir", "projected", 0.00149, False, 0.0014),
        StepMean(1, None, "vi", "projected", -0.00001, False, -0.0056),
        StepMean(1, 1, "ir", "projected", -4.0006, False),
        StepMean(1, 1, "vi", "projected", 12.5, False),
        StepMean(1, None, "ir", "step", 0.7, False),
        StepMean(1, None, "vi", "step", 0.8, False),
    ]
    return [StepAverage(row, 0.25 if pairs > 1 else None, pairs) for row in rows]


def test_table_of_step_sizes() -> None:
    table = step_table(averages(3), "projected", "S4Fusion", "m3fd")
    assert table.head == ("", "IR", "VI", "IR, paper", "VI, paper")
    text = [[f"{cell.text} {cell.note}".strip() for cell in row] for row in table.rows]
    assert text[0] == ["layer 1 (unused)", "0.0015 ± 0.250", "0.0000 ± 0.250", "0.0014", "−0.0056"]
    assert text[1] == ["layer 1, block 1", "−4.001 ± 0.250", "12.500 ± 0.250", "–", "–"]
    assert "3 pairs of m3fd" in table.caption
    assert any("sample standard deviation over 3 pairs" in note for note in table.notes)
    steps = step_table(averages(1), "step", "S4Fusion", "m3fd")
    assert steps.head == ("", "IR", "VI")
    assert [cell.text for cell in steps.rows[0]] == ["layer 1 (unused)", "0.700", "0.800"]
    assert not any("deviation" in note or "published" in note for note in steps.notes)
    assert step_rows(averages(1))[0] == {
        "layer": 1, "block": None, "modality": "ir", "stage": "projected", "used": False,
        "mean": 0.00149, "spread": None, "pairs": 1, "published": 0.0014,
    }  # fmt: skip
