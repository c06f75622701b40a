"""Published checkpoints of TC-MoA under today's names. They hold their state dict under "model"."""

from __future__ import annotations

from collections.abc import Mapping

import torch

ADAPTERS = "blocks_SSF"
"""Part of the names of adapters in older files."""
RENAMED_ADAPTERS = (
    ("blocks_SSF_rgb", "blocks_MoA"),
    ("mlp", "MoA"),
    ("SE_en_linear", "dimReduction"),
    ("SSF_beta", "modal_shifts"),
)
RENAMED = ("en_projAdapter", "FusionLayer"), ("de_projAdapter", "de_FusionLayer")


def todays_names(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A state dict whose older names are replaced. Modal shifts, which only such files hold, are left out: today's program
    ignores them and draws its own.
    """
    named = {todays_name(name): value for name, value in state.items()}
    return {name: value for name, value in named.items() if "modal_shifts" not in name}


def todays_name(name: str) -> str:
    """One name."""
    for old, new in (*(RENAMED_ADAPTERS if ADAPTERS in name else ()), *RENAMED):
        name = name.replace(old, new)
    return name
