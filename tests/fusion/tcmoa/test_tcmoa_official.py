"""TC-MoA's published procedure: to its bytes, windows included."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fusion_det.errors import MethodError
from fusion_det.fusion.methods.tcmoa import TCMoA, official, windows
from fusion_det.fusion.methods.tcmoa.network import TCMoANet

Arrays = dict[str, np.ndarray]


@pytest.mark.parametrize(("prefix", "name", "every"), [("", "saved_u8", 1), ("wide_", "wide_saved_u8_s2", 2)])
def test_from_bytes_to_bytes(prefix: str, name: str, every: int, golden: Arrays, filled_network: TCMoANet) -> None:
    fused = official.fuse_officially(filled_network, golden[f"{prefix}ir"], golden[f"{prefix}vi"])
    assert fused.shape == golden[f"{prefix}vi"].shape
    difference = np.abs(fused[::every, ::every].astype(int) - golden[name])
    assert difference.max() <= 1  # beside a whole number
    assert (difference > 0).mean() < 1e-3


@pytest.mark.parametrize("size", [(480, 640), (768, 1024), (449, 1400)])
def test_recorded_windows(size: tuple[int, int], golden: Arrays) -> None:
    assert windows.window_origins(*size) == [tuple(row) for row in golden[f"windows_{size[0]}x{size[1]}"].tolist()]


class Numbers:
    """A "network" that fuses a window to the number of its call."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, ir: torch.Tensor, vi: torch.Tensor, task: int) -> torch.Tensor:
        self.calls += 1
        assert ir.shape == vi.shape == (1, 3, 448, 448)
        level = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
        return (self.calls / 10 - level) / torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1) + 0 * ir


def test_later_windows_cover_earlier_ones() -> None:
    ir = vi = torch.rand(1, 3, 600, 900)
    fused = windows.fuse_in_windows(Numbers(), ir, vi)  # type: ignore[arg-type]
    rows = np.where(np.arange(600) < 152, 0, 3)
    columns = np.digitize(np.arange(900), [448, 452])
    expected = (rows[:, None] + columns + 1) / 10
    np.testing.assert_allclose(fused[0, 1].numpy(), expected, atol=1e-6)


@pytest.mark.parametrize(("size", "goes"), [((448, 2000), False), ((449, 449), True), ((2000, 448), False)])
def test_what_goes_in_windows(size: tuple[int, int], goes: bool) -> None:
    assert windows.goes_in_windows(*size) == goes


@pytest.mark.parametrize("shape", [(5, 9), (40, 130, 3)], ids=str)
def test_any_size_in_grey_and_in_colour(shape: tuple[int, ...]) -> None:
    image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    fused = TCMoA("tiny").fuse_officially(image, image)
    assert fused.shape == (*shape[:2], 3)
    assert (fused.min(), fused.max()) == (0, 255)


def test_images_without_contrast_cannot_be_stretched() -> None:
    with pytest.raises(MethodError, match="contrast"):
        official.stretched_colours(np.full((3, 4, 3), 0.5, np.float32))


def test_stretching_rounds_half_up() -> None:
    levels = np.array([0.0, 1.49, 1.5, 2.5, 255.0]) / 255
    found = official.stretched_colours(np.broadcast_to(levels[None, :, None], (1, 5, 3)).copy())
    assert found[0, :, 0].tolist() == [0, 1, 2, 3, 255]


def test_task_is_the_methods() -> None:
    """Gates differ by task, and with them the images."""
    torch.manual_seed(0)
    method = TCMoA("tiny")
    for adapter in method.network.blocks_MoA:
        torch.nn.init.normal_(adapter.MoA.w_gate)
    ir, vi = torch.rand(2, 1, 3, 112, 112)
    with torch.no_grad():
        fused = method.fuse(ir[:, :1], vi)
        method.task = 2
        assert not torch.equal(method.fuse(ir[:, :1], vi), fused)
