"""Simulated quantization: values are rounded to the nearest of a few."""

from __future__ import annotations

from dataclasses import replace

from autoprune.ir.graph import Value
from autoprune.ir.group import Guarantee
from autoprune.ops.elementwise import elementwise_axes, makes_constant
from autoprune.ops.rule import Operator, first_state, register
from autoprune.ops.views import Shape, State, Typing, Zeroing

_OBSERVED = (
    "its observer takes ranges that depend on what is removed: call "
    "model.apply(torch.ao.quantization.disable_observer) first"
)


def _per_tensor_zero(call: Zeroing) -> State:
    """Zero stays zero if it is among the numbers there are.

    Torch refuses zero points by which it is not, but not if they are tensors.
    """
    point = call.get("zero_point")
    if isinstance(point, Value):
        point = point.hint
    low, high = call.integer("quant_min"), call.integer("quant_max")
    in_range = isinstance(point, int) and low <= point <= high
    return first_state(call) if in_range else makes_constant(call)


def _per_channel_axes(call: Typing) -> list[Shape]:
    """Scales and zero points go with the positions of one axis."""
    shape = call.axes_of(call.tensors[0])
    for name in ("scale", "zero_point"):
        call.same(shape[call.integer("axis")], call.axes_of(name)[0])
    return [shape]


register(
    "aten.fake_quantize_per_tensor_affine",
    Operator(axes=elementwise_axes, zero=_per_tensor_zero, uniform=True, saturates=True),
)


def _observed_axes(call: Typing) -> list[Shape]:
    """Ranges, scales and zero points are of one axis, if they are not of the whole tensor."""
    shape = call.axes_of(call.tensors[0])
    if call.get("per_row_fake_quant") is True and shape:
        axis = shape[call.integer("ch_axis")]
        for name in ("running_min", "running_max", "scale", "zero_point"):
            of_channels = call.axes_of(name)
            # Before anything was observed they are of another size.
            if of_channels and of_channels[0].size == axis.size:
                call.same(axis, of_channels[0])
    return [shape]


def _observed_zero(call: Zeroing) -> State:
    """Ranges that are observed hold zero; a channel of its own range depends on no other."""
    per_channel = call.get("per_row_fake_quant") is True
    shape = call.axes_of(call.tensors[0])
    if call.tensor("observer_on").hint == 0:
        return first_state(call) if per_channel else _per_tensor_zero(call)
    own = shape[call.integer("ch_axis")] if per_channel else None
    if any(call.within(axis) for axis in shape if axis is not own):
        call.report(Guarantee.APPROXIMATE, _OBSERVED)
    return first_state(call)


def _quantized_axes(call: Typing) -> list[Shape]:
    """Scales and zero points go with the positions of one axis, or are of the whole tensor."""
    shape = call.axes_of("input")
    for value in call.tensors[1:]:
        for axis in call.axes_of(value):
            if axis.size != 1 and call.get("axis") is not None:
                call.same(shape[call.integer("axis")], axis)
    return [shape]


def _quantized_zero(call: Zeroing) -> State:
    """The integer that zero becomes is the zero point, and the other way round."""
    points = next(call.get(n) for n in ("zero_point", "zero_points") if call.get(n) is not None)
    point = points.hint if isinstance(points, Value) else points
    return first_state(call) if point == 0 else makes_constant(call)


register(
    "aten.fused_moving_avg_obs_fake_quant",
    Operator(axes=_observed_axes, zero=_observed_zero, saturates=True),
)
for _scales, _uniform in (("tensor", True), ("channel", False)):
    _back = Operator(axes=_quantized_axes, zero=_quantized_zero, uniform=_uniform)
    register(f"quantized_decomposed.quantize_per_{_scales}", replace(_back, saturates=True))
    register(f"quantized_decomposed.dequantize_per_{_scales}", _back)
register(
    "aten.fake_quantize_per_channel_affine",
    Operator(axes=_per_channel_axes, zero=first_state, saturates=True),
)
