"""Sixteen float32 lanes as a value in Numba-compiled code.

Numba leaves vectorising to LLVM's guesses; a scan must not be guessed at: its state has to stay in registers, and its
exponential has to be arithmetic. So a vector is a type here, an LLVM ``<16 x float>``, which LLVM cuts into whatever
registers the machine has (one with AVX-512, two with AVX2, four with NEON or SSE). Arithmetic may contract a·b + c into one
rounding; nothing else is relaxed, so NaN and infinity behave as in C.

Arrays given to :func:`load` and its like are one-dimensional, contiguous float32; indices count elements and are not
checked.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from llvmlite import binding, ir
from numba.core import cgutils, config, extending, types
from numba.core.extending import lower_builtin, models, register_model
from numba.core.typing.templates import ConcreteTemplate, infer_global, signature

LANES = 16

_FLOAT, _INT = ir.FloatType(), ir.IntType(32)
_VECTOR, _INTS = ir.VectorType(_FLOAT, LANES), ir.VectorType(_INT, LANES)
_MASK = ir.VectorType(ir.IntType(1), LANES)
_CONTRACT = ("contract",)
_ROUNDER = 1.5 * 2**23  # adding it rounds to an integer
_POWERS = -126.0, 127.4

intrinsic: Any = extending.intrinsic
"""Numba's own annotations have the decorated function take its typing context from the caller."""


def has_avx512() -> bool:
    """Whether Numba compiles for a processor with AVX-512 (this one, unless its NUMBA_CPU_… variables name another)."""
    if config.CPU_NAME is not None or config.CPU_FEATURES is not None:
        return "+avx512f" in (config.CPU_FEATURES or "").split(",")
    return bool(binding.get_host_cpu_features().get("avx512f", False))


class Float32x16(types.Type):
    """Numba's type of a vector."""

    def __init__(self) -> None:
        super().__init__(name="float32x16")


float32x16 = Float32x16()


@register_model(Float32x16)
class _Model(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _VECTOR)


def _arithmetic(symbol: Callable[..., Any], instruction: str) -> None:
    class _Template(ConcreteTemplate):
        cases = [signature(float32x16, float32x16, float32x16)]  # noqa: RUF012 - Numba's own convention

    infer_global(symbol)(_Template)

    @lower_builtin(symbol, float32x16, float32x16)
    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return getattr(builder, instruction)(*args, flags=_CONTRACT)


for _symbol, _instruction in (
    (operator.add, "fadd"),
    (operator.sub, "fsub"),
    (operator.mul, "fmul"),
    (operator.truediv, "fdiv"),
):
    _arithmetic(_symbol, _instruction)


def _function(builder: Any, name: str, result: Any, *arguments: Any) -> Any:
    return cgutils.get_or_insert_function(builder.module, ir.FunctionType(result, arguments), name)


def _address(context: Any, builder: Any, kind: Any, array: Any, index: Any) -> Any:
    data = context.make_array(kind)(context, builder, array).data
    return builder.gep(data, [index])


def _splat(builder: Any, value: Any, kind: Any = _VECTOR) -> Any:
    undefined = ir.Constant(kind, ir.Undefined)
    first = builder.insert_element(undefined, value, _INT(0))
    return builder.shuffle_vector(first, undefined, ir.Constant(_INTS, [0] * LANES))


def _lanes_below(builder: Any, count: Any) -> Any:
    """Mask of the first ``count`` (an i64) lanes."""
    lanes = ir.Constant(_INTS, list(range(LANES)))
    return builder.icmp_signed("<", lanes, _splat(builder, builder.trunc(count, _INT), _INTS))


def _masked_load(builder: Any, address: Any, mask: Any) -> Any:
    pointer = _VECTOR.as_pointer()
    load = _function(builder, "llvm.masked.load.v16f32.p0", _VECTOR, pointer, _INT, _MASK, _VECTOR)
    return builder.call(load, [builder.bitcast(address, pointer), _INT(4), mask, ir.Constant(_VECTOR, None)])


def _masked_store(builder: Any, value: Any, address: Any, mask: Any) -> None:
    pointer = _VECTOR.as_pointer()
    store = _function(builder, "llvm.masked.store.v16f32.p0", ir.VoidType(), _VECTOR, pointer, _INT, _MASK)
    builder.call(store, [value, builder.bitcast(address, pointer), _INT(4), mask])


