"""Batch, layer, group, instance and RMS normalization.

Normalizing over an axis mixes its units through the statistics, so cutting that axis changes the
function, except for the mean square: it only has to be rescaled by the share of units kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod, sqrt

from autoprune.ir import axes as ax
from autoprune.ir.axes import Axis
from autoprune.ir.contraction import Term
from autoprune.ir.group import Guarantee
from autoprune.ops.rule import Operator, Terms, product, register
from autoprune.ops.views import Call, Resized, Shape, Sizing, State, Typing, Zeroing

_PER_CHANNEL = ("weight", "bias", "running_mean", "running_var")


def affine_state(call: Zeroing, normalized: State) -> State:
    """State of `normalized * weight + bias`."""
    weight, bias = call.value("weight"), call.value("bias")
    state = normalized
    if weight is not None and state is not State.ZERO:
        state = product((state, call.state(weight)))
    return state if bias is None else max(state, call.state(bias))


def _affine_terms(call: Call) -> Terms:
    """The gain multiplies all, the bias is added; what is normalized passes no factor on."""
    weight, bias = call.value("weight"), call.value("bias")
    normalized: Term = {} if weight is None else {weight: 1.0}
    return (normalized,) if bias is None else (normalized, {bias: 1.0})


def _divided(call: Zeroing, state: State) -> State:
    """State of zeros divided by their deviation, which `eps` keeps from being zero."""
    eps = call.get("eps", _machine_epsilon(call).get("eps", 0.0))
    defined = not isinstance(eps, int | float) or eps > 0
    return state if defined or state > State.UNIFORM else State.UNDEFINED


def _batch_norm_axes(call: Typing) -> list[Shape]:
    """`n c ...`, with a number per channel; an empty batch may lack the channels."""
    shape = call.axes_of("input")
    for value in map(call.value, _PER_CHANNEL):
        if value is not None and len(shape) > 1:
            call.same(shape[1], call.axes_of(value)[0])
    return [shape]


def _estimates(call: Call) -> bool:
    """Whether the statistics are those of the batch."""
    updates = call.get("training") is True or "with_update" in call.node.op
    return updates or call.value("running_mean") is None


def _batch_normalized(call: Call) -> tuple[Axis, ...]:
    shape = call.axes_of("input")
    return (*shape[:1], *shape[2:]) if _estimates(call) else ()


def _batch_norm_zero(call: Zeroing) -> State:
    """In inference a channel of zeros becomes a constant, unless weight and bias are zero.

    Statistics of the batch are taken over every axis but the channels.
    """
    x = call.tensor("input")
    if _estimates(call) and any(call.carries(x, d) for d in range(len(x.shape)) if d != 1):
        call.report(Guarantee.APPROXIMATE, "mean and variance are taken over it")
        return State.ANY
    state = call.state(x)
    return affine_state(call, max(State.CONSTANT, _divided(call, state)))


def _per_channel_resize(call: Sizing) -> Resized:
    """No argument says the number of channels, but layers without weights keep it themselves."""
    for axis in call.axes_of("input")[1:2]:
        call.size(axis)
    return Resized()


def _instance_norm_zero(call: Zeroing) -> State:
    """By its own statistics a channel of zeros stays zero; by running ones it is a constant."""
    state = call.state(call.tensor("input"))
    if call.get("use_input_stats") is True:
        return affine_state(call, _divided(call, state))
    return affine_state(call, max(state, State.CONSTANT))


def _instance_norm_axes(call: Typing) -> list[Shape]:
    for axis in call.axes_of("input")[2:]:
        call.pin(axis, "normalized over it")
    return _batch_norm_axes(call)


BATCH_NORM = register(
    "aten.batch_norm",
    Operator(
        axes=_batch_norm_axes,
        zero=_batch_norm_zero,
        resize=_per_channel_resize,
        normalizes=_batch_normalized,
        homogeneous=_affine_terms,
    ),
)
register(
    "aten.instance_norm",
    Operator(
        axes=_instance_norm_axes,
        zero=_instance_norm_zero,
        resize=_per_channel_resize,
        homogeneous=_affine_terms,
    ),
)


def _normalized(call: Call) -> tuple[Axis, ...]:
    return call.axes_of("input")[-len(call.integers("normalized_shape")) :]


def _layer_norm_axes(call: Typing) -> list[Shape]:
    normalized = _normalized(call)
    for value in (call.value("weight"), call.value("bias")):
        if value is not None:
            call.align(normalized, call.axes_of(value))
    return [call.axes_of("input")]


def _layer_norm_zero(call: Zeroing) -> State:
    if any(call.within(axis) for axis in _normalized(call)):
        return affine_state(call, centred(call, call.state(call.tensor("input"))))
    return affine_state(call, _divided(call, call.state(call.tensor("input"))))


def centred(call: Zeroing, state: State) -> State:
    """Mean and variance over zeros that are left out can be had from the rest."""
    if state is State.ZERO:
        call.report(Guarantee.COMPENSATED, "mean and variance are rescaled")
    else:
        call.report(Guarantee.APPROXIMATE, "mean and variance are taken over it")
    return State.ANY


def _layer_norm_resize(call: Sizing) -> Resized:
    axes = _normalized(call)
    sizes = tuple(call.size(a) for a in axes)
    return Resized({"normalized_shape": sizes}, share=share_of(call, axes))


def share_of(call: Sizing, axes: Sequence[Axis]) -> float:
    """How much of the positions of some axes together stays."""
    return prod(call.size(a) for a in axes) / prod(a.size for a in axes)


LAYER_NORM = register(
    "aten.layer_norm",
    Operator(
        axes=_layer_norm_axes,
        zero=_layer_norm_zero,
        resize=_layer_norm_resize,
        normalizes=_normalized,
        homogeneous=_affine_terms,
    ),
)


def _rms_norm_zero(call: Zeroing) -> State:
    state = call.state(call.tensor("input"))
    if any(call.within(axis) for axis in _normalized(call)):
        if state is State.ZERO:
            call.report(Guarantee.COMPENSATED, "mean square is rescaled")
        else:
            call.report(Guarantee.APPROXIMATE, "mean square is taken over it")
        return affine_state(call, state)
    return affine_state(call, _divided(call, state))


def _rms_norm_resize(call: Sizing) -> Resized:
    """Keep the mean over all units, of which the removed ones are zero.

    With a share `s` kept, `mean = s mean'`, where `mean'` is over the kept units, and so
    `rsqrt(mean + eps) = s^-1/2 rsqrt(mean' + eps / s)`.
    """
    axes = _normalized(call)
    kept = share_of(call, axes)
    if kept == 1:
        return Resized()
    eps = call.get("eps", _machine_epsilon(call).get("eps", 0.0))
    if not isinstance(eps, int | float):
        return Resized()
    return Resized(
        {"normalized_shape": tuple(call.size(a) for a in axes), "eps": eps / kept},
        scale=1 / sqrt(kept),
    )


_MACHINE_EPSILON = {
    "float32": 2.0**-23,
    "float64": 2.0**-52,
    "float16": 2.0**-10,
    "bfloat16": 2.0**-7,
}


def _machine_epsilon(call: Call) -> Mapping[str, float]:
    """What torch uses where `eps` is not given: the machine epsilon of the dtype."""
    eps = _MACHINE_EPSILON.get(call.output.dtype)
    return {} if eps is None else {"eps": eps}


register(
    "aten.rms_norm",
    Operator(
        axes=_layer_norm_axes,
        zero=_rms_norm_zero,
        resize=_rms_norm_resize,
        normalizes=_normalized,
        homogeneous=_affine_terms,
        implied=_machine_epsilon,
    ),
)


def _groups(call: Call) -> int:
    return call.integer("num_groups", call.integer("group", 1))


def _group_norm_axes(call: Typing) -> list[Shape]:
    """Channels are groups x width; whole groups may go, units of one group share statistics."""
    shape = call.axes_of("input")
    groups = _groups(call)
    call.axes.factor(shape[1], (groups, shape[1].size // groups))
    for name in ("weight", "bias"):
        if call.value(name) is not None:
            call.same(shape[1], call.axes_of(name)[0])
    for axis in shape[2:]:
        call.pin(axis, "normalized over it")
    return [call.axes_of("input")]


def _group_norm_zero(call: Zeroing) -> State:
    x = call.tensor("input")
    state = _divided(call, call.state(x))
    if not call.carries(x, 1):
        return affine_state(call, state)
    channels = call.axes_of(x)[1]
    _, width = ax.outer_and_inner(channels, channels.size // _groups(call))
    return affine_state(
        call, centred(call, call.state(call.tensor("input"))) if call.within(width) else state
    )


def _within_groups(call: Call) -> Sequence[Axis]:
    channels = call.axes_of("input")[1]
    try:
        return (ax.outer_and_inner(channels, channels.size // _groups(call))[1],)
    except ValueError:  # a pinned mixture
        return ()


def _group_norm_resize(call: Sizing) -> Resized:
    channels = call.axes_of("input")[1]
    if call.size(channels) == channels.size:
        return Resized()
    outer, width = ax.outer_and_inner(channels, channels.size // _groups(call))
    share = share_of(call, (width,))
    if "num_groups" in call.node.arguments:
        return Resized({"num_groups": call.size(outer)}, share=share)
    return Resized({"group": call.size(outer), "C": call.size(channels)}, share=share)


GROUP_NORM = register(
    "aten.group_norm",
    Operator(
        axes=_group_norm_axes,
        zero=_group_norm_zero,
        resize=_group_norm_resize,
        homogeneous=_affine_terms,
        normalizes=_within_groups,
    ),
)


def _weight_norm_axes(call: Typing) -> list[Shape]:
    """`g * v / ||v||`, the norm taken over every dimension but `dim`, or over all of them."""
    direction, gain = call.tensor("v"), call.tensor("g")
    shape = call.axes_of(direction)
    for a, b in _gained(call):
        if b.size != 1:
            call.same(a, b)
    return [shape] if len(call.node.outputs) == 1 else [shape, call.axes_of(gain)]


def _weight_normalized(call: Call) -> tuple[Axis, ...]:
    return tuple(direction for direction, gain in _gained(call) if gain.size == 1)


def _gained(call: Call) -> list[tuple[Axis, Axis]]:
    """Each axis of the direction with that of the gain, which is one number if all are normed."""
    direction, gain = call.axes_of("v"), call.axes_of("g")
    return list(zip(direction, gain or (ax.ONE,) * len(direction), strict=True))


def _weight_norm_zero(call: Zeroing) -> State:
    gain, direction = call.tensor("g"), call.tensor("v")
    if call.carries(gain):
        if call.state(gain) is State.ZERO and direction.name in call.owned:
            call.spare(direction)  # zero times any direction
            return State.ZERO
        call.report(Guarantee.APPROXIMATE, "a weight of norm zero has no direction")
        return State.ANY
    state = call.state(direction)
    if state is State.ZERO:
        call.report(Guarantee.MASKED, "a norm is taken over the weights that read it")
    else:
        call.report(Guarantee.APPROXIMATE, "a norm is taken over it")
    return state


register(
    "aten._weight_norm",
    Operator(
        axes=_weight_norm_axes,
        zero=_weight_norm_zero,
        normalizes=_weight_normalized,
        homogeneous=lambda call: ({call.tensor("g"): 1.0, call.tensor("v"): 0.0},),
    ),
)
