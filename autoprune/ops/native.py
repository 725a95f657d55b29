"""Normalizations as decomposed programs spell them: statistics come out beside the result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from autoprune.ir.axes import ONE
from autoprune.ops.normalization import BATCH_NORM, GROUP_NORM, LAYER_NORM
from autoprune.ops.pinning import fixed_shape, pin_dims
from autoprune.ops.rule import Operator, never_zero, register
from autoprune.ops.views import Call, Resized, Shape, Sizing, State, Typing, Zeroing

_REASON = "a statistic"


def _batch_axes(call: Typing) -> list[Shape]:
    """One number for each channel, or none in inference."""
    (shape,) = BATCH_NORM.axes(call)
    channels = shape[1]
    return [
        shape,
        *(
            (channels,) if v.shape == (channels.size,) else fixed_shape(call, v.shape, _REASON)
            for v in call.node.outputs[1:]
        ),
    ]


def _layer_axes(call: Typing) -> list[Shape]:
    """One number for each row that is normalized."""
    (shape,) = LAYER_NORM.axes(call)
    count = len(call.integers("normalized_shape"))
    if call.node.outputs[1:]:
        pin_dims(call, shape, range(-count, 0), "mean and variance of it come out too")
    rank = len(shape) - len(call.integers("normalized_shape"))
    rows = tuple(axis if i < rank else ONE for i, axis in enumerate(shape))
    return [shape, *(rows for _ in call.node.outputs[1:])]


def _group_axes(call: Typing) -> list[Shape]:
    (shape,) = GROUP_NORM.axes(call)
    pin_dims(call, shape, range(1, 2), "mean and variance of parts of it come out too")
    groups = call.fixed(call.node.outputs[1].shape[1], _REASON)
    return [shape, *((shape[0], groups) for _ in call.node.outputs[1:])]


def _group_resize(call: Sizing) -> Resized:
    return Resized({"N": call.size(call.axes_of("input")[0])})


def _with_statistics(operator: Operator) -> Callable[[Zeroing], State]:
    """Of zeros, deviations are no zeros."""
    return lambda call: max(State.CONSTANT, operator.zero(call))


register(
    "aten.native_batch_norm aten._native_batch_norm_legit "
    "aten._native_batch_norm_legit_no_training aten._batch_norm_with_update",
    replace(BATCH_NORM, axes=_batch_axes, homogeneous=None),
)
register(
    "aten.native_layer_norm",
    replace(LAYER_NORM, axes=_layer_axes, zero=_with_statistics(LAYER_NORM), homogeneous=None),
)
register(
    "aten.native_group_norm",
    replace(
        GROUP_NORM,
        axes=_group_axes,
        zero=_with_statistics(GROUP_NORM),
        resize=_group_resize,
        homogeneous=None,
    ),
)


def _fused_axes(call: Typing) -> list[Shape]:
    """The mean square comes out too, and cannot be rescaled with the result."""
    shape = call.axes_of("input")
    count = len(call.integers("normalized_shape"))
    pin_dims(call, shape, range(-count, 0), "mean square is taken over it")
    weight = call.value("weight")
    if weight is not None:
        call.align(shape[-count:], call.axes_of(weight))
    rows = tuple(axis if i < len(shape) - count else ONE for i, axis in enumerate(shape))
    return [shape, *(rows for _ in call.node.outputs[1:])]


def _normalized(call: Call) -> Shape:
    return call.axes_of("input")[-len(call.integers("normalized_shape")) :]


register(
    "aten._fused_rms_norm",
    Operator(
        axes=_fused_axes,
        zero=never_zero,
        normalizes=_normalized,
    ),
)