@intrinsic
def load(typing: Any, array: Any, index: Any) -> Any:
    """The sixteen elements from ``array[index]``."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        address = _address(context, builder, sig.args[0], *args)
        value = builder.load(builder.bitcast(address, _VECTOR.as_pointer()))
        value.align = 4
        return value

    return float32x16(array, types.intp), generate


@intrinsic
def store(typing: Any, array: Any, index: Any, value: Any) -> Any:
    """Put ``value`` at ``array[index]`` and the fifteen elements after it."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        address = _address(context, builder, sig.args[0], args[0], args[1])
        builder.store(args[2], builder.bitcast(address, _VECTOR.as_pointer()), align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, float32x16), generate


@intrinsic
def load_some(typing: Any, array: Any, index: Any, count: Any) -> Any:
    """The first ``count`` of the sixteen elements from ``array[index]``; zero in the other lanes, which are not read."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        address = _address(context, builder, sig.args[0], args[0], args[1])
        return _masked_load(builder, address, _lanes_below(builder, args[2]))

    return float32x16(array, types.intp, types.intp), generate


@intrinsic
def store_some(typing: Any, array: Any, index: Any, value: Any, count: Any) -> Any:
    """Put the first ``count`` lanes of ``value`` at ``array[index]``; what lies beyond is not touched."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        address = _address(context, builder, sig.args[0], args[0], args[1])
        _masked_store(builder, args[2], address, _lanes_below(builder, args[3]))
        return context.get_dummy_value()

    return types.void(array, types.intp, float32x16, types.intp), generate


@intrinsic
def prefetch(typing: Any, array: Any, index: Any) -> Any:
    """Ask for the cache line of ``array[index]`` to be brought near (second-level cache); it may lie outside the array."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        pointer = ir.IntType(8).as_pointer()
        fetch = _function(builder, "llvm.prefetch.p0", ir.VoidType(), pointer, _INT, _INT, _INT)
        address = builder.bitcast(_address(context, builder, sig.args[0], *args), pointer)
        builder.call(fetch, [address, _INT(0), _INT(2), _INT(1)])
        return context.get_dummy_value()

    return types.void(array, types.intp), generate


@intrinsic
def load_same(typing: Any, array: Any, index: Any) -> Any:
    """``array[index]`` in all lanes."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return _splat(builder, builder.load(_address(context, builder, sig.args[0], *args)))

    return float32x16(array, types.intp), generate


@intrinsic
def same(typing: Any, value: Any) -> Any:
    """One float32 in all lanes."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return _splat(builder, args[0])

    return float32x16(types.float32), generate


@intrinsic
def at_least(typing: Any, value: Any, bound: Any) -> Any:
    """The greater of the two, lane by lane; NaN where ``value`` is NaN."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        value, bound = args
        return builder.select(builder.fcmp_ordered("<", value, bound), bound, value)

    return float32x16(float32x16, float32x16), generate


@intrinsic
def where_greater(typing: Any, a: Any, b: Any, then: Any, otherwise: Any) -> Any:
    """``then`` where a > b, else ``otherwise``."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        a, b, then, otherwise = args
        return builder.select(builder.fcmp_ordered(">", a, b), then, otherwise)

    return float32x16(float32x16, float32x16, float32x16, float32x16), generate


@intrinsic
def split_power(typing: Any, value: Any) -> Any:
    """(n, value − n): the nearest integer, as :func:`times_power` wants it, and the rest, within ±½."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        (value,) = args
        if has_avx512():
            integer = power = builder.call(_function(builder, "llvm.roundeven.v16f32", _VECTOR, _VECTOR), args)
        else:
            low, high = (ir.Constant(_VECTOR, [bound] * LANES) for bound in _POWERS)
            value = builder.select(builder.fcmp_ordered("<", value, low), low, value)
            value = builder.select(builder.fcmp_ordered(">", value, high), high, value)
            rounder = ir.Constant(_VECTOR, [_ROUNDER] * LANES)
            power = builder.fadd(value, rounder)  # n stands in its lowest bits
            integer = builder.fsub(power, rounder)
        return context.make_tuple(builder, sig.return_type, (power, builder.fsub(value, integer)))

    return types.containers.UniTuple(float32x16, 2)(float32x16), generate


