"""The selective scan as a Triton kernel, for GPUs without mamba-ssm."""

from __future__ import annotations

import torch


def why_not(tensor: torch.Tensor) -> str | None:
    """None if the Triton kernel can take this tensor, else the reason and the cure."""
    return "Triton needs a CUDA device"
