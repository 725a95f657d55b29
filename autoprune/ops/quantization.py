"""Simulated quantization: values are rounded to the nearest of a few."""

from __future__ import annotations

from autoprune.ops.elementwise import elementwise_axes, keeps_zero, makes_constant
from autoprune.ops.rule import Operator, Shape, State, Typing, Zeroing, no_axes, register


def _per_tensor_zero(call: Zeroing) -> State:
    """Torch refuses zero points by which zero is out of range, but not if they are tensors."""
    return keeps_zero(call) if isinstance(call.get("zero_point"), int) else makes_constant(call)


def _per_channel_axes(call: Typing) -> list[Shape]:
    """Scales and zero points go with the positions of one axis."""
    shape = call.axes_of(call.tensors[0])
    for name in ("scale", "zero_point"):
        call.same(shape[call.integer("axis")], call.axes_of(name)[0])
    return [shape]


register(
    "aten.fake_quantize_per_tensor_affine",
    Operator(axes=elementwise_axes, zero=_per_tensor_zero, mixes=no_axes, uniform=True),
)
register(
    "aten.fake_quantize_per_channel_affine",
    Operator(axes=_per_channel_axes, zero=keeps_zero, mixes=no_axes),
)
