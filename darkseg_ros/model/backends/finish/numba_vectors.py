"""Vectors of numbers as values of Numba's functions: `load`, arithmetic by operators, `store`.

LLVM does not find vectors in short loops, since it cannot tell that the arrays do not overlap; and what a loop
accumulates over the classes it would keep in memory. Said like this, each operation becomes the instruction of the
machine, or several where its registers hold fewer numbers. Nothing is fused or reordered.

Functions named ``…er`` return the function that Numba calls, made for a fixed number of lanes.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.datamodel import models
from numba.core.typing import signature
from numba.core.typing.templates import AbstractTemplate, infer_global
from numba.extending import intrinsic, lower_builtin, register_model

_NUMBER_BYTES = 4


class Vector(types.Type):
    """The Numba type of `lanes` numbers of the type `scalar`, float32 or uint32."""

    def __init__(self, scalar: Any, lanes: int) -> None:
        self.scalar, self.lanes = scalar, lanes
        super().__init__(name=f"Vector({scalar}, {lanes})")


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, models_of_types: Any, vector: Vector) -> None:
        scalar = models_of_types.lookup(vector.scalar).get_value_type()
        super().__init__(models_of_types, vector, ir.VectorType(scalar, vector.lanes))


def _shuffle(builder: Any, left: Any, right: Any, lanes: Iterable[int]) -> Any:
    """The named lanes of two vectors, those of the second counted on from the first's."""
    picked = list(lanes)
    return builder.shuffle_vector(left, right, ir.Constant(ir.VectorType(ir.IntType(32), len(picked)), picked))


def _pick(builder: Any, vector: Any, lanes: Iterable[int]) -> Any:
    return _shuffle(builder, vector, ir.Constant(vector.type, ir.Undefined), lanes)


def _splat(builder: Any, scalar: Any, lanes: int) -> Any:
    alone = ir.Constant(ir.VectorType(scalar.type, 1), ir.Undefined)
    return _pick(builder, builder.insert_element(alone, scalar, ir.Constant(ir.IntType(32), 0)), [0] * lanes)


def _splat_integer(number: int, lanes: int) -> Any:
    return ir.Constant(ir.VectorType(ir.IntType(32), lanes), [number] * lanes)


def _define_operator(symbol: Any, instruction: str) -> None:
    """Teach Numba an operator on two vectors of float32, or on a vector and a scalar."""

    @infer_global(symbol)
    class _Typing(AbstractTemplate):
        def generic(self, args: Any, kws: Any) -> Any:
            vectors = {each for each in args if isinstance(each, Vector)}
            if len(args) != 2 or len(vectors) != 1:
                return None
            (vector,) = vectors
            return signature(vector, *(each if each == vector else vector.scalar for each in args))

    def code(context: Any, builder: Any, typed: Any, values: Any) -> Any:
        vector = typed.return_type
        left, right = (
            value if each == vector else _splat(builder, value, vector.lanes)
            for each, value in zip(typed.args, values, strict=True)
        )
        return getattr(builder, instruction)(left, right)

    for operands in ((Vector, Vector), (Vector, types.Number), (types.Number, Vector)):
        lower_builtin(symbol, *operands)(code)


_define_operator(operator.add, "fadd")
_define_operator(operator.iadd, "fadd")
_define_operator(operator.sub, "fsub")
_define_operator(operator.mul, "fmul")
_define_operator(operator.truediv, "fdiv")


def _pointer(context: Any, builder: Any, array_type: Any, array: Any, at: Any, vector: Any) -> Any:
    data = cgutils.create_struct_proxy(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [at]), vector.as_pointer())


def loader(lanes: int) -> Any:
    """`load(array, at)`: a vector from a contiguous array, from index `at` on. Nothing checks the bounds."""

    @intrinsic
    def load(typing_context: Any, array: Any, at: Any) -> Any:
        def code(context: Any, builder: Any, typed: Any, values: Any) -> Any:
            vector = context.get_value_type(typed.return_type)
            array_value, at_value = values
            pointer = _pointer(context, builder, typed.args[0], array_value, at_value, vector)
            return builder.load(pointer, align=_NUMBER_BYTES)

        return Vector(array.dtype, lanes)(array, types.intp), code

    return load


@intrinsic
def store(typing_context: Any, vector: Any, array: Any, at: Any) -> Any:
    """Puts a vector into a contiguous array, from index `at` on. Nothing checks the bounds."""

    def code(context: Any, builder: Any, typed: Any, values: Any) -> Any:
        numbers, array_value, at_value = values
        pointer = _pointer(context, builder, typed.args[1], array_value, at_value, numbers.type)
        builder.store(numbers, pointer, align=_NUMBER_BYTES)
        return context.get_dummy_value()

    return types.void(vector, array, types.intp), code


