"""The published procedure to the byte, and what the common protocol does with the result."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fusion_det.fusion.methods.defusion import DeFusion, official

Arrays = dict[str, torch.Tensor]


def test_recorded_bytes(golden: Arrays, filled_method: DeFusion) -> None:
    ir, vi = golden["pipeline_ir_uint8"].numpy(), golden["pipeline_vi_rgb_uint8"].numpy()
    np.testing.assert_array_equal(official.grey(vi), golden["pipeline_vi_gray_uint8"].numpy())
    raw = official.before_clamping(filled_method.network, ir, vi)
    torch.testing.assert_close(raw, golden["pipeline_fused"], atol=1e-5, rtol=0)
    fused = filled_method.fuse_officially(ir, vi)
    assert fused.dtype == np.uint8
    np.testing.assert_allclose(fused.astype(int), golden["pipeline_fused_rgb_uint8"].numpy(), atol=1)


def test_grey_is_pillows_fixed_point_luma() -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (50, 40, 3), dtype=np.uint8)
    red, green, blue = (rgb[..., i].astype(np.int64) for i in range(3))
    np.testing.assert_array_equal(official.grey(rgb), (19595 * red + 38470 * green + 7471 * blue + 32768) >> 16)
    np.testing.assert_array_equal(official.grey(rgb[..., 0]), rgb[..., 0])


@pytest.mark.parametrize("size", [(1, 1), (9, 40), (33, 18)], ids=str)
def test_any_size(size: tuple[int, int]) -> None:
    """Sizes below the margin too, which torch's own mirroring refuses."""
    fused = DeFusion("tiny").fuse_officially(np.zeros(size, np.uint8), np.zeros((*size, 3), np.uint8))
    assert fused.shape == (*size, 3)


@torch.no_grad()
def test_common_protocol_takes_the_luma(golden: Arrays, filled_method: DeFusion) -> None:
    fused = filled_method.fuse(golden["ir"][:, :1], golden["vi"][:, :1])
    assert fused.shape == (1, 1, 61, 75)
    rgb = filled_method.network(golden["ir"][:, :1], golden["vi"][:, :1])
    expected = np.tensordot([0.299, 0.587, 0.114], rgb[0].double().numpy(), axes=1)
    np.testing.assert_allclose(fused[0, 0].numpy(), expected, atol=1e-6)
