"""QuantizeLinear, DequantizeLinear and Cast.

Axes pass through, scales and zero points go with theirs.

At removed positions an integer counts as zero if it stands for zero, that is if it is the zero
point.
"""

from __future__ import annotations

from dataclasses import replace

from autoprune.ops.elementwise import elementwise_axes, narrows, same_numbers
from autoprune.ops.rule import Operator, first_state, register
from autoprune.ops.views import Shape, State, Typing, Zeroing


def _axes(call: Typing) -> list[Shape]:
    shape = call.axes_of("input")
    for name in ("scale", "zero_point"):
        value = call.value(name)
        if value is None or call.get("dim") is None:
            continue
        parts = call.axes_of(value)
        if len(parts) == 1:
            call.same(shape[call.integer("dim")], parts[0])
            continue
        for axis, part in zip(shape, parts, strict=True):
            if axis.size == part.size:
                call.same(axis, part)
            else:
                for end in (axis, part):
                    call.pin(end, "quantized in blocks along it")
    return [call.axes_of("input")]


_LINEAR = Operator(axes=_axes, zero=first_state)
register("onnx.QuantizeLinear microsoft.QuantizeLinear", replace(_LINEAR, saturates=True))
register("onnx.DequantizeLinear microsoft.DequantizeLinear", _LINEAR)


def _cast(call: Zeroing) -> State:
    """The zero of small integers is a zero point, which Cast takes for a number like others."""
    state = first_state(call)
    dtypes = {call.tensor("input").dtype, call.output.dtype}
    return state if dtypes.isdisjoint(_SMALL) else max(state, State.UNIFORM)


_SMALL = {"int2", "uint2", "int4", "uint4", "int8", "uint8", "int16", "uint16"}
"""Integers that stand for fractions, as far as is known."""

register(
    "onnx.Cast onnx.CastLike",
    Operator(
        axes=elementwise_axes, zero=_cast, uniform=True, moves=same_numbers, saturates=narrows
    ),
)
