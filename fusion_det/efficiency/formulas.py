"""Operations of torch's functions from the shapes of what goes in and comes out; a multiply-add is two."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F

Kind = Literal["convolutions", "products", "attention"]
KINDS: tuple[Kind, ...] = get_args(Kind)

Arguments = tuple[Any, ...]
Named = Mapping[str, Any]
Formula = Callable[[Any, Arguments, Named], int]
"""(result, positional arguments, named arguments) → operations."""


def argument(args: Arguments, named: Named, position: int, name: str) -> Any:
    """An argument that may have been given either way."""
    return args[position] if len(args) > position else named[name]


def convolution(result: torch.Tensor, args: Arguments, named: Named) -> int:
    """Every output is a sum over its group's inputs and the kernel; the weight is (out, in/groups, …)."""
    weight: torch.Tensor = argument(args, named, 1, "weight")
    return 2 * result.numel() * weight[0].numel()


def transposed_convolution(result: torch.Tensor, args: Arguments, named: Named) -> int:
    """Every input is spread over its group's outputs and the kernel; the weight is (in, out/groups, …)."""
    source, weight = argument(args, named, 0, "input"), argument(args, named, 1, "weight")
    operations: int = 2 * source.numel() * weight[0].numel()
    return operations


def product(first: int, name: str) -> Formula:
    """For products of matrices whose left factor is argument ``first``: every output is a sum over its last axis."""

    def formula(result: torch.Tensor, args: Arguments, named: Named) -> int:
        operations: int = 2 * result.numel() * argument(args, named, first, name).shape[-1]
        return operations

    return formula


def tensordot(result: torch.Tensor, args: Arguments, named: Named) -> int:
    """The summed axes are in both factors and not in the result."""
    a, b = argument(args, named, 0, "a"), argument(args, named, 1, "b")
    return 2 * math.isqrt(a.numel() * b.numel() * result.numel())


def attention(result: torch.Tensor, args: Arguments, named: Named) -> int:
    """Queries times keys (…,L,S), these times values; a causal mask saves nothing. query (…,L,E), value (…,S,E')."""
    query, value = argument(args, named, 0, "query"), argument(args, named, 2, "value")
    operations: int = 2 * query.shape[:-1].numel() * value.shape[-2] * (query.shape[-1] + value.shape[-1])
    return operations


def multi_head_attention(result: Any, args: Arguments, named: Named) -> int:
    """``torch.nn.MultiheadAttention``: four projections and the attention. query (L,[N,]E), key and value (S,[N,]·)."""
    query, key, value = (argument(args, named, i, name) for i, name in enumerate(("query", "key", "value")))
    width = query.shape[-1]
    projections = 2 * width * (2 * query.numel() + key.numel() + value.numel())
    operations: int = projections + 4 * query.numel() * key.shape[0]
    return operations


def einsum(result: torch.Tensor, args: Arguments, named: Named) -> int:
    """Products of two factors at a time, from left to right; one that sums over nothing is element-wise and free."""
    equation, operands = args[0], args[1:]
    if len(operands) == 1 and isinstance(operands[0], list | tuple):
        operands = tuple(operands[0])
    terms, output = _labels(equation, [operand.dim() for operand in operands])
    sizes: dict[str, int] = {}
    for term, operand in zip(terms, operands, strict=True):
        for label, size in zip(term, operand.shape, strict=True):
            sizes[label] = max(size, sizes.get(label, 1))
    operations, left = 0, set(terms[0])
    for i, term in enumerate(terms[1:], start=1):
        right, needed = set(term), set(output).union(*terms[i + 1 :])
        left, right = left & (right | needed), right & (left | needed)  # what only one of them has is summed before
        if (left & right) - needed:
            operations += 2 * math.prod(sizes[label] for label in left | right)
        left = (left | right) & needed
    return operations


def _labels(equation: str, dimensions: list[int]) -> tuple[list[list[str]], list[str]]:
    """The labels of each factor's axes and of the result's; those an ellipsis stands for are numbered from the right."""
    inputs, arrow, result = equation.replace(" ", "").partition("->")

    def split(term: str, dimension: int) -> list[str]:
        before, dots, after = term.partition("...")
        hidden = dimension - len(before) - len(after) if dots else 0
        return [*before, *(str(i) for i in range(hidden, 0, -1)), *after]

    terms = [split(term, dimension) for term, dimension in zip(inputs.split(","), dimensions, strict=True)]
    widest = max((sum(label.isdigit() for label in term) for term in terms), default=0)
    if arrow:
        return terms, split(result, len(result.replace("...", "")) + widest)
    letters = [label for term in terms for label in term if not label.isdigit()]
    return terms, [str(i) for i in range(widest, 0, -1)] + sorted(x for x in letters if letters.count(x) == 1)


_T = torch.Tensor
_WATCHED: tuple[tuple[Kind, Formula, tuple[Callable[..., Any], ...]], ...] = (
    ("convolutions", convolution, (torch.conv1d, torch.conv2d, torch.conv3d)),
    (
        "convolutions",
        transposed_convolution,
        (torch.conv_transpose1d, torch.conv_transpose2d, torch.conv_transpose3d),
    ),
    ("products", product(0, "input"), (F.linear, torch.matmul, torch.mm, torch.bmm, torch.mv, torch.dot)),
    ("products", product(0, "self"), (_T.matmul, _T.__matmul__, _T.mm, _T.bmm, _T.mv, _T.dot)),
    ("products", product(1, "mat1"), (torch.addmm, _T.addmm)),
    ("products", product(1, "batch1"), (torch.baddbmm, _T.baddbmm)),
    ("products", einsum, (torch.einsum,)),
    ("products", tensordot, (torch.tensordot,)),
    ("attention", attention, (F.scaled_dot_product_attention,)),
    ("attention", multi_head_attention, (F.multi_head_attention_forward,)),
)

FORMULAS: dict[Callable[..., Any], tuple[Kind, Formula]] = {
    function: (kind, formula) for kind, formula, functions in _WATCHED for function in functions
}
"""Function of torch → what kind of work it is, and how much."""
