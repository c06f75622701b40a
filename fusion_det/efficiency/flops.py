"""Floating-point operations of a computation, counted twice and whichever backend computes it.

What counts, a multiply-add being two operations:

- convolutions, transposed ones too, padding counted like pixels; products (linear layers, matmul, einsum, …) and attention
  (both of its products). Biases, norms, activations, resizing, FFTs and element-wise arithmetic do not count, as nowhere in
  the field.
- selective scans, by the rule in use for Mamba's relatives: 9 operations a step, channel and state (9·L·D·N), which
  takes them for something heavier than they are. The operations of the recurrence itself are counted beside it:
  7·N a step and channel for the states, and a few for Δ (see :func:`scan_operations`), an exponential being one.

Our counter watches the functions of torch that the network's code calls, and the scans, which look like one of them. The
second, ``torch.utils.flop_counter``, watches what arrives at torch's kernels, by formulas of its own; it knows no scan.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

from fusion_det.efficiency.formulas import FORMULAS, KINDS
from fusion_det.fusion.ssm import scan_2d, selective_scan
from fusion_det.fusion.ssm.scan_2d import compose_scan_2d

SCAN_RULE = 9
"""Operations a step, channel and state."""


@dataclass(frozen=True)
class FlopCount:
    """Operations of one call; see the module for what counts.

    convolutions, products, attention: by our counter. (Where torch computes a product as a convolution, it is one.)
    by_torch: the same three together by torch's counter.
    scans: selective scans by the rule of 9·L·D·N. scans_exact: what their recurrence asks for.
    """

    convolutions: int
    products: int
    attention: int
    by_torch: int
    scans: int
    scans_exact: int

    @property
    def layers(self) -> int:
        """All but the scans: what both counters count."""
        return self.convolutions + self.products + self.attention

    def times(self, number: int) -> FlopCount:
        """Of as many such calls."""
        return FlopCount(**{kind: number * operations for kind, operations in vars(self).items()})

    @property
    def total(self) -> int:
        """What the field reports: layers, and scans by the rule."""
        return self.layers + self.scans


def count_flops(compute: Callable[[], object]) -> FlopCount:
    """Count the operations of ``compute()``, which is called once, without recording gradients.

    Nothing is scanned meanwhile: a scan gives zeros of the right shape. On tensors of the "meta" device nothing at all is
    computed. (On a CPU torch's counter does not see fused attention.)
    """
    ours = _Counter()
    with torch.no_grad(), FlopCounterMode(display=False) as theirs, ours:
        compute()
    counted = {kind: ours.operations[kind] for kind in (*KINDS, "scans", "scans_exact")}
    return FlopCount(**counted, by_torch=theirs.get_total_flops())


def scan_operations(
    length: int, channels: int, states: int, *, skip: bool, bias: bool, softplus: bool, gate: bool
) -> int:
    """Operations of the recurrence over ``length`` steps, as :func:`fusion_det.fusion.ssm.selective_scan` states it.

    A step of a channel: for each state Δ·A, exp, (Δ·u)·B, two for h, two for the sum over states; one addition fewer in
    all, as a sum of N has N - 1; Δ·u; D·u and adding it; adding the bias; softplus as exp, add, log; the gate as
    exp, add, divide, multiply.
    """
    a_step = 7 * states - 1 + 1 + 2 * skip + bias + 3 * softplus + 4 * gate
    return length * channels * a_step


class _Counter(TorchFunctionMode):
    """Adds up ``operations`` by kind. While it looks at one function, it does not see those that this one calls."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: Counter[str] = Counter()

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        named = kwargs or {}
        if func is scan_2d:
            # As one sequence on any backend, so that the projection to Δ is seen, which the CPU's kernel does on the way.
            with self:
                return compose_scan_2d(*args, **named)
        if func is selective_scan:
            return self._skip_scan(*args, **named)
        result = func(*args, **named)
        if (known := FORMULAS.get(func)) is not None:
            kind, formula = known
            self.operations[kind] += formula(result, args, named)
        return result

    def _skip_scan(
        self,
        u: torch.Tensor,
        delta: torch.Tensor,
        A: torch.Tensor,
        B: torch.Tensor,
        C: torch.Tensor,
        D: torch.Tensor | None = None,
        delta_bias: torch.Tensor | None = None,
        delta_softplus: bool = False,
        *,
        z: torch.Tensor | None = None,
        return_last_state: bool = False,
        backend: str | None = None,
    ) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        batch, channels, length = u.shape
        states = A.shape[1]
        self.operations["scans"] += SCAN_RULE * batch * length * channels * states
        self.operations["scans_exact"] += scan_operations(
            batch * length,
            channels,
            states,
            skip=D is not None,
            bias=delta_bias is not None,
            softplus=delta_softplus,
            gate=z is not None,
        )
        y = u.new_zeros(u.shape)
        return (y, A.new_zeros(batch, channels, states)) if return_last_state else y
