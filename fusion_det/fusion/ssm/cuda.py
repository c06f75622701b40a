"""mamba-ssm's CUDA kernel as a backend of the selective scan, where its extension is installed."""

from __future__ import annotations

import torch


def why_not(tensor: torch.Tensor) -> str | None:
    """None if mamba-ssm's kernel can take this tensor, else the reason and the cure."""
    return "mamba-ssm is not installed: MAMBA_KEEP_CUDA_BUILD=TRUE pip install mamba-ssm --no-build-isolation"