@intrinsic
def times_power(typing: Any, value: Any, power: Any) -> Any:
    """value·2ⁿ for 1/√2 ≤ value ≤ √2 and an n from :func:`split_power`.

    With AVX-512, which has an instruction for it, over- and underflow are as in exact arithmetic; elsewhere n stays between
    −126 and 127, so that results stay between 1e-38 and 2e38.
    """

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        value, power = args
        if has_avx512():
            everything, as_set = ir.IntType(16)(-1), _INT(4)
            kinds = (_VECTOR, _VECTOR, _VECTOR, ir.IntType(16), _INT)
            scale = _function(builder, "llvm.x86.avx512.mask.scalef.ps.512", _VECTOR, *kinds)
            return builder.call(scale, [value, power, value, everything, as_set])
        bits = builder.shl(builder.bitcast(power, _INTS), ir.Constant(_INTS, [23] * LANES))
        return builder.bitcast(builder.add(builder.bitcast(value, _INTS), bits), _VECTOR)

    return float32x16(float32x16, float32x16), generate


@intrinsic
def sum_lanes(typing: Any, value: Any) -> Any:
    """Sum of the sixteen lanes, a float32, added up pairwise."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        add_up = _function(builder, "llvm.vector.reduce.fadd.v16f32", _FLOAT, _FLOAT, _VECTOR)
        return builder.call(add_up, [_FLOAT(-0.0), args[0]], fastmath=("reassoc",))

    return types.float32(float32x16), generate


def _transposed(builder: Any, rows: list[Any]) -> list[Any]:
    """Transpose 16 × 16 by interleaving row i with row i + 8, four times over."""
    halves = [[half * 8 + i // 2 + (i % 2) * LANES for i in range(LANES)] for half in (0, 1)]
    indices = [ir.Constant(_INTS, half) for half in halves]
    for _ in range(4):
        rows = [builder.shuffle_vector(rows[i], rows[i + 8], index) for i in range(8) for index in indices]
    return rows


@intrinsic
def load_tile(typing: Any, source: Any, index: Any, stride: Any, rows: Any, columns: Any, out: Any, place: Any) -> Any:
    """Transpose a tile of up to 16 × 16: ``out[place + 16·j + i] = source[index + stride·i + j]`` for i < rows, j < columns.

    Sixteen lanes are written for each j < 16; those without a source are zero.
    """

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        source, index, stride, count, columns, out, place = args
        start = _address(context, builder, sig.args[0], source, index)
        inside = _lanes_below(builder, columns)
        nothing = ir.Constant(_MASK, None)
        lines = []
        for i in range(LANES):
            exists = builder.icmp_signed("<", ir.IntType(64)(i), count)
            address = builder.gep(start, [builder.mul(stride, ir.IntType(64)(i))])
            lines.append(_masked_load(builder, address, builder.select(exists, inside, nothing)))
        target = _address(context, builder, sig.args[5], out, place)
        for j, line in enumerate(_transposed(builder, lines)):
            address = builder.gep(target, [ir.IntType(64)(j * LANES)])
            builder.store(line, builder.bitcast(address, _VECTOR.as_pointer()), align=4)
        return context.get_dummy_value()

    intp = types.intp
    return types.void(source, intp, intp, intp, intp, out, intp), generate


@intrinsic
def store_tile(typing: Any, source: Any, place: Any, out: Any, index: Any, stride: Any, rows: Any, columns: Any) -> Any:
    """Undo :func:`load_tile`: ``out[index + stride·i + j] = source[place + 16·j + i]`` for i < rows, j < columns."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        source, place, out, index, stride, count, columns = args
        start = _address(context, builder, sig.args[0], source, place)
        lines = []
        for j in range(LANES):
            address = builder.gep(start, [ir.IntType(64)(j * LANES)])
            line = builder.load(builder.bitcast(address, _VECTOR.as_pointer()))
            line.align = 4
            lines.append(line)
        inside = _lanes_below(builder, columns)
        nothing = ir.Constant(_MASK, None)
        target = _address(context, builder, sig.args[2], out, index)
        for i, line in enumerate(_transposed(builder, lines)):
            exists = builder.icmp_signed("<", ir.IntType(64)(i), count)
            address = builder.gep(target, [builder.mul(stride, ir.IntType(64)(i))])
            _masked_store(builder, line, address, builder.select(exists, inside, nothing))
        return context.get_dummy_value()

    intp = types.intp
    return types.void(source, intp, out, intp, intp, intp, intp), generate
