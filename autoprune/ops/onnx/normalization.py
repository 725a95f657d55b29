"""Softmax over one or several dimensions, and normalization by neighbours or by a norm."""

from __future__ import annotations

from autoprune.ops.rule import (
    Operator,
    Shape,
    State,
    Typing,
    Zeroing,
    first_state,
    no_axes,
    register,
)


def _softmax_axes(call: Typing) -> list[Shape]:
    shape = call.axes_of("input")
    for dim in call.integers("dims"):
        call.pin(shape[dim], "softmax over it")
    return [shape]


def _softmax_zero(call: Zeroing) -> State:
    return max(State.CONSTANT, first_state(call))


def _along_axes(call: Typing) -> list[Shape]:
    shape = call.axes_of("input")
    call.pin(shape[call.integer("dim")], "normalized along it")
    return [shape]


register(
    "onnx.Softmax onnx.LogSoftmax onnx.Hardmax",
    Operator(axes=_softmax_axes, zero=_softmax_zero, mixes=no_axes),
)
register("onnx.LRN", Operator(axes=_along_axes, zero=first_state, mixes=no_axes))
# Zeros of a whole row are divided by their norm, zero.
register(
    "onnx.LpNormalization",
    Operator(axes=_along_axes, zero=lambda call: State.UNDEFINED, mixes=no_axes),
)
