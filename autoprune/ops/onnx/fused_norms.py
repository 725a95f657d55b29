"""Norms that ONNX Runtime's optimizer has joined with the sums, or lookups, before them.

s = input + skip + added;  norm(s) * weight + bias,  and s itself as a further output
"""

from __future__ import annotations

from math import sqrt

from autoprune.ir.axes import Axis
from autoprune.ir.graph import Value
from autoprune.ir.group import Guarantee
from autoprune.ops.elementwise import broadcast
from autoprune.ops.normalization import share_of
from autoprune.ops.pinning import fixed_shape, pin_dims
from autoprune.ops.rule import Operator, any_state, product, register
from autoprune.ops.views import Call, Resized, Shape, Sizing, State, Typing, Zeroing

_SUM = 3
"""Which output the sum is."""


def _summands(call: Call) -> list[Value]:
    values = (call.value(name) for name in ("input", "skip", "added"))
    return [value for value in values if value is not None]


def _skip_axes(call: Typing) -> list[Shape]:
    shape = broadcast(call, [call.axes_of(value) for value in _summands(call)])
    for name in ("weight", "bias"):
        if call.value(name) is not None:
            call.same(shape[-1], call.axes_of(name)[0])
    outputs: list[Shape] = []
    for value, position in zip(call.node.outputs, call.integers("outputs"), strict=True):
        if position in (0, _SUM):
            outputs.append(shape)
            continue
        pin_dims(call, shape, range(len(shape)), "mean and variance of it come out too")
        outputs.append(fixed_shape(call, value.shape, "a statistic"))
    return outputs


def _normalized(call: Call) -> tuple[Axis, ...]:
    return call.axes_of(call.output)[-1:]


def _skip_zero(call: Zeroing) -> State:
    weight, bias = call.value("weight"), call.value("bias")
    carried = [call.state(v) for v in _summands(call) if call.carries(v)]
    total = max(carried, default=State.ANY)
    state = total
    if call.within(_normalized(call)[0]):
        centred = "bias" in call.node.arguments or "Simplified" not in call.node.op
        what = "mean and variance" if centred else "mean square"
        if total is State.ZERO:
            call.report(Guarantee.COMPENSATED, f"{what} is rescaled")
        else:
            call.report(Guarantee.APPROXIMATE, f"{what} is taken over it")
        state = State.ANY if centred else total
    if weight is not None:
        state = product((state, call.state(weight)))
    if bias is not None:
        state = max(state, call.state(bias))
    return max(state, total) if _SUM in call.integers("outputs") else state


def _skip_resize(call: Sizing) -> Resized:
    return Resized(share=share_of(call, _normalized(call)))


def _skip_rms_resize(call: Sizing) -> Resized:
    """With a share s kept, `rsqrt(mean + eps) = s^-1/2 rsqrt(mean' + eps / s)`."""
    share, eps = share_of(call, _normalized(call)), call.get("eps")
    if share == 1 or not isinstance(eps, int | float):
        return Resized()
    return Resized({"eps": eps / share}, scale=1 / sqrt(share))


for _name, _resize in (
    ("microsoft.SkipLayerNormalization", _skip_resize),
    ("microsoft.SkipSimplifiedLayerNormalization", _skip_rms_resize),
):
    register(
        _name, Operator(axes=_skip_axes, zero=_skip_zero, resize=_resize, normalizes=_normalized)
    )


def _embed_axes(call: Typing) -> list[Shape]:
    """`n l -> n l c`, from tables of words, positions and segments; the norm is over c."""
    ids = call.axes_of("ids")
    segments = call.value("segments")
    if segments is not None:
        call.align(ids, call.axes_of(segments))
    channels = call.axes_of("weight")[0]
    call.pin(channels, "normalized over it where it is looked up")
    call.same(channels, call.axes_of("bias")[0])
    for name in ("words", "places", "types"):
        if call.value(name) is not None:
            table = call.axes_of(name)
            call.pin(table[0], "looked up by index")
            call.same(table[1], channels)
    for name in ("mask", "positions"):
        value = call.value(name)
        if value is not None:
            pin_dims(call, (*call.axes_of(value), *ids), range(len(value.shape) + 2), "positions")
    pin_dims(call, ids, (1,), "its position counts")
    shapes: list[Shape] = []
    for value in call.node.outputs:
        if len(value.shape) == 3:
            shapes.append((*ids, channels))
        else:
            call.pin(ids[0], "how long each sequence is comes out too")
            shapes.append(fixed_shape(call, value.shape, "how long each sequence is"))
    return shapes


register("microsoft.EmbedLayerNormalization", Operator(axes=_embed_axes, zero=any_state))
