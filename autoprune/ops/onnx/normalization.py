"""Softmax over several dimensions; normalization of channels, by neighbours, or by a norm."""

from __future__ import annotations

from autoprune.ops.normalization import affine_state, centred, share_of
from autoprune.ops.pinning import mixing, one_dim
from autoprune.ops.rule import Operator, first_state, never_zero, register
from autoprune.ops.views import Call, Resized, Shape, Sizing, State, Typing, Zeroing


def _dims(call: Call) -> tuple[int, ...]:
    return call.integers("dims")


def _instance_norm_axes(call: Typing) -> list[Shape]:
    for name in ("weight", "bias"):
        call.same(call.axes_of("input")[1], call.axes_of(name)[0])
    return [call.axes_of("input")]


def _space(call: Call) -> Shape:
    return call.axes_of("input")[2:]


def _instance_norm_zero(call: Zeroing) -> State:
    """Exporters write group normalization this way, with the width of a group among the space.

    Mean and variance over zeros that are left out can be had from the rest.
    """
    state = first_state(call)
    if any(call.within(axis) for axis in _space(call)):
        return centred(call, state)
    return affine_state(call, state)


def _instance_norm_resize(call: Sizing) -> Resized:
    return Resized(share=share_of(call, _space(call)))


register(
    "onnx.InstanceNormalization",
    Operator(
        axes=_instance_norm_axes,
        zero=_instance_norm_zero,
        resize=_instance_norm_resize,
        normalizes=_space,
    ),
)
register(
    "onnx.Softmax onnx.LogSoftmax onnx.Hardmax microsoft.QLinearSoftmax",
    mixing(_dims, "softmax over it", never_zero, saturates=True),
)


def _undefined(call: Zeroing) -> State:
    """Zeros of a whole row are divided by their norm or deviation, zero."""
    return State.UNDEFINED


register("onnx.MeanVarianceNormalization", mixing(_dims, "normalized over it", _undefined))
register("onnx.LRN", mixing(one_dim, "normalized along it", first_state))
register("onnx.LpNormalization", mixing(one_dim, "normalized along it", _undefined))
