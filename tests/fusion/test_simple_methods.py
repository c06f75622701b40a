"""Controls and arithmetic methods against their closed forms in numpy."""

from __future__ import annotations

import numpy as np
import torch

from fusion_det.fusion import FusionMethod, build_method


def built(name: str) -> FusionMethod:
    method = build_method(name)
    assert isinstance(method, FusionMethod)
    return method


IR, VI, RGB = torch.rand(2, 1, 9, 7), torch.rand(2, 1, 9, 7), torch.rand(2, 3, 9, 7)


def test_mean() -> None:
    np.testing.assert_allclose(built("mean").fuse(IR, VI).numpy(), (IR.numpy() + VI.numpy()) / 2, atol=1e-7)


def test_max() -> None:
    np.testing.assert_array_equal(built("max").fuse(IR, VI).numpy(), np.maximum(IR.numpy(), VI.numpy()))


def test_controls() -> None:
    np.testing.assert_array_equal(built("vi").fuse(IR, RGB).numpy(), RGB.numpy())
    np.testing.assert_array_equal(built("ir").fuse(IR, RGB).numpy(), np.repeat(IR.numpy(), 3, axis=1))