def transposer(lanes: int) -> Any:
    """`transpose(source, at, source_step, target, to, target_step)`: a tile of as many rows as columns.

    target[to + i · target_step + j] = source[at + j · source_step + i] for all i, j < lanes, a power of two.
    """

    @intrinsic
    def transpose(
        typing_context: Any, source: Any, at: Any, source_step: Any, target: Any, to: Any, target_step: Any
    ) -> Any:
        def code(context: Any, builder: Any, typed: Any, values: Any) -> Any:
            vector = ir.VectorType(context.get_value_type(source.dtype), lanes)

            def pointers(array_type: Any, array: Any, start: Any, step: Any) -> list[Any]:
                offsets = (builder.mul(step, ir.Constant(step.type, index)) for index in range(lanes))
                return [
                    _pointer(context, builder, array_type, array, builder.add(start, offset), vector)
                    for offset in offsets
                ]

            rows = [builder.load(each, align=_NUMBER_BYTES) for each in pointers(source, *values[:3])]
            for row, place in zip(_transposed(builder, rows), pointers(target, *values[3:]), strict=True):
                builder.store(row, place, align=_NUMBER_BYTES)
            return context.get_dummy_value()

        return types.void(source, types.intp, types.intp, target, types.intp, types.intp), code

    return transpose


def _transposed(builder: Any, rows: list[Any]) -> list[Any]:
    """Swaps the two off-diagonal quarters of all tiles of 2 by 2, then 4 by 4, …"""
    rows, lanes, half = list(rows), len(rows), 1
    while half < lanes:
        for i in range(lanes):
            if not i & half:
                upper, lower = rows[i], rows[i + half]
                # column j of a new row: the upper row's in the tile's left half, the lower row's in its right half
                left, right = (
                    [(j & ~half) + shift + (lanes if j & half else 0) for j in range(lanes)] for shift in (0, half)
                )
                rows[i], rows[i + half] = _shuffle(builder, upper, lower, left), _shuffle(builder, upper, lower, right)
        half *= 2
    return rows


@intrinsic
def filled(typing_context: Any, like: Any, number: Any) -> Any:
    """A vector of as many lanes as `like`, each of them `number`."""

    def code(context: Any, builder: Any, typed: Any, values: Any) -> Any:
        return _splat(builder, values[1], like.lanes)

    return Vector(number, like.lanes)(like, number), code


def repeater(times: int) -> Any:
    """`repeat(vector)`: so many copies of it, one behind the other."""

    @intrinsic
    def repeat(typing_context: Any, vector: Any) -> Any:
        def code(context: Any, builder: Any, typed: Any, values: Any) -> Any:
            return _pick(builder, values[0], [*range(vector.lanes)] * times)

        return Vector(vector.scalar, vector.lanes * times)(vector), code

    return repeat


@intrinsic
def where_greater(typing_context: Any, left: Any, right: Any, yes: Any, no: Any) -> Any:
    """`yes` in the lanes in which left > right, else `no`."""

    def code(context: Any, builder: Any, typed: Any, values: Any) -> Any:
        return builder.select(builder.fcmp_ordered(">", *values[:2]), *values[2:])

    return yes(left, right, yes, no), code


@intrinsic
def anywhere_at_least(typing_context: Any, left: Any, right: Any) -> Any:
    """1 if left ≥ right in some lane, else 0."""

    def code(context: Any, builder: Any, typed: Any, values: Any) -> Any:
        lanes = builder.bitcast(builder.fcmp_ordered(">=", *values), ir.IntType(left.lanes))
        found = builder.icmp_unsigned("!=", lanes, ir.Constant(lanes.type, 0))
        return builder.zext(found, context.get_value_type(types.intp))

    return types.intp(left, right), code


@intrinsic
def power_of_two(typing_context: Any, shifted: Any, factor: Any) -> Any:
    """2^n · factor in float32, where the lowest bits of `shifted` hold n as a two's complement.

    Adds n to the factor's exponent, so that the result must be a normal number or 0.
    """

    def code(context: Any, builder: Any, typed: Any, values: Any) -> Any:
        words = ir.VectorType(ir.IntType(32), factor.lanes)
        n, bits = (builder.bitcast(value, words) for value in values)
        exponent = builder.shl(n, _splat_integer(23, factor.lanes))
        return builder.bitcast(builder.add(bits, exponent), values[1].type)

    return factor(shifted, factor), code


@intrinsic
def bytes_interleaved(typing_context: Any, vector: Any) -> Any:
    """(4 · n,) numbers to (n,) uint32: byte p of number i is the lowest byte of number p · n + i."""
    lanes = vector.lanes // _NUMBER_BYTES

    def code(context: Any, builder: Any, typed: Any, values: Any) -> Any:
        words = builder.bitcast(values[0], ir.VectorType(ir.IntType(32), vector.lanes))
        packed = _splat_integer(0, lanes)
        for phase in range(_NUMBER_BYTES):
            part = _pick(builder, words, range(phase * lanes, (phase + 1) * lanes))
            part = builder.and_(part, _splat_integer(255, lanes))
            packed = builder.or_(packed, builder.shl(part, _splat_integer(8 * phase, lanes)))
        return packed

    return Vector(types.uint32, lanes)(vector), code
