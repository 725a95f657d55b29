"""QuantizeLinear and DequantizeLinear: axes pass through, scales and zero points go with theirs.

At removed positions an integer counts as zero if it stands for zero, that is if it is the zero
point.
"""

from __future__ import annotations

from autoprune.ops.rule import Operator, Shape, Typing, first_state, no_axes, register


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


register(
    "onnx.QuantizeLinear onnx.DequantizeLinear microsoft.QuantizeLinear microsoft.DequantizeLinear",
    Operator(axes=_axes, zero=first_state, mixes=no_axes),
)
