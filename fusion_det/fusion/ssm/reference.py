"""The selective scan in plain PyTorch: any device, any floating dtype, slow. The oracle that the fast backends are tested by."""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F


def selective_scan_reference(
    u: torch.Tensor,
    delta: torch.Tensor,
    A: torch.Tensor,
    B: torch.Tensor,
    C: torch.Tensor,
    D: torch.Tensor | None,
    delta_bias: torch.Tensor | None,
    delta_softplus: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Scan step by step; shapes as in :func:`fusion_det.fusion.ssm.selective_scan`.

    exp(Δ·A) and Δ·B·u are made for all steps at once, (b,d,L,N) each: the memory and the time of mamba-ssm's own reference
    (A. Gu, T. Dao, "Mamba", arXiv:2312.00752, Algorithm 2). Computed in the widest dtype of the inputs, float32 at least,
    inside an autocast too: a state that adds up thousands of steps in bfloat16 would be no reference. On the "meta" device,
    where networks are only measured, nothing is scanned.

    Returns:
        y (b,d,L) of the dtype of ``u``, and the last state (b,d,N) of the dtype computed in.
    """
    given = [x for x in (u, delta, A, B, C, D, delta_bias) if x is not None]
    dtype = functools.reduce(torch.promote_types, (x.dtype for x in given), torch.float32)
    if u.is_meta:
        return torch.empty_like(u), u.new_empty(*u.shape[:2], A.shape[1], dtype=dtype)
    with torch.autocast(u.device.type, enabled=False):
        y, state = _scan(
            u.to(dtype),
            delta.to(dtype),
            A.to(dtype),
            B.to(dtype),
            C.to(dtype),
            None if D is None else D.to(dtype),
            None if delta_bias is None else delta_bias.to(dtype),
            delta_softplus,
        )
    return y.to(u.dtype), state


def _scan(
    u: torch.Tensor,
    delta: torch.Tensor,
    A: torch.Tensor,
    B: torch.Tensor,
    C: torch.Tensor,
    D: torch.Tensor | None,
    delta_bias: torch.Tensor | None,
    delta_softplus: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    batch, channels, _ = u.shape
    groups = B.shape[1]
    if delta_bias is not None:
        delta = delta + delta_bias[:, None]
    if delta_softplus:
        delta = F.softplus(delta)
    B, C = (x.repeat_interleave(channels // groups, dim=1) for x in (B, C))  # (b,d,N,L)
    decay = torch.exp(torch.einsum("bdl,dn->bdln", delta, A))
    drive = torch.einsum("bdl,bdnl,bdl->bdln", delta, B, u)
    state = u.new_zeros(batch, channels, A.shape[1])
    outputs = []
    # Taken apart once: indexing step by step would give each step a gradient as large as the whole.
    for decay_t, drive_t, C_t in zip(decay.unbind(2), drive.unbind(2), C.unbind(3), strict=True):
        state = decay_t * state + drive_t
        outputs.append(torch.einsum("bdn,bdn->bd", state, C_t))
    y = torch.stack(outputs, dim=-1)
    return (y if D is None else y + D[:, None] * u), state
