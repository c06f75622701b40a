"""Scans over feature maps: SS2D, and the Cross SS2D of S4Fusion, in which two modalities share one state."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import torch
from torch.overrides import handle_torch_function, has_torch_function

from fusion_det.fusion.ssm.directions import (
    DIRECTIONS,
    fold_directions,
    interleave,
    separate,
    turn_to_directions,
    unfold_directions,
)
from fusion_det.fusion.ssm.selective_scan import Backend, choose_backend, selective_scan


def scan_2d(
    u: torch.Tensor,
    params: torch.Tensor,
    dt_weight: torch.Tensor,
    dt_bias: torch.Tensor,
    A: torch.Tensor,
    D: torch.Tensor,
    *,
    directions: Sequence[int] = DIRECTIONS,
    backend: Backend | None = None,
) -> torch.Tensor:
    """Scan feature maps in four directions (row- and column-major, and both reversed) and add the four results up.

    With one modality this is VMamba's SS2D; with M = 2 it is S4Fusion's Cross SS2D (Eqs. 9, 10, 12): in each direction the
    two modalities alternate, the first one first at every position, through one sequence of length 2·H·W and one state.
    Reversed directions are reversed before the modalities alternate. Sequences are maps of one row.

    Δ of direction k is softplus(dt_weight[k]·t + dt_bias[k]); it, B and C belong to their position, whichever way the map
    is walked. The CPU backend walks the maps by index and copies nothing; the others compose the sequences. Seen by a
    ``torch.overrides.TorchFunctionMode``, like :func:`selective_scan`.

    Args:
        u: (M,b,H,W,d) maps, channels last, M = 1 or 2 modalities.
        params: (M,b,H,W,K,r+2N): for each direction the low-rank t (r), then B (N), then C (N).
        dt_weight: (K,d,r). dt_bias: (K,d). A: (K,d,N), negative. D: (K,d), the skip connection.
        directions: which K of the four are walked, each with parameters of its own: 0 rows, 1 columns, 2 and 3 these reversed.
        backend: as in :func:`selective_scan`.

    Returns:
        (M,b,H,W,d), of the dtype of ``u``.

    Raises:
        ValueError: shapes that do not fit each other.
    """
    if has_torch_function((u,)):
        seen: torch.Tensor = handle_torch_function(
            scan_2d, (u,), u, params, dt_weight, dt_bias, A, D, directions=directions, backend=backend
        )  # fmt: skip
        return seen
    _check(u, params, dt_weight, dt_bias, A, D, directions)
    if choose_backend(u, backend) == "cpu":
        from fusion_det.fusion.ssm.cpu.autograd import scan_2d_cpu

        return scan_2d_cpu(u, params, dt_weight, dt_bias, A, D, directions)
    return compose_scan_2d(u, params, dt_weight, dt_bias, A, D, directions=directions, backend=backend)


def compose_scan_2d(
    u: torch.Tensor,
    params: torch.Tensor,
    dt_weight: torch.Tensor,
    dt_bias: torch.Tensor,
    A: torch.Tensor,
    D: torch.Tensor,
    *,
    directions: Sequence[int] = DIRECTIONS,
    backend: Backend | None = None,
) -> torch.Tensor:
    """:func:`scan_2d` as the published networks compute it: unfold, interleave, scan as one sequence, undo."""
    modalities, batch, height, width, channels = u.shape
    rank, states = dt_weight.shape[2], A.shape[2]
    length = height * width
    sequences = unfold_directions(u.movedim(-1, -3), directions)  # (K,M,b,d,L)
    by_position = params.flatten(2, 3).permute(3, 0, 1, 4, 2)  # (K,M,b,r+2N,L)
    t, B, C = turn_to_directions(by_position, height, width, directions).split((rank, states, states), dim=-2)
    # Like the scan, not at the lower precision of an autocast (which the meta device has none of).
    with contextlib.nullcontext() if u.is_meta else torch.autocast(u.device.type, enabled=False):
        dtype = torch.promote_types(dt_weight.dtype, t.dtype)
        delta = torch.einsum("kdr,kmbrl->kmbdl", dt_weight.to(dtype), t.to(dtype))

    def as_scanned(x: torch.Tensor) -> torch.Tensor:
        return interleave(x.transpose(0, 1)).transpose(0, 1)  # (K,M,b,·,L) → (b,K,·,M·L)

    y = selective_scan(
        as_scanned(sequences).flatten(1, 2),
        as_scanned(delta).flatten(1, 2),
        A.flatten(0, 1),
        as_scanned(B),
        as_scanned(C),
        D.flatten(),
        delta_bias=dt_bias.flatten(),
        delta_softplus=True,
        backend=backend,
    )
    separated = separate(y.view(batch, len(directions), channels, modalities * length), modalities)  # (M,b,K,d,L)
    return fold_directions(separated.permute(2, 0, 1, 3, 4), height, width, directions).movedim(-3, -1)


def _check(
    u: torch.Tensor,
    params: torch.Tensor,
    dt_weight: torch.Tensor,
    dt_bias: torch.Tensor,
    A: torch.Tensor,
    D: torch.Tensor,
    directions: Sequence[int],
) -> None:
    walks = len(directions)
    if not walks or not set(directions) <= set(DIRECTIONS):
        raise ValueError(f"directions are some of {DIRECTIONS}, not {tuple(directions)}")
    if u.dim() != 5 or u.shape[0] not in (1, 2):
        raise ValueError(f"u is (M,b,H,W,d) with M = 1 or 2 modalities, not {tuple(u.shape)}")
    channels = u.shape[-1]
    if dt_weight.dim() != 3 or A.dim() != 3:
        raise ValueError(f"dt_weight is (K,d,r) and A (K,d,N), not {tuple(dt_weight.shape)} and {tuple(A.shape)}")
    rank, states = dt_weight.shape[2], A.shape[2]
    expected = {
        "params": (params, (*u.shape[:4], walks, rank + 2 * states)),
        "dt_weight": (dt_weight, (walks, channels, rank)),
        "dt_bias": (dt_bias, (walks, channels)),
        "A": (A, (walks, channels, states)),
        "D": (D, (walks, channels)),
    }
    for name, (tensor, shape) in expected.items():
        if tuple(tensor.shape) != shape:
            raise ValueError(f"{name} is {tuple(tensor.shape)}, but u {tuple(u.shape)} asks for {shape}")
