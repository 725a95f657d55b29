"""Operators whose axes are never cut, each with the reason."""

from __future__ import annotations

from collections.abc import Callable

from autoprune.ops.rule import Operator, Shape, State, Typing, no_axes, register

_REASONS = {
    "read by a subgraph": "If Loop Scan SequenceMap",
    "multiplied as integers, with zero points that depend on the range of all positions": (
        "QLinearConv QLinearMatMul ConvInteger MatMulInteger DynamicQuantizeLinear"
    ),
    "its non-zero positions are searched": "NonZero Unique Compress",
    "boxes are chosen by comparing them": "NonMaxSuppression RoiAlign MaxRoiPool",
    "transformed along it": "DFT STFT MelWeightMatrix",
}


def _pinning(reason: str) -> Callable[[Typing], list[Shape]]:
    def axes(call: Typing) -> list[Shape]:
        for value in call.tensors:
            for axis in call.axes_of(value):
                call.pin(axis, reason)
        return [tuple(call.fixed(n, reason) for n in v.shape) for v in call.node.outputs]

    return axes


for _reason, _names in _REASONS.items():
    register(
        " ".join(f"onnx.{name}" for name in _names.split()),
        Operator(axes=_pinning(_reason), zero=lambda call: State.ANY, mixes=no_axes),
    )
